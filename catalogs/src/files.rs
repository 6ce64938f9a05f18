//! A site's files as they came, texts apart from what is none: only a `source` may be binary.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use muster_ids::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The files of a site: path relative to the site's folder, with `/`, to content. What the command line sends. No path is in
/// both maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteFiles {
    /// What is UTF-8.
    pub texts: BTreeMap<String, String>,
    /// All else.
    pub binary: BTreeMap<String, Binary>,
}

impl SiteFiles {
    pub fn insert(&mut self, path: String, content: Vec<u8>) {
        match String::from_utf8(content) {
            Ok(text) => {
                self.binary.remove(&path);
                self.texts.insert(path, text);
            }
            Err(error) => {
                self.texts.remove(&path);
                self.binary.insert(path, Binary(error.into_bytes()));
            }
        }
    }

    pub fn len(&self) -> usize {
        self.texts.len() + self.binary.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address of exactly these files. Without binary ones it is the same as before there were any.
    pub fn digest(&self) -> Digest {
        let mut all = Vec::new();
        let mut add = |part: &[u8]| {
            all.extend_from_slice(&(part.len() as u64).to_be_bytes());
            all.extend_from_slice(part);
        };
        for (path, text) in &self.texts {
            add(path.as_bytes());
            add(text.as_bytes());
        }
        for (path, content) in &self.binary {
            add(path.as_bytes());
            add(&content.0);
        }
        Digest::of(all)
    }
}

impl From<BTreeMap<String, String>> for SiteFiles {
    fn from(texts: BTreeMap<String, String>) -> Self {
        Self { texts, binary: BTreeMap::new() }
    }
}

/// Bytes that are no text. Where only texts can stand, they are base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Binary(pub Vec<u8>);

impl std::fmt::Debug for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text.as_bytes()).map(Self).map_err(de::Error::custom)
    }
}

/// A file as it is stored: a text as it is, as all of them were before there were binary ones.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored<T, B> {
    Text(T),
    Binary { base64: B },
}

impl Serialize for SiteFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = self.texts.iter().map(|(path, text)| (path, Stored::Text(text)));
        let binary = self.binary.iter().map(|(path, content)| (path, Stored::Binary { base64: content }));
        serializer.collect_map(texts.chain(binary))
    }
}

impl<'de> Deserialize<'de> for SiteFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut files = Self::default();
        for (path, stored) in BTreeMap::<String, Stored<String, Binary>>::deserialize(deserializer)? {
            match stored {
                Stored::Text(text) => drop(files.texts.insert(path, text)),
                Stored::Binary { base64 } => files.insert(path, base64.0),
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_stored_before_there_were_binary_ones_are_the_same() {
        let old = r#"{"muster.toml":"a = 1\n","roles/base.toml":""}"#;
        let files: SiteFiles = serde_json::from_str(old).unwrap();
        assert_eq!(files.texts["muster.toml"], "a = 1\n");
        assert_eq!(serde_json::to_string(&files).unwrap(), old);
        let before = "8b9dd893e710df5b6f761578cfe69c9c227c407a14dc97e079e71680d608a5c0";
        assert_eq!(files.digest().to_string(), before);
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let mut files = SiteFiles::default();
        let all: Vec<u8> = (0..=255).collect();
        files.insert("roles/files/all".to_owned(), all.clone());
        files.insert("roles/files/latin1".to_owned(), b"Stra\xdfe\n".to_vec());
        files.insert("roles/files/text".to_owned(), "Straße\n".as_bytes().to_vec());
        assert_eq!((files.texts.len(), files.binary.len()), (1, 2));
        let json = serde_json::to_string(&files).unwrap();
        let again: SiteFiles = serde_json::from_str(&json).unwrap();
        assert_eq!(again, files);
        assert_eq!(again.binary["roles/files/all"].0, all);
        let mut other = files.clone();
        other.insert("roles/files/all".to_owned(), b"\xff".to_vec());
        assert_ne!(other.digest(), files.digest());
    }
}
