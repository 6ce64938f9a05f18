//! `[[manifest]]`: Kubernetes objects, by server-side apply; what leaves the site is pruned.

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need};

/// Objects that the cluster must hold. Only the control-plane agent that holds the Lease applies them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a manifest")]
#[serde(deny_unknown_fields)]
pub struct ManifestSpec {
    /// Names the set; objects that leave the set are pruned.
    #[schemars(extend("format" = "word"))]
    pub name: String,
    /// YAML documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file of the site, resolved to `content` when compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub source: Option<String>,
    /// A template of the site, resolved to `content` when compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub template: Option<String>,
    /// Secrets by name. A value `muster-secret:NAME` in the `data` of a Secret object stands for the Base64 of that
    /// secret, which the agent fetches by a call of its own just before it applies the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Deletes every object that was applied under this name. A set or an application that leaves the site is made absent
    /// by itself; this is for a set whose name is a template, or which a `when` leaves out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl ManifestSpec {
    /// The set that left the site: what was applied under its name is deleted.
    pub fn gone(name: &str) -> Self {
        Self { name: name.to_owned(), content: None, source: None, template: None, secrets: Vec::new(), absent: true }
    }
}

impl Kind for ManifestSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("manifest", &self.name)]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Kind("cluster_member")]
    }

    fn faults(&self) -> Vec<Fault> {
        let given = [
            ("content", self.content.is_some()),
            ("source", self.source.is_some()),
            ("template", self.template.is_some()),
        ];
        let given: Vec<&'static str> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        match (given.as_slice(), self.absent) {
            ([_], false) | ([], true) => Vec::new(),
            ([key, ..], true) => {
                let message = format!("the manifest {} is absent and has `{key}`", self.name);
                vec![Fault::new(key, message, "expected one of the two")]
            }
            ([], false) => vec![Fault::new(
                "name",
                format!("the manifest {} has no content", self.name),
                "expected one of: content, source, template",
            )],
            ([one, two, ..], false) => {
                vec![Fault::new(
                    two,
                    format!("the manifest {} has `{one}` and `{two}`", self.name),
                    "expected one of: content, source, template",
                )]
            }
        }
    }
}
