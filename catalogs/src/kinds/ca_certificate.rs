//! `[[ca_certificate]]`: a certificate authority that the programs of a node trust.

use serde::{Deserialize, Serialize};
use x509_parser::pem::Pem;

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName, Signal, Texts, content::Given};

/// A certificate that the node's programs trust, by `update-ca-certificates`: one of `content`, `source` and `template`, one
/// certificate in PEM. Right is what is in the file and in the bundle. Programs that run read it when they start: let it notify
/// their services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a CA certificate")]
#[serde(deny_unknown_fields)]
pub struct CaCertificateSpec {
    /// Names the file `/usr/local/share/ca-certificates/NAME.crt`.
    #[schemars(extend("format" = "file-name"))]
    pub name: String,
    /// The certificate itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file of the site, relative to the role's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub source: Option<String>,
    /// A template of the site (Jinja), relative to the role's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub template: Option<String>,
    /// True takes the trust away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl CaCertificateSpec {
    pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

    pub fn file(&self) -> String {
        format!("/usr/local/share/ca-certificates/{}.crt", self.name)
    }

    /// The link that `update-ca-certificates` makes of it.
    pub fn link(&self) -> String {
        format!("/etc/ssl/certs/{}.pem", self.name)
    }

    fn content_fault(&self) -> Option<Fault> {
        let text = self.content.as_deref()?;
        let expected = "expected one certificate in PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----";
        let fault =
            |why: String| Some(Fault::new("name", format!("the CA certificate {}: {why}", self.name), expected));
        if text.contains("PRIVATE KEY-----") {
            let fault = fault("it holds a private key, which belongs in no site".to_owned());
            return fault.map(|fault| fault.help("take it for stolen, and write the certificate alone"));
        }
        let mut blocks = Vec::new();
        for block in Pem::iter_from_buffer(text.as_bytes()) {
            match block {
                Ok(block) => blocks.push(block),
                Err(error) => return fault(format!("it is no PEM: {error}")),
            }
        }
        match blocks.as_slice() {
            [one] if one.label == "CERTIFICATE" => {
                one.parse_x509().err().and_then(|error| fault(format!("it is no certificate: {error}")))
            }
            [one] => fault(format!("it is a {}", one.label)),
            [] => fault("it holds no certificate".to_owned()),
            more => fault(format!("it holds {}", more.len())).map(|fault| {
                fault.help("update-ca-certificates takes one from a file: give each a [[ca_certificate]] of its own")
            }),
        }
    }
}

impl Kind for CaCertificateSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(self.file())]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Named("package", "ca-certificates".to_owned()), Need::Above(self.file())]
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(self.file())]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path(self.file()), Signal::Path(Self::BUNDLE.to_owned())]
    }

    fn texts(&mut self) -> Option<Texts<'_>> {
        Some(Texts {
            content: &mut self.content,
            source: &mut self.source,
            template: Some(&mut self.template),
            binary: None,
        })
    }

    fn faults(&self) -> Vec<Fault> {
        let keys = [
            ("content", self.content.is_some()),
            ("source", self.source.is_some()),
            ("template", self.template.is_some()),
        ];
        let subject = format!("the CA certificate {}", self.name);
        Given { subject, named: "name", keys: &keys, absent: self.absent }
            .faults(|| self.content_fault().into_iter().collect())
    }
}
