//! `[[hostname]]`: what a node calls itself.

use serde::{Deserialize, Serialize};

use super::{Claim, Kind, Need, Owned, Presence, SecretName, Signal};

/// The node's own name, now and after a boot (`/etc/hostname`). Not for members of a cluster, which are known there by theirs.
/// `/etc/hosts` is left alone, and nothing is removed where it leaves the site. Where cloud-init sets a name at each boot, this is put back after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a host name")]
#[serde(deny_unknown_fields)]
pub struct HostnameSpec {
    #[schemars(extend("format" = "host-name"))]
    pub name: String,
}

impl HostnameSpec {
    pub const FILE: &str = "/etc/hostname";
    pub const LIVE: &str = "/proc/sys/kernel/hostname";
}

/// Owned by whoever counts on the node's name to stay.
pub(super) fn claim() -> Claim {
    Claim::new("the host name", "of this node, by which a cluster knows it")
}

impl Kind for HostnameSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![claim(), Claim::path(Self::FILE)]
    }

    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(Self::FILE)]
    }

    fn presence(&self) -> Presence {
        Presence::Present
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path(Self::FILE.to_owned()), Signal::Path(Self::LIVE.to_owned())]
    }
}
