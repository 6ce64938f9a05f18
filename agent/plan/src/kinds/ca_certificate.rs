//! `[[ca_certificate]]`: the difference of the certificate's file and of the bundle that programs read.

use muster_catalog::kinds::ca_certificate::CaCertificateSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The file in `/usr/local/share/ca-certificates`.
    pub kept: Option<Vec<u8>>,
    /// The certificate of the specification, or of the file where it is to go, is in the bundle.
    pub trusted: bool,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The file is written where it differs, and the bundle made anew.
    Trust {
        write: bool,
        new: bool,
    },
    Remove,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Trust { new: true, .. } => Action::Create,
            Self::Trust { new: false, .. } => Action::Change,
            Self::Remove => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        let text = match self {
            Self::Trust { new: true, .. } => "trusted",
            Self::Trust { write: true, .. } => "another certificate",
            Self::Trust { write: false, .. } => "trusted again: the bundle had lost it",
            Self::Remove => "no longer trusted",
        };
        vec![text.to_owned()]
    }
}

pub fn diff(spec: &CaCertificateSpec, observed: &Observed) -> Option<Change> {
    if spec.absent {
        return observed.kept.is_some().then_some(Change::Remove);
    }
    let wanted = spec.content.as_deref().unwrap_or_default();
    let write = observed.kept.as_deref() != Some(wanted.as_bytes());
    (write || !observed.trusted).then_some(Change::Trust { write, new: observed.kept.is_none() })
}

/// A certificate's Base64 without line ends, by which it is found whatever stands around it.
pub fn body(pem: &str) -> String {
    let inner = pem.split("-----").nth(2).unwrap_or_default();
    inner.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_is_in_the_file_and_in_the_bundle() {
        let pem = "-----BEGIN CERTIFICATE-----\nAA\nBB\n-----END CERTIFICATE-----\n";
        let spec = CaCertificateSpec {
            name: "x".into(),
            content: Some(pem.into()),
            source: None,
            template: None,
            absent: false,
        };
        let seen = |kept: Option<&str>, trusted| Observed { kept: kept.map(|text| text.into()), trusted };
        assert_eq!(diff(&spec, &seen(None, false)), Some(Change::Trust { write: true, new: true }));
        assert_eq!(diff(&spec, &seen(Some("other"), false)), Some(Change::Trust { write: true, new: false }));
        assert_eq!(diff(&spec, &seen(Some(pem), false)), Some(Change::Trust { write: false, new: false }));
        assert_eq!(diff(&spec, &seen(Some(pem), true)), None);
        let absent = CaCertificateSpec { absent: true, content: None, ..spec };
        assert_eq!(diff(&absent, &seen(Some(pem), true)), Some(Change::Remove));
        assert_eq!(diff(&absent, &seen(None, false)), None);
        assert_eq!(body(pem), "AABB");
    }
}
