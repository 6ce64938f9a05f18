//! `[[service]]`: a systemd unit.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Kind, Need, Owned, Presence, SecretName, Signal};

/// A systemd service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a service")]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The unit's name; `.service` may be left out.
    #[schemars(extend("format" = "unit"))]
    pub name: String,
    /// Starts at boot.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// Runs now. False stops it.
    #[serde(default = "super::yes")]
    pub running: bool,
    /// What a notification does.
    #[serde(default)]
    pub on_notify: OnNotify,
    /// What a restart or stop of it disturbs, and so whether it needs a turn.
    #[serde(default)]
    pub disrupts: Disrupts,
}

/// What a notification does to a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnNotify {
    #[default]
    Restart,
    Reload,
}

/// What a step disturbs; anything but nothing waits for a turn (one node at a time by default).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Disrupts {
    #[default]
    Nothing,
    /// This service only; one node of the pool at a time.
    Service,
    /// The node and the pods on it.
    Node,
}

impl ServiceSpec {
    /// The unit's whole name.
    pub fn whole_name(&self) -> String {
        if self.name.contains('.') { self.name.clone() } else { format!("{}.service", self.name) }
    }
}

impl Kind for ServiceSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("service", unit(&self.name))]
    }

    fn needs(&self) -> Vec<Need> {
        let unit = unit(&self.name);
        let mut needs = vec![
            Need::Unit(unit.to_owned()),
            Need::Within(format!("/etc/systemd/system/{unit}.service")),
            Need::Within(format!("/etc/systemd/system/{unit}.service.d")),
            Need::Within(format!("/etc/default/{unit}")),
        ];
        if unit == "kubelet" {
            // kubelet has no configuration before kubeadm wrote it, and restarts until then.
            needs.push(Need::Kind("cluster_member"));
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        Vec::new()
    }

    fn presence(&self) -> Presence {
        // A unit that neither runs nor starts is on its way out: it ends before its file or its package goes.
        Presence::absent_if(!self.running && !self.enabled)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Unit
    }

    fn signals(&self) -> Vec<Signal> {
        // Enabling shows in systemd's signals, too.
        vec![Signal::Unit(self.whole_name())]
    }
}

/// A unit's name without `.service`.
pub fn unit(name: &str) -> &str {
    name.strip_suffix(".service").unwrap_or(name)
}
