//! Kubernetes objects as they stand in a set: read from YAML, and named.
//!
//! What a kind's scope is tells the cluster; of the kinds that Kubernetes itself brings it is known here, so that two
//! names of one object are found without a cluster.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// Names one object: API version and kind as written, namespace where it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
}

/// Groups whose kinds Kubernetes itself brings.
const BUILT_IN: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Their kinds that have no namespace.
const OF_THE_CLUSTER: &[&str] = &[
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterTrustBundle",
    "CustomResourceDefinition",
    "DeviceClass",
    "DeviceTaintRule",
    "FlowSchema",
    "IPAddress",
    "IngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "ResourceSlice",
    "RuntimeClass",
    "ServiceCIDR",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

impl ObjectId {
    /// The object's name; with the namespace that Kubernetes' own kinds have, and of others' with the one that is written.
    pub fn of(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let written = Some(text("/metadata/namespace")).filter(|namespace| !namespace.is_empty());
        let mut id = Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: written,
            name: text("/metadata/name"),
        };
        if id.built_in() {
            let everywhere = OF_THE_CLUSTER.contains(&id.kind.as_str());
            id.namespace = (!everywhere).then(|| id.namespace.unwrap_or_else(|| "default".to_owned()));
        }
        id
    }

    /// The same object whatever the version of its group by which it was applied.
    pub fn same_object(&self, other: &Self) -> bool {
        self.same_kind(other) && self.namespace == other.namespace && self.name == other.name
    }

    /// Whether this, as written, names the object that the cluster calls `known`. A namespace that is not written is
    /// `default` where the kind has namespaces; one that is written counts for nothing where it has none.
    pub fn names(&self, known: &Self) -> bool {
        let namespace = match (&self.namespace, &known.namespace) {
            (None, Some(known)) => known == "default",
            (Some(written), Some(known)) => written == known,
            (Some(_) | None, None) => true,
        };
        self.same_kind(known) && self.name == known.name && namespace
    }

    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    fn same_kind(&self, other: &Self) -> bool {
        self.group() == other.group() && self.kind == other.kind
    }

    fn built_in(&self) -> bool {
        BUILT_IN.contains(&self.group())
    }

    /// What one set alone of a cluster may hold: equal for all spellings of one object.
    pub(super) fn claim(&self) -> String {
        if self.built_in() {
            return self.to_string();
        }
        let namespace = self.namespace.as_deref().unwrap_or("default");
        format!("{}.{} {namespace}/{}", self.kind.to_lowercase(), self.group(), self.name)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.to_lowercase();
        match &self.namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
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
    #[error("document {number} has `generateName`, by which each converge would make another object: give it a `name`")]
    Nameless { number: usize },
}

/// Reads YAML documents; Lists are taken apart, empty documents left out.
pub fn documents(text: &str) -> Result<Vec<Value>, DocumentError> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let number = index + 1;
        let value = Value::deserialize(document).map_err(|source| DocumentError::Yaml { number, source })?;
        let items = match value {
            Value::Null => continue,
            Value::Object(mut list) if is_list(&list) => match list.remove("items") {
                Some(Value::Array(items)) => items,
                Some(_) | None => return Err(DocumentError::NoObject { number }),
            },
            value => vec![value],
        };
        for mut item in items {
            let says = |key: &str| item.pointer(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            if !says("/metadata/name") && says("/metadata/generateName") {
                return Err(DocumentError::Nameless { number });
            }
            if !["/apiVersion", "/kind", "/metadata/name"].into_iter().all(says) {
                return Err(DocumentError::NoObject { number });
            }
            modes(&mut item, false);
            objects.push(item);
        }
    }
    Ok(objects)
}

/// `List`, and what `kubectl get -o yaml` gives of one kind: `ConfigMapList`.
fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    kind == "List" || kind.ends_with("List") && object.get("items").is_some_and(Value::is_array)
}

