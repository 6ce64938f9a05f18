//! `[[sysctl]]`: a kernel setting, now and after a reboot.

use serde::{Deserialize, Serialize};

use super::{Claim, Kind, Need, Owned, Presence, SecretName, Signal};

/// A kernel setting, kept in `/etc/sysctl.d/90-muster-KEY.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a sysctl")]
#[serde(deny_unknown_fields)]
pub struct SysctlSpec {
    #[schemars(extend("format" = "sysctl"))]
    pub key: String,
    pub value: String,
}

impl SysctlSpec {
    /// The file that keeps it over a reboot. A slash, which stands for a dot in an interface's name, is written as a comma.
    pub fn file(&self) -> String {
        format!("/etc/sysctl.d/90-muster-{}.conf", self.key.replace('/', ","))
    }

    /// The live value's file below `/proc/sys`.
    pub fn live_file(&self) -> String {
        let turned = |character| match character {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        format!("/proc/sys/{}", self.key.chars().map(turned).collect::<String>())
    }
}

impl Kind for SysctlSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("sysctl", &self.key), Claim::path(self.file())]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Kind("kernel_module")]
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(self.file())]
    }

    fn presence(&self) -> Presence {
        Presence::Present
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path(self.file()), Signal::Path(self.live_file())]
    }
}
