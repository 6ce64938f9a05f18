//! mTLS whose certificates change under a running program.
//!
//! Both sides read their configuration from a watch channel at each new connection: nothing is restarted for a new
//! certificate, and a bad one is refused before it is published ([`server::Identity::new`], [`client::config`]).
//! Session resumption is off everywhere, because a resumed session skips verification. TLS 1.3 alone: both ends are ours.

pub mod client;
mod credentials;
pub mod guests;
pub mod io;
pub mod server;
mod verify;

use std::sync::{Arc, LazyLock};

use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};

pub use credentials::{Credentials, CredentialsError, certificate_from_pem};
pub use verify::{EXPIRED_FOR, SERVER_NAME, Trust, pin};

use crate::identity::InvalidCertificate;

/// Why a certificate was not published.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate is none of muster's")]
    Identity(#[from] InvalidCertificate),
    #[error("the certificate does not stand before the verifier that peers use")]
    Rejected(#[source] rustls::Error),
    #[error("the certificate and its key do not make a TLS configuration")]
    Config(#[source] rustls::Error),
    #[error("the CA's certificate cannot be used as a root")]
    Root(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("`{0}` is no address: host:port")]
    Address(String),
}

/// The one provider. Passed by hand, so that nothing depends on what a process installed as its default.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// HTTP/2, on both sides.
fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec()]
}

fn roots(ca: &CertificateDer<'_>) -> Result<Arc<rustls::RootCertStore>, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone().into_owned()).map_err(|e| TlsError::Root(e.into()))?;
    Ok(Arc::new(roots))
}
