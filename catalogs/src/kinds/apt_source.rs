//! `[[apt_source]]`: a signed package repository.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName};

/// A package repository in deb822 form, with the key that must have signed it.
///
/// Equal are both of its files, to the byte, and an index of it that apt has read; a key that was fetched from its URL stays as it
/// is. Sources that others wrote are left alone. With `absent` the two files go, and what was installed from it stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a package source")]
#[serde(deny_unknown_fields)]
pub struct AptSourceSpec {
    /// Names the files `/etc/apt/sources.list.d/NAME.sources` and `/etc/apt/keyrings/NAME.asc`.
    #[schemars(extend("format" = "file-name"))]
    pub name: String,
    #[schemars(extend("format" = "url"))]
    pub url: String,
    /// Suites; a flat repository is `/`.
    #[schemars(length(min = 1), extend("items" = { "type": "string", "format": "word" }))]
    pub suites: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = { "type": "string", "format": "word" }))]
    pub components: Vec<String>,
    /// The signing key, ASCII-armoured: the text itself, or a URL of `http`/`https`, fetched once and kept.
    pub key: String,
    /// SHA-256 of the key file, 64 hexadecimal digits: what is fetched must be exactly that. Needed for a key by plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "sha256"))]
    pub key_sha256: Option<String>,
    /// True removes both files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl AptSourceSpec {
    /// The file that describes it to apt.
    pub fn source_path(&self) -> String {
        format!("/etc/apt/sources.list.d/{}.sources", self.name)
    }

    /// The file with its key.
    pub fn key_path(&self) -> String {
        format!("/etc/apt/keyrings/{}.asc", self.name)
    }
}

impl Kind for AptSourceSpec {
    fn claims(&self) -> Vec<Claim> {
        let mut claims =
            vec![Claim::new("apt source", &self.name), Claim::path(self.source_path()), Claim::path(self.key_path())];
        if !self.absent {
            // Two sources with one repository have two keys for it, and then apt reads no source at all.
            let url = self.url.trim_end_matches('/');
            let suites: BTreeSet<&String> = self.suites.iter().collect();
            claims.extend(suites.into_iter().map(|suite| Claim::new("repository", format!("{url} {suite}"))));
        }
        claims
    }

    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(self.source_path()), Owned::one(self.key_path())]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let armour = self.key.trim_start().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----");
        let url = self.key.starts_with("https://") || self.key.starts_with("http://");
        if !armour && !url {
            faults.push(Fault::new(
                "key",
                "`key` of a package source is no key",
                "expected an ASCII-armoured public key, or its URL",
            ));
        }
        if self.key.starts_with("http://") && self.key_sha256.is_none() {
            faults.push(
                Fault::new("key", "a key that comes by plain HTTP proves nothing", "anyone on the way could change it")
                    .help("add `key_sha256`, the SHA-256 of the key file, or use https"),
            );
        }
        if self.suites.iter().any(|s| s.ends_with('/')) && !self.components.is_empty() {
            faults.push(Fault::new("components", "a flat repository has no components", "its suite ends with a slash"));
        }
        faults
    }
}
