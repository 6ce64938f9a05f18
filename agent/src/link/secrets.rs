//! Secrets by their own call, and a sealed copy for when the coordinator is away.
//!
//! The copy is sealed with AES-256-GCM under a key of this machine (`secrets/key`, mode 0600), each bound to its name. That
//! keeps secrets out of backups of single files and out of sight of whoever reads the folder without the key; root of this
//! machine can read them, as it can read what they are for.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    rand,
};
use muster_ids::Digest;

use super::{CallError, DiskError, Link, disk, turns::port_error};
use crate::ports::{PortError, Secrets};

const VERSION: u8 = 1;
const NONCE: usize = 12;

/// Why a sealed copy could not be read or written.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error("the sealed secret's file cannot be used")]
    Disk(#[from] DiskError),
    #[error("the sealed secret cannot be opened with this machine's key")]
    Open,
    #[error("the secret cannot be sealed")]
    Seal,
    #[error("the system gives no random numbers")]
    Random,
}

/// The port's adapter.
#[derive(Clone)]
pub struct CoordinatorSecrets {
    link: Link,
    folder: PathBuf,
}

impl CoordinatorSecrets {
    /// Sealed copies lie in `state/secrets`.
    pub fn new(link: Link, state: &Path) -> Self {
        Self { link, folder: state.join("secrets") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(Digest::of(name).to_string())
    }

    fn key(&self) -> Result<RandomizedNonceKey, SealError> {
        let path = self.folder.join("key");
        let bytes = match disk::read(&path)? {
            Some(bytes) if bytes.len() == 32 => bytes,
            Some(_) | None => {
                let mut bytes = [0; 32];
                rand::fill(&mut bytes).map_err(|_| SealError::Random)?;
                disk::write(&path, &bytes, 0o600)?;
                bytes.to_vec()
            }
        };
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| SealError::Seal)
    }

    fn keep(&self, name: &str, secret: &[u8]) -> Result<(), SealError> {
        if self.open(name).is_ok_and(|kept| kept.as_deref() == Some(secret)) {
            return Ok(());
        }
        let mut sealed = secret.to_vec();
        let nonce = self
            .key()?
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| SealError::Seal)?;
        let file = [&[VERSION][..], nonce.as_ref(), &sealed].concat();
        Ok(disk::write(&self.path(name), &file, 0o600)?)
    }

    fn open(&self, name: &str) -> Result<Option<Vec<u8>>, SealError> {
        let Some(file) = disk::read(&self.path(name))? else { return Ok(None) };
        let Some((&[VERSION], rest)) = file.split_first_chunk::<1>() else { return Err(SealError::Open) };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Open)?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .key()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| SealError::Open)?;
        Ok(Some(opened.to_vec()))
    }
}

#[async_trait]
impl Secrets for CoordinatorSecrets {
    async fn get(&self, name: &str) -> Result<Vec<u8>, PortError> {
        let error = match self.link.secret(name).await {
            Ok(secret) => {
                if let Err(error) = self.keep(name, &secret) {
                    tracing::warn!(error = &error as &dyn std::error::Error, name, "the secret has no sealed copy");
                }
                return Ok(secret);
            }
            // It said no: what was true once does not count any more.
            Err(error @ CallError::Refused(_)) => return Err(port_error(error)),
            Err(error) => error,
        };
        match self.open(name) {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => Err(port_error(error)),
            Err(sealed) => {
                tracing::warn!(error = &sealed as &dyn std::error::Error, name, "the sealed copy is of no use");
                Err(port_error(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use muster_proto::Realm;
    use tokio::sync::watch;

    use super::*;

    fn secrets(folder: &Path) -> CoordinatorSecrets {
        let realm = Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() };
        CoordinatorSecrets::new(Link { member: watch::channel(None).1, realm }, folder)
    }

    #[tokio::test]
    async fn without_the_coordinator_the_sealed_copy_serves() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path());
        assert!(matches!(secrets.get("DATABASE_PASSWORD").await, Err(PortError::Unreachable(_))));
        secrets.keep("DATABASE_PASSWORD", b"sesame").unwrap();
        assert_eq!(secrets.get("DATABASE_PASSWORD").await.unwrap(), b"sesame");
        assert!(secrets.get("OTHER").await.is_err());
    }

    #[test]
    fn copies_are_sealed_and_bound_to_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path());
        secrets.keep("one", b"sesame-sesame").unwrap();
        let path = secrets.path("one");
        let file = std::fs::read(&path).unwrap();
        assert!(!file.windows(6).any(|window| window == b"sesame"));
        for file in [&path, &secrets.folder.join("key")] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::copy(&path, secrets.path("two")).unwrap();
        assert!(matches!(secrets.open("two"), Err(SealError::Open)));
        std::fs::remove_file(secrets.folder.join("key")).unwrap();
        assert!(matches!(secrets.open("one"), Err(SealError::Open)));
    }
}
