//! `[[sysctl]]`: a kernel setting, now and after a reboot.

use serde::{Deserialize, Serialize};

/// A kernel setting, kept in `/etc/sysctl.d/90-muster-KEY.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SysctlSpec {
    /// As in `net.ipv4.ip_forward`.
    pub key: String,
    pub value: String,
}
