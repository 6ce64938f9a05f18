//! `[[apt_source]]`: the difference of the source's two files, and whether its index was ever read.

use muster_catalog::kinds::apt_source::AptSourceSpec;

use super::Describe;
use crate::{row::Action, text};

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The text of `/etc/apt/sources.list.d/NAME.sources`.
    pub source: Option<String>,
    /// The text of `/etc/apt/keyrings/NAME.asc`.
    pub key: Option<String>,
    /// apt holds an index of it.
    pub indexed: bool,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The source's new text.
    pub source: Option<String>,
    pub key: Option<Key>,
    /// Read its index.
    pub update: bool,
    pub remove: bool,
    pub detail: Vec<String>,
    pub fresh: bool,
}

/// Where a new key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Text(String),
    /// Fetched when applied, and kept.
    Url(String),
}

impl Describe for Change {
    fn action(&self) -> Action {
        match (self.remove, self.fresh) {
            (true, _) => Action::Remove,
            (false, true) => Action::Create,
            (false, false) => Action::Change,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

/// The key as it stands: text, or the place to fetch it from.
pub fn key(spec: &AptSourceSpec) -> Key {
    if spec.key.starts_with("http://") || spec.key.starts_with("https://") {
        Key::Url(spec.key.clone())
    } else {
        let mut text = spec.key.trim().to_owned();
        text.push('\n');
        Key::Text(text)
    }
}

/// The source in deb822 form. The key's URL stands in a comment, so that another URL is a difference.
pub fn render(spec: &AptSourceSpec) -> String {
    let mut text = format!("# Written by muster.\nTypes: deb\nURIs: {}\nSuites: {}\n", spec.url, spec.suites.join(" "));
    if !spec.components.is_empty() {
        text.push_str(&format!("Components: {}\n", spec.components.join(" ")));
    }
    text.push_str(&format!("Signed-By: {}\n", spec.key_path()));
    if let Key::Url(url) = key(spec) {
        let sha256 = spec.key_sha256.as_ref().map(|digest| format!(", SHA-256 {digest}")).unwrap_or_default();
        text.insert_str("# Written by muster.\n".len(), &format!("# Key fetched from {url}{sha256}\n"));
    }
    text
}

pub fn diff(spec: &AptSourceSpec, observed: &Observed) -> Option<Change> {
    let there = observed.source.is_some() || observed.key.is_some();
    if spec.absent {
        return there.then(|| Change {
            source: None,
            key: None,
            update: false,
            remove: true,
            detail: Vec::new(),
            fresh: false,
        });
    }
    let mut detail = Vec::new();
    let wanted = render(spec);
    let source = (observed.source.as_deref() != Some(&wanted)).then(|| {
        match &observed.source {
            Some(old) => detail.extend(text::diff(old.as_bytes(), wanted.as_bytes())),
            None => detail.push(format!("{} {}", spec.url, spec.suites.join(" "))),
        }
        wanted
    });
    let key = match key(spec) {
        Key::Text(text) => (observed.key.as_deref() != Some(&text)).then_some(Key::Text(text)),
        // A fetched key is kept until the URL (and with it the source's comment) changes.
        Key::Url(url) => (observed.key.is_none() || source.is_some()).then_some(Key::Url(url)),
    };
    if key.is_some() {
        detail.push("its key".to_owned());
    }
    let update = source.is_some() || key.is_some() || !observed.indexed;
    if update && detail.is_empty() {
        detail.push("its index was never read".to_owned());
    }
    update.then(|| Change { source, key, update, remove: false, detail, fresh: observed.source.is_none() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(key: &str) -> AptSourceSpec {
        AptSourceSpec {
            name: "kubernetes".into(),
            url: "http://10.89.0.3/debian".into(),
            suites: vec!["muster".into()],
            components: vec!["main".into()],
            key: key.into(),
            key_sha256: None,
            absent: false,
        }
    }

    #[test]
    fn another_key_url_fetches_again() {
        let old = spec("http://10.89.0.3/old.asc");
        let seen = Observed { source: Some(render(&old)), key: Some("old".into()), indexed: true };
        assert_eq!(diff(&old, &seen), None);
        let change = diff(&spec("http://10.89.0.3/new.asc"), &seen).unwrap();
        assert_eq!(change.key, Some(Key::Url("http://10.89.0.3/new.asc".into())));
        assert!(change.update);
    }

    #[test]
    fn a_crash_before_the_index_was_read_is_mended() {
        let spec = spec("-----BEGIN PGP PUBLIC KEY BLOCK-----\n");
        let Key::Text(text) = key(&spec) else { panic!() };
        let seen = Observed { source: Some(render(&spec)), key: Some(text), indexed: false };
        let change = diff(&spec, &seen).unwrap();
        assert!(change.update && change.source.is_none() && change.key.is_none());
    }
}
