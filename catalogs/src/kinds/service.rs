//! `[[service]]`: a systemd unit.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Presence, SecretName, Signal};
use crate::unit;

/// A systemd unit, mostly a service. It runs when it stands: what ends within its first seconds, or what systemd starts
/// again and again, does not. A oneshot service that does not stay active is right once it succeeded since the boot; told by
/// another resource it runs again. `running = false` ends all of its processes, whether its unit file is still there or not.
/// Its unit file and drop-ins are left alone: these are files or a package's. A service that leaves the site runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a service")]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The unit's name as `systemctl` takes it: `.service` may be left out, an alias will do, an instance is `name@instance`.
    #[schemars(extend("format" = "unit"))]
    pub name: String,
    /// Starts at boot. Absent: true. Has to be written beside `running = false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Runs now. False stops it.
    #[serde(default = "super::yes")]
    pub running: bool,
    /// What a notification does. A unit that cannot reload is restarted instead, as disrupting as that is.
    #[serde(default)]
    pub on_notify: OnNotify,
    /// What a restart or stop of it disturbs, and so whether it needs a turn.
    #[serde(default)]
    pub disrupts: Disrupts,
    /// Takes away the mask (`systemctl mask`) of a unit that should run or start at boot. Without it that is an error: somebody
    /// masked it on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmask: bool,
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
        unit::whole(&self.name)
    }

    /// Starts at boot.
    pub fn enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

impl Kind for ServiceSpec {
    const ENDS_WITH_BOOT: bool = true;
    // A unit excludes another, a package's script stops one.
    const UNDONE_BY_OTHERS: bool = true;

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("service", unit::short(&self.name))]
    }

    fn needs(&self) -> Vec<Need> {
        let whole = self.whole_name();
        let base = unit::base(&whole);
        let mut needs = vec![Need::Unit(whole.clone()), Need::Within(format!("/etc/default/{base}"))];
        needs.extend(needs_files(&whole));
        match whole.rsplit_once('.') {
            // An init script, of which systemd makes a unit.
            Some((_, "service")) => needs.push(Need::Within(format!("/etc/init.d/{base}"))),
            // What it starts.
            Some((name, "timer" | "socket" | "path")) => needs.extend(needs_files(&format!("{name}.service"))),
            Some(_) | None => {}
        }
        if base == "kubelet" {
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
        Presence::absent_if(!self.running && !self.enabled())
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

    fn faults(&self) -> Vec<Fault> {
        let (name, mut faults) = (&self.name, Vec::new());
        if unit::is_template(&self.whole_name()) {
            let fault = Fault::new("name", format!("{name} is a template and no unit"), "expected an instance of it");
            faults.push(fault.help(format!("as in \"{}@one\"", unit::base(&self.whole_name()))));
        }
        if let Some((suffix, near)) = unit::misspelt(name) {
            let fault = Fault::new("name", format!("`.{suffix}` ends no unit's name"), format!("expected `.{near}`"));
            faults.push(fault.help(format!("where the service is really called so: \"{name}.service\"")));
        }
        if !self.running && self.enabled.is_none() {
            faults.push(
                Fault::new(
                    "running",
                    format!("{name} would be stopped now and start again at the next boot"),
                    "leaves open what happens at boot",
                )
                .help("add `enabled = false`; or `enabled = true`, if it should start at boot and be stopped later"),
            );
        }
        if self.unmask && self.presence() == Presence::Absent {
            let fault = Fault::new("unmask", format!("{name} neither runs nor starts at boot"), "a mask does no harm");
            faults.push(fault.help("take `unmask` away"));
        }
        faults
    }
}

fn needs_files(whole: &str) -> impl Iterator<Item = Need> {
    unit::files(whole).into_iter().flat_map(|file| [Need::Within(format!("{file}.d")), Need::Within(file)])
}
