//! `[[kernel_module]]`: a module loaded now and at boot. A module built into the kernel counts as loaded.

use serde::{Deserialize, Serialize};

/// A kernel module, kept in `/etc/modules-load.d/muster-NAME.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelModuleSpec {
    pub name: String,
}
