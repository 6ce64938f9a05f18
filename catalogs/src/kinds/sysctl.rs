//! `[[sysctl]]`: a kernel setting, now and after a reboot.

use serde::{Deserialize, Serialize};

use super::{Claim, Kind, Need};

/// A kernel setting, kept in `/etc/sysctl.d/90-muster-KEY.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a sysctl")]
#[serde(deny_unknown_fields)]
pub struct SysctlSpec {
    #[schemars(extend("format" = "sysctl"))]
    pub key: String,
    pub value: String,
}

impl Kind for SysctlSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("sysctl", &self.key), Claim::path(format!("/etc/sysctl.d/90-muster-{}.conf", self.key))]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Kind("kernel_module")]
    }
}
