//! A certificate chain, its key and the CA, read from PEM.

use std::fmt;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

/// Why PEM text holds no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("the certificate chain cannot be read")]
    Chain(#[source] pem::Error),
    #[error("the certificate chain is empty")]
    NoCertificate,
    #[error("the private key cannot be read")]
    Key(#[source] pem::Error),
    #[error("the CA's certificate cannot be read")]
    Ca(#[source] pem::Error),
}

/// What one side shows and what it trusts.
pub struct Credentials {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub ca: CertificateDer<'static>,
}

impl Credentials {
    pub fn from_pem(chain: &str, key: &str, ca: &str) -> Result<Self, CredentialsError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(CredentialsError::Chain)?;
        if chain.is_empty() {
            return Err(CredentialsError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(CredentialsError::Key)?;
        Ok(Self { chain, key, ca: certificate_from_pem(ca)? })
    }

    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), ca: self.ca.clone() }
    }
}

/// Without the key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} certificates)", self.chain.len())
    }
}

/// The first certificate of a PEM text.
pub fn certificate_from_pem(pem: &str) -> Result<CertificateDer<'static>, CredentialsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(CredentialsError::Ca)
}
