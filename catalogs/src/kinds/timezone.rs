//! `[[timezone]]`: a node's local time.

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName};

/// The node's time zone: the link `/etc/localtime`, and `/etc/timezone`. The zone must be in the node's `tzdata`. Programs that run
/// take it up when they start: let it notify their services. Equal is where the link leads, from the root or from its folder, and the name. Nothing is removed
/// where it leaves the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a time zone")]
#[serde(deny_unknown_fields)]
pub struct TimezoneSpec {
    #[schemars(extend("format" = "time-zone"))]
    pub name: String,
}

impl TimezoneSpec {
    pub const LINK: &str = "/etc/localtime";
    pub const FILE: &str = "/etc/timezone";

    /// The zone's file, to which the link leads.
    pub fn zone(&self) -> String {
        format!("/usr/share/zoneinfo/{}", self.name)
    }
}

impl Kind for TimezoneSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(Self::LINK), Claim::path(Self::FILE)]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Named("package", "tzdata".to_owned())]
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(Self::LINK), Owned::one(Self::FILE)]
    }

    fn presence(&self) -> Presence {
        Presence::Present
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn faults(&self) -> Vec<Fault> {
        if self.name == "localtime" {
            // Debian's file of that name is a link to the one that would lead to it.
            let fault = Fault::new("name", "`localtime` is whichever zone the node has", "expected a zone");
            return vec![fault.help("as in \"Europe/Zurich\"; to leave it as it is, write no [[timezone]]")];
        }
        Vec::new()
    }
}
