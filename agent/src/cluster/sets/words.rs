//! The API server's noes, in its own words, and the way out.

use base64::Engine as _;
use muster_catalog::kinds::manifest::{KEPT, ObjectId};
use muster_plan::kinds::manifest::Refusal;
use serde_json::Value;

use crate::cluster::api::ApiError;

/// So many characters of its words are shown: of a changed pod template it prints the whole.
const MOST: usize = 400;

/// What it said of an object, without the values of a Secret.
pub(super) fn words(error: &ApiError, object: &Value) -> String {
    let mut text = match error {
        ApiError::Refused { message, .. } => message.clone(),
        ApiError::Unreachable(_) | ApiError::Unready | ApiError::Unreadable { .. } => error.to_string(),
    };
    for value in hidden(object).iter().filter(|value| !value.is_empty()) {
        text = text.replace(value.as_str(), "…");
    }
    cut(&text)
}

/// The values of a Secret, as they are written and as they are meant.
fn hidden(object: &Value) -> Vec<String> {
    if object["kind"] != "Secret" {
        return Vec::new();
    }
    let tables = ["data", "stringData"].iter().filter_map(|key| object[*key].as_object());
    let values = tables.flat_map(|table| table.values()).filter_map(Value::as_str);
    let decoded = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    values
        .flat_map(|text| {
            let meant = decoded(text).and_then(|bytes| String::from_utf8(bytes).ok());
            std::iter::once(text.to_owned()).chain(meant)
        })
        .collect()
}

fn cut(text: &str) -> String {
    let text = text.replace('\n', " ");
    match text.char_indices().nth(MOST) {
        None => text,
        // What is wrong often stands last.
        Some((at, _)) => {
            let tail: Vec<char> = text[at..].chars().collect();
            let tail: String = tail[tail.len().saturating_sub(MOST / 4)..].iter().collect();
            format!("{} … {tail}", &text[..at])
        }
    }
}

/// A Service's port or address is another's.
pub(super) fn taken(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused { code: 422, message, .. } if message.contains("is already allocated"))
}

/// Why an object cannot be written.
pub(super) fn refusal(error: &ApiError, object: &Value) -> Refusal {
    let why = words(error, object);
    let help = if taken(error) {
        "another Service has it: change one of the two"
    } else if why.contains("expected numeric") || why.contains("expected boolean") {
        "YAML is read by its version 1.2: an octal number is 0o644, and yes and no are texts"
    } else if error.is_not_found() && why.contains("namespaces") {
        "add the namespace to this set, or to one that this comes after"
    } else {
        "the API server refuses the object as it is written"
    };
    Refusal { why, help: Some(help.to_owned()) }
}

/// Why an object whose changed field cannot be changed is not made anew.
pub(super) fn unchangeable(id: &ObjectId, words: &str, live: &Value) -> Refusal {
    let help = if KEPT.contains(&id.kind.as_str()) {
        "it is never deleted to be made anew, since what it holds would go with it: put the field back, or write it \
         under another name"
            .to_owned()
    } else if takes_claims(live) {
        "it is not replaced, since its claims would go with it: set its persistentVolumeClaimRetentionPolicy to Retain first"
            .to_owned()
    } else {
        let why = if words.contains("Duplicate value") {
            "an entry of the list that another program wrote stays beside it: take that away by hand, or "
        } else {
            ""
        };
        format!(
            "{why}add `replace = [\"{}\"]` to the manifest, by which it is deleted and made anew, or delete it by hand, \
             and the next converge makes it anew",
            id.kind
        )
    };
    Refusal { why: words.to_owned(), help: Some(help) }
}

/// Whether the deletion of a live object takes volumes along.
pub(super) fn takes_claims(live: &Value) -> bool {
    live["kind"] == "StatefulSet"
        && live.pointer("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted").is_some_and(|when| when == "Delete")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(kind: &str) -> ObjectId {
        ObjectId { api_version: "v1".into(), kind: kind.into(), namespace: Some("shop".into()), name: "a".into() }
    }

    #[test]
    fn long_words_are_cut_and_keep_their_end() {
        let text = format!("spec.template: Invalid value: {}: field is immutable", "é".repeat(3000));
        let cut = cut(&text);
        assert!(cut.starts_with("spec.template") && cut.ends_with(": field is immutable"), "{cut}");
        assert!(cut.chars().count() < 600);
        assert_eq!(super::cut("a\nb"), "a b");
    }

    #[test]
    fn the_values_of_a_secret_are_not_repeated() {
        let (path, reason) = ("/web".to_owned(), "Invalid".to_owned());
        let message = "data: Invalid value: \"hunter2\" or aHVudGVyMg==".to_owned();
        let error = ApiError::Refused { verb: "apply", path, code: 422, reason, message };
        let secret = json!({"kind": "Secret", "data": {"a": "aHVudGVyMg=="}});
        assert_eq!(words(&error, &secret), "data: Invalid value: \"…\" or …");
    }

    #[test]
    fn the_way_out_of_an_unchangeable_field_fits_the_kind() {
        let help = |kind: &str, live: &Value| unchangeable(&id(kind), "immutable", live).help.unwrap();
        assert!(help("Job", &json!({})).contains("replace = [\"Job\"]"));
        for kind in KEPT {
            assert!(help(kind, &json!({})).contains("never deleted"), "{kind}");
        }
        let takes =
            json!({"kind": "StatefulSet", "spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}});
        assert!(help("StatefulSet", &takes).contains("Retain"));
    }
}
