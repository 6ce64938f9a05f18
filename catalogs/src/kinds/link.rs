//! `[[link]]`: a symbolic link.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Leads, Need, Owned, Place, Presence, SecretName};

/// A symbolic link. It is right when it leads where `target` says, letter by letter; what is there does not count,
/// and neither does the link's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a link")]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// On the node.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// Where it leads to: from `/`, or from the link's own folder. Nothing need be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// True lets it take the place of a file or an empty folder. Without it these are an error, and a folder with something in it
    /// always is; another link is led anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// True removes the link, and nothing that is no link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl Kind for LinkSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(&self.path)]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Above(self.path.clone())]
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

    fn place(&self) -> Option<Place<'_>> {
        // What is written by a path over the link comes after it.
        Some(Place { path: &self.path, holds: true })
    }

    fn leads(&self) -> Option<Leads<'_>> {
        let target = self.target.as_deref().filter(|_| !self.absent)?;
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
        for part in target.split('/') {
            match part {
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parts.retain(|part| !part.is_empty() && *part != ".");
        Some(Leads { path: &self.path, to: format!("/{}", parts.join("/")) })
    }

    fn faults(&self) -> Vec<Fault> {
        if self.path == "/" {
            return vec![Fault::new("path", "`/` is no link", "expected a path below it")];
        }
        match (&self.target, self.absent) {
            (None, true) => Vec::new(),
            (None, false) => {
                vec![Fault::new("path", format!("{} leads nowhere", self.path), "expected a `target`")]
            }
            (Some(_), true) => {
                vec![Fault::new(
                    "target",
                    format!("{} is absent and has `target`", self.path),
                    "expected one of the two",
                )]
            }
            (Some(target), false) if target.is_empty() || target.contains(['\0', '\n']) => {
                vec![Fault::new("target", format!("{} leads nowhere", self.path), "expected a path of one line")]
            }
            (Some(target), false) if *target == self.path => {
                vec![Fault::new("target", format!("{} leads to itself", self.path), "expected another path")]
            }
            (Some(_), false) => Vec::new(),
        }
    }
}
