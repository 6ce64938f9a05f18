//! This node's identity on disk: `identity/identity.json`, mode 0600.
//!
//! Key, certificate and CA are one file, because they must change together; and the key of an enrolment under way has a
//! file of its own, so that an answer that got lost is asked for again with the same key.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use muster_ids::NodeName;
use muster_proto::{
    Realm, Role,
    identity::{InvalidCertificate, Leaf},
    signed::{CatalogKey, SignatureError},
    tls::{Credentials, CredentialsError},
    v1,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};

use super::disk::{self, DiskError};

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    #[error("the identity's file cannot be used")]
    Disk(#[from] DiskError),
    #[error("the identity's file is damaged")]
    Json(#[from] serde_json::Error),
    #[error("the identity's file has version {0}, and this agent knows version 1")]
    Version(u32),
    #[error("the identity's certificate or key cannot be read")]
    Credentials(#[from] CredentialsError),
    #[error("the identity's certificate is none of muster's")]
    Certificate(#[from] InvalidCertificate),
    #[error("the certificate is of {0}, and not of an agent")]
    NotAnAgent(String),
    #[error("the catalog key cannot be used")]
    CatalogKey(#[from] SignatureError),
    #[error("no key could be made")]
    Key(#[source] rcgen::Error),
}

/// As it lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    key_pem: String,
    chain_pem: String,
    ca_pem: String,
    catalog_key_pem: String,
}

/// A node's identity.
#[derive(Clone)]
pub struct Enrolled {
    pub credentials: Credentials,
    pub node: NodeName,
    pub catalog_key: CatalogKey,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
}

impl fmt::Debug for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Enrolled({}, until {})", self.node, self.not_after)
    }
}

fn believe(stored: &Stored, realm: &Realm) -> Result<Enrolled, StoredError> {
    let credentials = Credentials::from_pem(&stored.chain_pem, &stored.key_pem, &stored.ca_pem)?;
    let leaf = Leaf::read(credentials.leaf())?.of(realm)?;
    let not_an_agent = || StoredError::NotAnAgent(format!("{} {}", leaf.identity.role, leaf.identity.name));
    let node = match leaf.identity.role {
        Role::Agent => leaf.identity.name.parse().map_err(|_| not_an_agent())?,
        Role::Operator | Role::Coordinator => return Err(not_an_agent()),
    };
    let catalog_key = CatalogKey::from_pem(&stored.catalog_key_pem)?;
    Ok(Enrolled { credentials, node, catalog_key, not_before: leaf.not_before, not_after: leaf.not_after })
}

/// A new key, and the request for its certificate. The request says nothing: who one is, the coordinator knows.
pub(super) struct Wish {
    key: KeyPair,
    pub(super) csr_pem: String,
}

impl Wish {
    fn of(key: KeyPair) -> Result<Self, StoredError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr_pem = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(StoredError::Key)?;
        Ok(Self { key, csr_pem })
    }

    pub(super) fn new() -> Result<Self, StoredError> {
        Self::of(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(StoredError::Key)?)
    }

    /// What a certificate makes of it; nothing is written.
    pub(super) fn granted(&self, certificate: v1::Certificate, realm: &Realm) -> Result<Granted, StoredError> {
        let v1::Certificate { chain_pem, ca_pem, catalog_key_pem, node: _ } = certificate;
        let stored = Stored { version: 1, key_pem: self.key.serialize_pem(), chain_pem, ca_pem, catalog_key_pem };
        Ok(Granted { enrolled: believe(&stored, realm)?, stored })
    }
}

/// An identity that is not kept yet.
pub(super) struct Granted {
    pub(super) enrolled: Enrolled,
    stored: Stored,
}

/// Where identities are kept.
#[derive(Debug, Clone)]
pub struct CredentialStore {
    identity: PathBuf,
    pending: PathBuf,
}

impl CredentialStore {
    /// In `state/identity`.
    pub fn new(state: &Path) -> Self {
        let folder = state.join("identity");
        Self { identity: folder.join("identity.json"), pending: folder.join("pending.key") }
    }

    /// The identity, if this machine has one.
    pub fn load(&self, realm: &Realm) -> Result<Option<Enrolled>, StoredError> {
        let Some(bytes) = disk::read(&self.identity)? else { return Ok(None) };
        let stored: Stored = serde_json::from_slice(&bytes)?;
        if stored.version != 1 {
            return Err(StoredError::Version(stored.version));
        }
        believe(&stored, realm).map(Some)
    }

    pub(super) fn save(&self, granted: &Granted) -> Result<(), StoredError> {
        disk::write(&self.identity, &serde_json::to_vec_pretty(&granted.stored)?, 0o600)?;
        Ok(disk::remove(&self.pending)?)
    }

    /// The request of an enrolment, the same until it succeeded.
    pub(super) fn pending(&self) -> Result<Wish, StoredError> {
        if let Some(bytes) = disk::read(&self.pending)?
            && let Ok(key) = KeyPair::from_pem(&String::from_utf8_lossy(&bytes))
        {
            return Wish::of(key);
        }
        let wish = Wish::new()?;
        disk::write(&self.pending, wish.key.serialize_pem().as_bytes(), 0o600)?;
        Ok(wish)
    }
}
