//! `[[block]]`: marked lines in a file that is somebody else's.

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName, content::Given};

/// Lines in a file that is not the site's as a whole, between `# BEGIN muster NAME` and `# END muster NAME`. The rest of the file
/// is kept to the byte, as are its owner, mode and access control list. Where the block is missing it goes to the end of the file;
/// where it stands, it stays. Equal are its lines and markers, to the byte. The file has to be there: what brings it belongs in `after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a block")]
#[serde(deny_unknown_fields)]
pub struct BlockSpec {
    /// Stands in the markers; one of its own for each block of a node.
    #[schemars(extend("format" = "file-name"))]
    pub name: String,
    /// The file, on the node.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// The lines between the markers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What a comment of the file begins with.
    #[serde(default = "comment")]
    #[schemars(extend("format" = "comment"))]
    pub comment: String,
    /// True removes the block with its markers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

fn comment() -> String {
    "#".to_owned()
}

/// Whether a line is the beginning or the end of a block, and of which one. Whatever the comment sign, so that a change of
/// it finds the block that is there.
pub fn marker(line: &str) -> Option<(Edge, &str)> {
    let line = line.trim();
    [(Edge::Begin, " BEGIN muster "), (Edge::End, " END muster ")].into_iter().find_map(|(edge, words)| {
        let (sign, name) = line.split_once(words)?;
        (!sign.is_empty() && !sign.contains(|c: char| c.is_alphanumeric() || c.is_whitespace())).then_some((edge, name))
    })
}

/// The first or the last line of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Begin,
    End,
}

impl BlockSpec {
    /// The block with its markers, each line ended.
    pub fn text(&self) -> String {
        let content = self.content.as_deref().unwrap_or_default();
        let end = if content.is_empty() || content.ends_with('\n') { "" } else { "\n" };
        let Self { comment, name, .. } = self;
        format!("{comment} BEGIN muster {name}\n{content}{end}{comment} END muster {name}\n")
    }
}

impl Kind for BlockSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("block", &self.name)]
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

    fn faults(&self) -> Vec<Fault> {
        let given = Given {
            subject: format!("the block {}", self.name),
            named: "name",
            keys: &[("content", self.content.is_some())],
            absent: self.absent,
        };
        let mut faults = given.faults(|| {
            let lines = self.content.as_deref().unwrap_or_default().lines();
            let marker = lines.into_iter().find(|line| marker(line).is_some());
            let fault = marker.map(|line| {
                let message = format!("the block {} holds a marker of a block", self.name);
                Fault::new("content", message, format!("`{}` is how muster knows where a block ends", line.trim()))
            });
            fault.into_iter().collect()
        });
        faults.extend(super::directory::no_file_at(&self.path));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_whole_lines_with_any_sign() {
        for (line, found) in [
            ("# BEGIN muster a", Some((Edge::Begin, "a"))),
            ("  // END muster a-b.c \r", Some((Edge::End, "a-b.c"))),
            ("\" BEGIN muster a", Some((Edge::Begin, "a"))),
            ("# BEGIN muster", None),
            ("echo '# BEGIN muster a'", None),
            ("# see # BEGIN muster a", None),
            ("BEGIN muster a", None),
            ("# BEGIN ANSIBLE MANAGED BLOCK", None),
        ] {
            assert_eq!(marker(line), found, "{line}");
        }
    }
}
