//! `[[package]]`: a Debian package, by apt.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Presence, SecretName, Signal};

/// A Debian package.
///
/// Equal is that it is installed, and its version as text, epoch included, where one is written. What is not written is left alone: its version,
/// its hold, what it depends on, configuration files that somebody changed. With `absent` it is removed and not purged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a package")]
#[serde(deny_unknown_fields)]
pub struct PackageSpec {
    #[schemars(extend("format" = "package"))]
    pub name: String,
    /// A version with its epoch, as in `1:2.0-1`, or a pattern with `*` at its end, as in `1.34.4-*`. `latest`: the newest that
    /// the node's package indexes have; these are then read anew once a day. Absent: any installed version will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "word"))]
    pub version: Option<String>,
    /// True marks it held, so that nothing else upgrades it; false takes the mark away. Absent: the mark is left as it is, also
    /// over a change of version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
    /// True removes the package and stops its services; its configuration stays. What depends on it goes only where that is
    /// written, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl PackageSpec {
    /// Asks for the newest version that the indexes have.
    pub fn latest(&self) -> bool {
        self.version.as_deref() == Some("latest")
    }
}

impl Kind for PackageSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("package", &self.name)]
    }

    fn needs(&self) -> Vec<Need> {
        // Preferences and configuration of apt and dpkg count before anything is installed.
        vec![Need::Kind("apt_source"), Need::Within("/etc/apt".to_owned()), Need::Within("/etc/dpkg".to_owned())]
    }

    fn owns(&self) -> Vec<Owned> {
        Vec::new()
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Package
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path("/var/lib/dpkg/status".to_owned())]
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(version) = &self.version {
            if self.absent {
                faults.push(Fault::new("version", "an absent package has no version", "leave it out"));
            } else if version.trim_end_matches('*').contains('*') {
                faults.push(Fault::new(
                    "version",
                    format!("`{version}` has `*` before its end"),
                    "expected a version, or its beginning and `*`",
                ));
            } else if !version.chars().all(|c| c.is_ascii_alphanumeric() || ".+-~:*".contains(c)) {
                faults.push(Fault::new(
                    "version",
                    format!("`{version}` is no version of a package"),
                    "expected one as `apt-cache policy` shows it, or its beginning and `*`",
                ));
            }
        }
        if self.absent && self.hold == Some(true) {
            faults.push(Fault::new("hold", "an absent package cannot be held", "leave it out"));
        }
        faults
    }
}
