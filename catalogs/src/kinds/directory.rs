//! `[[directory]]`: a folder with this owner and mode.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Place, Presence, SecretName, Signal, owned};

/// A folder. Parents are made as needed (`0755`, root) and belong to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a directory")]
#[serde(deny_unknown_fields)]
pub struct DirectorySpec {
    /// On the node.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    #[serde(default = "mode")]
    #[schemars(extend("format" = "mode"))]
    pub mode: String,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub owner: String,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub group: String,
    /// True removes what is in the folder and in no resource.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purge: bool,
    /// True removes the folder; it must be empty or `purge` be set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

fn mode() -> String {
    "0755".to_owned()
}

impl Kind for DirectorySpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(&self.path)]
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = owned(&self.path, &self.owner, &self.group);
        if !self.absent {
            // What is mounted there has a root folder of its own, which is then the folder.
            needs.push(Need::Named("mount", self.path.clone()));
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(&self.path)]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::File
    }

    fn signals(&self) -> Vec<Signal> {
        let mut signals = vec![Signal::Path(self.path.clone())];
        if self.purge && !self.absent {
            signals.push(Signal::Inside(self.path.clone()));
        }
        signals
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place { path: &self.path, holds: true })
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let system = [
            "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
            "/var", "/var/lib",
        ];
        if (self.purge || self.absent) && system.contains(&self.path.as_str()) {
            let key = if self.purge { "purge" } else { "absent" };
            faults.push(Fault::new(
                key,
                format!("`{key}` would empty {}", self.path),
                "the node needs what is in there",
            ));
        }
        faults
    }
}