/// `defaultMode: 0440` of a pod's volumes is an octal number to kubectl, which reads YAML 1.1, and a text in YAML 1.2.
fn modes(value: &mut Value, volumes: bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| modes(item, volumes)),
        Value::Object(table) => {
            for (key, value) in table {
                let mode = || value.as_str().filter(|text| text.starts_with('0') && text.len() > 1);
                let octal = || mode().and_then(|text| u32::from_str_radix(text, 8).ok());
                if volumes
                    && matches!(key.as_str(), "defaultMode" | "mode")
                    && let Some(number) = octal()
                {
                    *value = number.into();
                } else {
                    modes(value, volumes || key == "volumes");
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectId {
        let mut metadata = json!({ "name": name });
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        ObjectId::of(&json!({"apiVersion": version, "kind": kind, "metadata": metadata}))
    }

    #[test]
    fn one_object_has_one_claim_however_it_is_spelled() {
        for (one, other) in [
            (id("apps/v1", "Deployment", None, "web"), id("apps/v1beta1", "Deployment", Some("default"), "web")),
            (id("v1", "Namespace", Some("any"), "shop"), id("v1", "Namespace", None, "shop")),
            (id("v1", "ConfigMap", Some(""), "a"), id("v1", "ConfigMap", Some("default"), "a")),
            (id("home.dev/v1", "Lamp", None, "desk"), id("home.dev/v2", "Lamp", Some("default"), "desk")),
        ] {
            assert_eq!(one.claim(), other.claim());
        }
        for (one, other) in [
            (id("apps/v1", "Deployment", None, "web"), id("apps/v1", "Deployment", Some("shop"), "web")),
            (id("home.dev/v1", "Lamp", None, "desk"), id("work.dev/v1", "Lamp", None, "desk")),
            (id("v1", "Service", None, "web"), id("v1", "Secret", None, "web")),
        ] {
            assert_ne!(one.claim(), other.claim());
        }
    }

    #[test]
    fn what_is_written_names_what_the_cluster_knows() {
        let known = |namespace: Option<&str>| ObjectId {
            namespace: namespace.map(str::to_owned),
            ..id("home.dev/v1", "Lamp", None, "desk")
        };
        let plain = id("home.dev/v2", "Lamp", None, "desk");
        assert!(
            plain.names(&known(None)) && plain.names(&known(Some("default"))) && !plain.names(&known(Some("shop")))
        );
        let shop = id("home.dev/v1", "Lamp", Some("shop"), "desk");
        assert!(shop.names(&known(None)), "the kind has no namespaces, or nobody knows");
        assert!(shop.names(&known(Some("shop"))) && !shop.names(&known(Some("default"))));
    }

    #[test]
    fn lists_are_taken_apart_and_names_are_needed() {
        let list =
            "apiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n";
        assert_eq!(documents(list).unwrap()[0]["metadata"]["name"], "a");
        let nameless = "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: migrate-}\n";
        assert!(matches!(documents(nameless), Err(DocumentError::Nameless { number: 1 })));
        let own = "apiVersion: x/v1\nkind: AllowList\nmetadata: {name: a}\nitems: {a: b}\n";
        assert_eq!(documents(own).unwrap()[0]["kind"], "AllowList");
    }

    #[test]
    fn modes_of_volumes_are_octal_as_kubectl_reads_them() {
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: a}
data: {mode: 0644}
spec:
  volumes:
  - {name: a, secret: {secretName: a, defaultMode: 0440, items: [{key: k, path: p, mode: 0400}]}}
  - {name: b, configMap: {name: b, defaultMode: 288}}
";
        let object = documents(text).unwrap().remove(0);
        assert_eq!(object.pointer("/spec/volumes/0/secret/defaultMode"), Some(&json!(0o440)));
        assert_eq!(object.pointer("/spec/volumes/0/secret/items/0/mode"), Some(&json!(0o400)));
        assert_eq!(object.pointer("/spec/volumes/1/configMap/defaultMode"), Some(&json!(288)));
        assert_eq!(object.pointer("/data/mode"), Some(&json!("0644")));
    }
}
