//! The JSON Schemas of a site's files, for editors. They are the ones that `validate` checks against.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value as Json, json};

use crate::{
    kinds::{self, Spec},
    shape::schema_of,
    tables::{AppFile, RoleHead, SiteTable},
};

/// `muster.toml` merged with an environment.
pub(crate) static SITE: LazyLock<Json> = LazyLock::new(schema_of::<SiteTable>);
/// A file in `apps/`.
pub(crate) static APP_FILE: LazyLock<Json> = LazyLock::new(schema_of::<AppFile>);
/// `[app.NAME]`.
pub(crate) static APP: LazyLock<Json> = LazyLock::new(schema_of::<crate::apps::AppTable>);

/// A value whose keys are written in alphabetical order, whatever the map's own is.
pub(crate) struct Sorted<'a>(pub(crate) &'a Json);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Json::Object(map) => {
                let sorted: BTreeMap<&String, &Json> = map.iter().collect();
                let mut out = serializer.serialize_map(Some(sorted.len()))?;
                for (key, value) in sorted {
                    out.serialize_entry(key, &Sorted(value))?;
                }
                out.end()
            }
            Json::Array(all) => serializer.collect_seq(all.iter().map(Sorted)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => self.0.serialize(serializer),
        }
    }
}

/// Every schema by its file's name, as it is checked in.
pub fn files() -> BTreeMap<String, String> {
    let role = role();
    let mut environment = SITE.clone();
    without_required(&mut environment);
    [("muster", &*SITE), ("environment", &environment), ("role", &role), ("app", &*APP_FILE)]
        .into_iter()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            if name == "muster" {
                // The environment may give what is missing here.
                without_required(&mut schema);
            }
            let text = serde_json::to_string_pretty(&Sorted(&schema)).unwrap_or_default();
            (format!("{name}.schema.json"), text + "\n")
        })
        .collect()
}

/// A role: its own keys and a list for each kind.
fn role() -> Json {
    let mut role = schema_of::<RoleHead>();
    role["additionalProperties"] = json!(false);
    let mut definitions = role["$defs"].as_object().cloned().unwrap_or_default();
    for kind in Spec::KINDS {
        let mut schema = kinds::SCHEMAS[kind].clone();
        if let Some(map) = schema.as_object_mut() {
            map.remove("$schema");
            if let Some(Json::Object(own)) = map.remove("$defs") {
                definitions.extend(own);
            }
        }
        role["properties"][kind] = json!({ "type": "array", "items": schema });
    }
    role["$defs"] = definitions.into();
    role
}

fn without_required(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            map.remove("required");
            map.values_mut().for_each(without_required);
        }
        Json::Array(all) => all.iter_mut().for_each(without_required),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}
