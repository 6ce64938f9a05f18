//! `[[mount]]`: a mounted file system, now and after a reboot (a systemd mount unit's fstab line).

use serde::{Deserialize, Serialize};

use super::{Claim, Kind, Leads, Need, Owned, Place, Presence, SecretName, Signal};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a mount")]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// Where.
    #[schemars(extend("format" = "path"))]
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

impl Kind for MountSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("mount at", &self.path)]
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Above(self.path.clone()), Need::Named("directory", self.path.clone())];
        if self.source.starts_with('/') {
            needs.push(Need::Above(self.source.clone()));
            needs.push(Need::Named("directory", self.source.clone()));
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::tree(&self.path)]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path("/etc/fstab".to_owned()), Signal::Mounts]
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place { path: &self.path, holds: true })
    }

    fn leads(&self) -> Option<Leads<'_>> {
        let bound = self.options.iter().flat_map(|option| option.split(',')).any(|o| o == "bind" || o == "rbind");
        (bound && !self.absent).then_some(Leads { path: &self.path, to: &self.source })
    }
}
