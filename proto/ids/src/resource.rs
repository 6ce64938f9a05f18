//! What a resource is called in `after`, `notify`, plans and reports: `file./etc/hosts`, `service.containerd`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A kind and a name within it. The kind is the table's name in TOML; the name is the kind's naming key
/// (a file's path, a package's name). Written `kind.name`; the name may itself hold dots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceId {
    kind: String,
    name: String,
}

impl ResourceId {
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), name: name.into() }
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.name)
    }
}

/// A text without `kind.name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no resource: write its kind, a dot and its name, as in `service.containerd`")]
pub struct InvalidResourceId(String);

impl FromStr for ResourceId {
    type Err = InvalidResourceId;
    fn from_str(text: &str) -> Result<Self, InvalidResourceId> {
        match text.split_once('.') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(Self::new(kind, name)),
            _ => Err(InvalidResourceId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ResourceId {
    type Error = InvalidResourceId;
    fn try_from(text: String) -> Result<Self, InvalidResourceId> {
        text.parse()
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> String {
        id.to_string()
    }
}

impl schemars::JsonSchema for ResourceId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ResourceId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z_]+\\..+$" })
    }
}
