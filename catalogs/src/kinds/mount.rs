//! `[[mount]]`: a mounted file system, now and after a reboot (a systemd mount unit's fstab line).

use serde::{Deserialize, Serialize};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// Where, absolute.
    pub path: String,
    /// What: a device, `UUID=…`, `tmpfs`, or a folder with the option `bind`.
    pub source: String,
    #[serde(default = "auto")]
    pub fstype: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

fn auto() -> String {
    "auto".to_owned()
}
