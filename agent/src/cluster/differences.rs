//! What differs between a live object and the API server's answer to a dry run, so that defaults and other writers' fields
//! count as the API server counts them. Pure.

use std::collections::BTreeMap;

use muster_plan::text::unlike;
use serde_json::Value;

/// The most characters of a value.
const MOST_WIDTH: usize = 60;

/// What would change, field by field; of a Secret only the names of its keys.
pub fn of(live: &Value, dry: &Value) -> Vec<String> {
    const MOST: usize = 20;
    let mut lines = Vec::new();
    compare("", &comparable(live), &comparable(dry), live["kind"] == "Secret", &mut lines);
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// An object without what the API server keeps for itself.
pub fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(table) = object.as_object_mut() {
        table.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"] {
            metadata.remove(key);
        }
    }
    object
}

fn compare(path: &str, old: &Value, new: &Value, secret: bool, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                compare(
                    &at(key),
                    old.get(key).unwrap_or(&Value::Null),
                    new.get(key).unwrap_or(&Value::Null),
                    secret,
                    lines,
                );
            }
        }
        (Value::Array(old), Value::Array(new)) => arrays(path, old, new, secret, lines),
        (old, new) if secret => lines.push(match (old, new) {
            (Value::Null, _) => format!("+ {path}"),
            (_, Value::Null) => format!("- {path}"),
            _changed => format!("~ {path}"),
        }),
        (Value::Null, new) => lines.push(format!("+ {path} = {}", short(new))),
        (old, Value::Null) => lines.push(format!("- {path} = {}", short(old))),
        (old, new) => {
            let (old, new) = unlike(&text(old), &text(new), MOST_WIDTH);
            lines.push(format!("~ {path} {old} → {new}"));
        }
    }
}

/// Entries with names are compared by name, wherever they stand; others by their place, where those before and behind
/// that are equal do not count.
fn arrays(path: &str, old: &[Value], new: &[Value], secret: bool, lines: &mut Vec<String>) {
    if let (Some(old), Some(new)) = (named(old), named(new)) {
        let mut names: Vec<_> = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))).collect();
        names.sort();
        let before = lines.len();
        for name in names {
            let of = |entries: &BTreeMap<&str, &Value>| entries.get(name).map_or(Value::Null, |entry| (*entry).clone());
            compare(&format!("{path}[{name}]"), &of(&old), &of(&new), secret, lines);
        }
        if lines.len() == before {
            lines.push(format!("~ {path} is in another order"));
        }
        return;
    }
    let before = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[before..], &new[before..]);
    let behind = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old_rest[..old_rest.len() - behind], &new_rest[..new_rest.len() - behind]);
    for index in 0..old_rest.len().max(new_rest.len()) {
        let of = |rest: &[Value]| rest.get(index).cloned().unwrap_or(Value::Null);
        compare(&format!("{path}[{}]", before + index), &of(old_rest), &of(new_rest), secret, lines);
    }
}

/// The entries by name; none where one has no name, or another's.
fn named(entries: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    let all: BTreeMap<_, _> =
        entries.iter().map(|entry| Some((entry["name"].as_str()?, entry))).collect::<Option<_>>()?;
    (all.len() == entries.len()).then_some(all)
}

fn short(value: &Value) -> String {
    let text = text(value);
    if text.chars().count() <= MOST_WIDTH { text } else { text.chars().take(MOST_WIDTH).chain(['…']).collect() }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_name_fields() {
        let live = json!({"kind": "Deployment", "metadata": {"resourceVersion": "1", "labels": {"a": "b"}}, "spec": {"replicas": 2, "list": [1, 2]}, "status": {"x": 1}});
        let dry = json!({"kind": "Deployment", "metadata": {"resourceVersion": "2"}, "spec": {"replicas": 3, "list": [1, 3], "new": "x"}});
        assert_eq!(
            of(&live, &dry),
            ["- metadata.labels = {\"a\":\"b\"}", "~ spec.list[1] 2 → 3", "+ spec.new = x", "~ spec.replicas 2 → 3"]
        );
        assert!(of(&live, &live).is_empty());
    }

    #[test]
    fn of_long_values_what_differs_is_shown() {
        let env = |entries: &[(&str, &str)]| {
            let entries: Vec<Value> =
                entries.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            json!({"spec": {"env": entries}})
        };
        let long = "x".repeat(200);
        let old = env(&[("A", "1"), ("B", "2"), ("LONG", &format!("{long}-old-{long}"))]);
        let new = env(&[("A", "1"), ("NEW", "3"), ("B", "2"), ("LONG", &format!("{long}-new-{long}"))]);
        let lines = of(&old, &new);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let (changed, added) = (&lines[0], &lines[1]);
        assert!(changed.starts_with("~ spec.env[LONG].value …xx"), "{changed}");
        assert!(changed.contains("x-old-x") && changed.contains("→") && changed.contains("x-new-x"), "{changed}");
        assert_eq!(added, r#"+ spec.env[NEW] = {"name":"NEW","value":"3"}"#);
        let turned = |list: Value| json!({ "list": list });
        let names = [json!({"name": "a"}), json!({"name": "b"})];
        let (one, other) = (turned(json!(names)), turned(json!([names[1], names[0]])));
        assert_eq!(of(&one, &other), ["~ list is in another order"]);
        assert_eq!(of(&turned(json!([1, 2, 3])), &turned(json!([1, 9, 2, 3]))), ["+ list[1] = 9"]);
        assert_eq!(of(&turned(json!([1, 2, 3])), &turned(json!([1, 3]))), ["- list[1] = 2"]);
    }
}
