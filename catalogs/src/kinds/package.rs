//! `[[package]]`: a Debian package, by apt.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Presence, SecretName, Signal};

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a package")]
#[serde(deny_unknown_fields)]
pub struct PackageSpec {
    #[schemars(extend("format" = "package"))]
    pub name: String,
    /// A version or a pattern with `*` at its end, as in `1.34.4-*`. Absent: any installed version will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "word"))]
    pub version: Option<String>,
    /// True marks it held, so that nothing else upgrades it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// True removes the package.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
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
        match &self.version {
            Some(version) if version.trim_end_matches('*').contains('*') => {
                vec![Fault::new(
                    "version",
                    format!("`{version}` has `*` before its end"),
                    "expected a version, or its beginning and `*`",
                )]
            }
            Some(_) if self.absent => vec![Fault::new("version", "an absent package has no version", "leave it out")],
            Some(_) | None => Vec::new(),
        }
    }
}
