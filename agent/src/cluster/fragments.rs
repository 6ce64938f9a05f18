//! The admin's YAML fragments, each merged into kubeadm's document of the same `kind`.
//!
//! Pure. A folder of fragments lets an environment say what only it needs (containers as nodes need
//! `failSwapOn: false`) without one big template that everybody has to copy.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The documents that fragments may add to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    ClusterConfiguration,
    KubeletConfiguration,
    KubeProxyConfiguration,
}

impl DocumentKind {
    const ALL: [Self; 3] = [Self::ClusterConfiguration, Self::KubeletConfiguration, Self::KubeProxyConfiguration];

    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterConfiguration => "ClusterConfiguration",
            Self::KubeletConfiguration => "KubeletConfiguration",
            Self::KubeProxyConfiguration => "KubeProxyConfiguration",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::ClusterConfiguration => "kubeadm.k8s.io/v1beta4",
            Self::KubeletConfiguration => "kubelet.config.k8s.io/v1beta1",
            Self::KubeProxyConfiguration => "kubeproxy.config.k8s.io/v1alpha1",
        }
    }
}

/// A fragment that cannot be merged. `file` is the fragment's name, for people.
#[derive(Debug, thiserror::Error)]
pub enum FragmentError {
    #[error("{file} is no YAML")]
    Yaml {
        file: String,
        #[source]
        source: serde_yaml_ng::Error,
    },
    #[error("{file} holds a document that is no table with a `kind`")]
    NoKind { file: String },
    #[error(
        "{file} has kind `{kind}`: ClusterConfiguration, KubeletConfiguration or KubeProxyConfiguration was expected"
    )]
    UnknownKind { file: String, kind: String },
    #[error("{file} puts etcd's data into {folder}: it is in /var/lib/etcd on every control plane")]
    DataDir { file: String, folder: String },
    #[error("{file} has apiVersion `{found}`: `{expected}` was expected")]
    ApiVersion { file: String, found: String, expected: &'static str },
}

/// Fragments in the order of their files' names; later ones win.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fragments(Vec<(DocumentKind, Map<String, Value>)>);

impl Fragments {
    /// Reads files, as `(name, text)`, each with one or more documents.
    pub fn parse(files: &[(String, String)]) -> Result<Self, FragmentError> {
        let mut sorted: Vec<_> = files.iter().collect();
        sorted.sort();
        let mut all = Vec::new();
        for (file, text) in sorted {
            for document in serde_yaml_ng::Deserializer::from_str(text) {
                let value = Value::deserialize(document)
                    .map_err(|source| FragmentError::Yaml { file: file.clone(), source })?;
                if !value.is_null() {
                    all.push(fragment(file, value)?);
                }
            }
        }
        Ok(Self(all))
    }

    /// `base` with every fragment of this kind merged into it.
    pub fn merge_into(&self, kind: DocumentKind, base: Value) -> Value {
        self.0.iter().filter(|(k, _)| *k == kind).fold(base, |mut merged, (_, fragment)| {
            merge(&mut merged, &Value::Object(fragment.clone()));
            merged
        })
    }
}

fn fragment(file: &str, value: Value) -> Result<(DocumentKind, Map<String, Value>), FragmentError> {
    let no_kind = || FragmentError::NoKind { file: file.to_owned() };
    let Value::Object(mut table) = value else { return Err(no_kind()) };
    let Some(Value::String(name)) = table.remove("kind") else { return Err(no_kind()) };
    let kind = DocumentKind::ALL
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| FragmentError::UnknownKind { file: file.to_owned(), kind: name })?;
    match table.remove("apiVersion") {
        None => {}
        Some(Value::String(found)) if found == kind.api_version() => {}
        Some(found) => {
            return Err(FragmentError::ApiVersion {
                file: file.to_owned(),
                found: found.as_str().map_or_else(|| found.to_string(), str::to_owned),
                expected: kind.api_version(),
            });
        }
    }
    if let Some(folder) = table.get("etcd").and_then(|etcd| etcd["local"]["dataDir"].as_str())
        && folder != "/var/lib/etcd"
    {
        return Err(FragmentError::DataDir { file: file.to_owned(), folder: folder.to_owned() });
    }
    Ok((kind, table))
}

/// Tables are merged key by key, lists of `{name, value}` (kubeadm's arguments) by name; anything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(over)) if named(base) && named(over) && !over.is_empty() => {
            for item in over {
                match base.iter_mut().find(|b| b["name"] == item["name"]) {
                    Some(old) => *old = item.clone(),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn named(list: &[Value]) -> bool {
    list.iter().all(|item| item.get("name").is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(texts: &[(&str, &str)]) -> Vec<(String, String)> {
        texts.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect()
    }

    #[test]
    fn later_files_win_and_other_kinds_are_left_alone() {
        let fragments = Fragments::parse(&files(&[
            ("20.yaml", "kind: KubeletConfiguration\nmaxPods: 30\n---\nkind: KubeProxyConfiguration\nmode: iptables\n"),
            ("10.yaml", "kind: KubeletConfiguration\nmaxPods: 20\nfeatureGates: {A: true}\n"),
        ]))
        .unwrap();
        let merged = fragments
            .merge_into(DocumentKind::KubeletConfiguration, json!({"maxPods": 110, "featureGates": {"B": false}}));
        assert_eq!(merged, json!({"maxPods": 30, "featureGates": {"A": true, "B": false}}));
    }

    #[test]
    fn arguments_merge_by_name() {
        let mut base = json!({"extraArgs": [{"name": "v", "value": "2"}, {"name": "bind", "value": "0"}]});
        merge(&mut base, &json!({"extraArgs": [{"name": "v", "value": "4"}, {"name": "x", "value": "y"}]}));
        assert_eq!(
            base["extraArgs"],
            json!([{"name": "v", "value": "4"}, {"name": "bind", "value": "0"}, {"name": "x", "value": "y"}])
        );
    }

    #[test]
    fn wrong_fragments_say_which_file() {
        for (text, expected) in [
            ("kind: Pod", "a.yaml has kind `Pod`"),
            ("- 1", "a.yaml holds a document"),
            ("kind: [", "a.yaml is no YAML"),
            ("kind: KubeletConfiguration\napiVersion: v1", "a.yaml has apiVersion `v1`"),
        ] {
            let error = Fragments::parse(&files(&[("a.yaml", text)])).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
