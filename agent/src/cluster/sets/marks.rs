//! Our marks on objects: whose they are, and who wrote them last.
//!
//! A live object of a newer generation is left alone, so that a leader that was overtaken undoes nothing. Anybody who may
//! write an object may write that mark too, so it counts only where the API server says that muster wrote it: somebody
//! else's is a difference, and is put back.

use muster_catalog::kinds::manifest::ObjectId;
use muster_ids::Generation;
use serde_json::{Value, json};

use crate::cluster::MANAGER;

/// Which set an object belongs to; a label, so that a set can be watched.
pub const SET: &str = "muster.dev/set";
/// The generation that last changed an object; an annotation.
pub const GENERATION: &str = "muster.dev/generation";
/// On an object that was there before any set named it; an annotation. It is let go and not deleted when it leaves its set.
pub const ADOPTED: &str = "muster.dev/adopted";

/// The object as it is applied: with its set, its generation and its namespace.
pub fn dressed(object: &Value, id: &ObjectId, set: &str, generation: Generation) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"] {
            metadata.remove(key);
        }
        match &id.namespace {
            Some(namespace) => metadata.insert("namespace".to_owned(), json!(namespace)),
            None => metadata.remove("namespace"),
        };
    }
    object["metadata"]["labels"][SET] = json!(set);
    object["metadata"]["annotations"][GENERATION] = json!(generation.to_string());
    if let Some(table) = object.as_object_mut() {
        table.remove("status");
    }
    object
}

/// Dressed for the live object that it is applied to: whether that was there before any set is remembered, and a claim of
/// a volume that was made by hand keeps what it asked for.
pub fn over(mut dressed: Value, live: &Value) -> Value {
    if adopted(live) || is_foreign(live) {
        dressed["metadata"]["annotations"][ADOPTED] = json!("true");
    }
    // Without a class nobody could grow its volume, so the API server refuses it; the volume itself says how large it is.
    let asked = "/spec/resources/requests/storage";
    let fixed = live["kind"] == "PersistentVolumeClaim" && live["spec"]["storageClassName"] == "";
    if fixed && let (Some(wanted), Some(was)) = (dressed.pointer_mut(asked), live.pointer(asked)) {
        wanted.clone_from(was);
    }
    dressed
}

/// The set that a live object belongs to.
pub fn set_of(live: &Value) -> Option<&str> {
    live["metadata"]["labels"][SET].as_str()
}

/// No set has ever written it.
fn is_foreign(live: &Value) -> bool {
    live["metadata"]["labels"][SET].is_null() && live["metadata"]["annotations"][GENERATION].is_null()
}

/// It was there before any set named it.
pub fn adopted(live: &Value) -> bool {
    live["metadata"]["annotations"][ADOPTED] == "true"
}

/// It is on its way out.
pub fn is_going(live: &Value) -> bool {
    !live["metadata"]["deletionTimestamp"].is_null()
}

/// The generation that last changed a live object, where muster wrote that mark itself.
pub fn written_by(live: &Value) -> Option<Generation> {
    let (epoch, counter) = live["metadata"]["annotations"][GENERATION].as_str()?.split_once('.')?;
    let mark = format!("f:{GENERATION}");
    let ours = |entry: &Value| {
        entry["manager"] == MANAGER
            && entry["operation"] == "Apply"
            && !entry["fieldsV1"]["f:metadata"]["f:annotations"][&mark].is_null()
    };
    live["metadata"]["managedFields"].as_array().into_iter().flatten().find(|entry| ours(entry))?;
    Some(Generation { epoch: epoch.parse().ok()?, counter: counter.parse().ok()? })
}

/// The generation that wrote a live object, where it is newer than `ours`.
pub fn newer(live: &Value, ours: Generation) -> Option<Generation> {
    written_by(live).filter(|by| *by > ours)
}

/// What the API server notes of an object that this manager applied with our marks.
#[cfg(test)]
pub(crate) fn managed(manager: &str) -> Value {
    let mut entry = json!({"manager": manager, "operation": "Apply"});
    entry["fieldsV1"]["f:metadata"]["f:annotations"][format!("f:{GENERATION}")] = json!({});
    json!([entry])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Generation = Generation { epoch: 1, counter: 7 };

    #[test]
    fn what_is_applied_carries_set_and_generation() {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n", "uid": "u"}, "status": {}});
        let dressed = dressed(&object, &ObjectId::of(&object), "shop", OURS);
        assert_eq!(
            dressed,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
                "name": "n", "namespace": "default", "labels": {SET: "shop"}, "annotations": {GENERATION: "1.7"}}})
        );
    }

    #[test]
    fn the_claim_of_a_disk_that_grows_keeps_what_it_asked_for() {
        let claim = |class: &str, size: &str| {
            json!({"kind": "PersistentVolumeClaim", "metadata": {"labels": {SET: "shop"}}, "spec": {
                "storageClassName": class, "resources": {"requests": {"storage": size}}}})
        };
        let asks = |dressed: Value| dressed["spec"]["resources"]["requests"]["storage"].clone();
        assert_eq!(asks(over(claim("", "8"), &claim("", "5"))), "5");
        // One with a class may be able to.
        assert_eq!(asks(over(claim("fast", "8"), &claim("fast", "5"))), "8");
        assert_eq!(asks(over(json!({"kind": "PersistentVolumeClaim", "metadata": {}}), &claim("", "5"))), Value::Null);
    }

    #[test]
    fn a_mark_counts_only_where_muster_wrote_it() {
        let live = |mark: &str, managed: Value| json!({"metadata": {"annotations": {GENERATION: mark}, "managedFields": managed}});
        assert_eq!(newer(&live("1.8", managed(MANAGER)), OURS), Some(Generation { epoch: 1, counter: 8 }));
        assert_eq!(newer(&live("1.7", managed(MANAGER)), OURS), None);
        for forged in [managed("kubectl-annotate"), json!([]), Value::Null] {
            assert_eq!(newer(&live("99.0", forged), OURS), None);
        }
        assert_eq!(newer(&live("soon", managed(MANAGER)), OURS), None);
    }
}
