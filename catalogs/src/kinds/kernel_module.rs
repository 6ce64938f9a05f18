//! `[[kernel_module]]`: a module loaded now and at boot. A module built into the kernel counts as loaded.

use serde::{Deserialize, Serialize};

use super::{Claim, Kind, Need, Owned, Presence, SecretName};

/// A kernel module, kept in `/etc/modules-load.d/muster-NAME.conf`. It is right when it is loaded, or built into the kernel, and that file is
/// there. Its parameters (`/etc/modprobe.d`) are left alone, and none is ever unloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a kernel module")]
#[serde(deny_unknown_fields)]
pub struct KernelModuleSpec {
    #[schemars(extend("format" = "file-name"))]
    pub name: String,
    /// True removes the file that loads it at boot. A module that is loaded stays so until the next boot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl KernelModuleSpec {
    /// The file that loads it at boot.
    pub fn file(&self) -> String {
        format!("/etc/modules-load.d/muster-{}.conf", self.name)
    }
}

impl Kind for KernelModuleSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        // The kernel takes `-` for `_`.
        vec![Claim::new("kernel module", self.name.replace('-', "_")), Claim::path(self.file())]
    }

    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(self.file())]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }
}
