//! `[[file]]`: a regular file with exactly this content.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Place, Presence, SecretName, Texts, content::Given, owned};
use crate::Binary;

/// A regular file with exactly this content: one of `content`, `source`, `template` and `secret`.
///
/// Content, mode, owner and group count; its times do not. What is replaced keeps its access control list and attributes where they were root's or the
/// owner's doing; what goes is in the plan. A link or another thing in its place is replaced, a folder never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a file")]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// On the node.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// The text itself. A compiled catalog has no `source` and `template`: they are resolved by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What a `source` that is no text holds, in a compiled catalog alone: it stands in no site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub content_base64: Option<Binary>,
    /// A file of the site that is copied as it is, text or not, relative to the role's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub source: Option<String>,
    /// A template of the site (Jinja), relative to the role's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub template: Option<String>,
    /// The content is this secret; it is fetched by a call of its own and never in the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "word"))]
    pub secret: Option<String>,
    /// Absent: "0644", and "0600" where the content is a secret, which nobody but owner and group may ever read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mode"))]
    pub mode: Option<String>,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub owner: String,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub group: String,
    /// True removes the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl FileSpec {
    /// What the file shall hold; nothing where that is a secret.
    pub fn bytes(&self) -> &[u8] {
        match (&self.content, &self.content_base64) {
            (Some(text), _) => text.as_bytes(),
            (None, Some(binary)) => &binary.0,
            (None, None) => &[],
        }
    }

    /// The mode that it gets, octal.
    pub fn mode(&self) -> &str {
        match &self.mode {
            Some(mode) => mode,
            None if self.secret.is_some() => "0600",
            None => "0644",
        }
    }

    /// A secret that everyone on the node may read or write.
    fn laid_open(&self) -> Option<Fault> {
        let others = self.secret.is_some() && !self.mode().ends_with('0');
        let message = || format!("{} is a secret, and everyone on the node gets at it", self.path);
        others.then(|| {
            Fault::new("mode", message(), "expected a mode that ends with 0")
                .help("give the file to the `owner` or the `group` that reads it: mode = \"0640\"")
        })
    }
}

impl Kind for FileSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(&self.path)]
    }

    fn needs(&self) -> Vec<Need> {
        owned(&self.path, &self.owner, &self.group)
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(&self.path)]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        self.secret.iter().map(|name| SecretName { name, key: "secret", index: None }).collect()
    }

    fn cost(&self) -> Cost {
        // A secret's value is asked for by a call of its own, and cached.
        if self.secret.is_some() { Cost::Reading } else { Cost::File }
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place { path: &self.path, holds: false })
    }

    fn texts(&mut self) -> Option<Texts<'_>> {
        Some(Texts {
            content: &mut self.content,
            source: &mut self.source,
            template: Some(&mut self.template),
            binary: Some(&mut self.content_base64),
        })
    }

    fn faults(&self) -> Vec<Fault> {
        if let Some(fault) = super::directory::no_file_at(&self.path) {
            return vec![fault];
        }
        let keys = [
            ("content", self.content.is_some()),
            ("source", self.source.is_some() || self.content_base64.is_some()),
            ("template", self.template.is_some()),
            ("secret", self.secret.is_some()),
        ];
        Given { subject: self.path.clone(), named: "path", keys: &keys, absent: self.absent }
            .faults(|| self.laid_open().into_iter().collect())
    }
}
