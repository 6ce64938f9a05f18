//! `[[manifest]]`: Kubernetes objects, by server-side apply; what leaves the site is pruned.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Claim, Cost, Fault, Kind, Need, Owned, Presence, SecretName, Signal, Texts};

/// Objects that the cluster must hold, in a role of the control planes. Only the control-plane agent that holds the Lease applies them.
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

/// A text that is no set of objects.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("document {number} is no YAML")]
    Yaml {
        number: usize,
        #[source]
        source: serde_yaml_ng::Error,
    },
    #[error("document {number} is no Kubernetes object: it needs `apiVersion`, `kind` and `metadata.name`")]
    NoObject { number: usize },
}

/// Reads YAML documents; Lists are taken apart, empty documents left out.
pub fn documents(text: &str) -> Result<Vec<Value>, DocumentError> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let number = index + 1;
        let value = Value::deserialize(document).map_err(|source| DocumentError::Yaml { number, source })?;
        let items = match value {
            Value::Null => continue,
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => items,
                    Some(_) | None => return Err(DocumentError::NoObject { number }),
                }
            }
            value => vec![value],
        };
        for item in items {
            let whole = ["/apiVersion", "/kind", "/metadata/name"]
                .iter()
                .all(|key| item.pointer(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()));
            if !whole {
                return Err(DocumentError::NoObject { number });
            }
            objects.push(item);
        }
    }
    Ok(objects)
}

impl Kind for ManifestSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("manifest", &self.name)]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Kind("cluster_member")]
    }

    fn owns(&self) -> Vec<Owned> {
        Vec::new()
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        let named = |(index, name)| SecretName { name, key: "secrets", index: Some(index) };
        self.secrets.iter().map(String::as_str).enumerate().map(named).collect()
    }

    fn cost(&self) -> Cost {
        Cost::Call
    }

    fn signals(&self) -> Vec<Signal> {
        let text = self.content.clone().unwrap_or_default();
        if self.absent { Vec::new() } else { vec![Signal::Objects { set: self.name.clone(), text }] }
    }

    fn texts(&mut self) -> Option<Texts<'_>> {
        Some(Texts { content: &mut self.content, source: &mut self.source, template: &mut self.template, binary: None })
    }

    fn faults(&self) -> Vec<Fault> {
        let given = [
            ("content", self.content.is_some()),
            ("source", self.source.is_some()),
            ("template", self.template.is_some()),
        ];
        let given: Vec<&'static str> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        match (given.as_slice(), self.absent) {
            ([], true) => Vec::new(),
            ([_], false) => match documents(self.content.as_deref().unwrap_or_default()) {
                Ok(_) => Vec::new(),
                Err(error) => {
                    let message = format!("the manifest {}: {error}", self.name);
                    let label = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
                    vec![Fault::new("name", message, label)]
                }
            },
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
