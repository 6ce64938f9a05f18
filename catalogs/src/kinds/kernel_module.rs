//! `[[kernel_module]]`: a module loaded now and at boot. A module built into the kernel counts as loaded.

use serde::{Deserialize, Serialize};

use super::{Claim, Kind, Need};

/// A kernel module, kept in `/etc/modules-load.d/muster-NAME.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a kernel module")]
#[serde(deny_unknown_fields)]
pub struct KernelModuleSpec {
    #[schemars(extend("format" = "file-name"))]
    pub name: String,
}

impl Kind for KernelModuleSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::new("kernel module", &self.name),
            Claim::path(format!("/etc/modules-load.d/muster-{}.conf", self.name)),
        ]
    }

    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }
}
