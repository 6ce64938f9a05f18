//! Secrets at rest: sealed with the environment's master key, which is a root-only file beside the store.
//!
//! The same key gives keyed digests and enrolment tokens, each under a purpose of its own. A secret's name is bound to
//! its seal, so that two sealed values cannot be swapped. Assumes that who reads the master key reads everything.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac, rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// A sealed value: worthless without the master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// 12 bytes, hexadecimal.
    nonce: String,
    /// Ciphertext and tag, base64.
    sealed: String,
}

/// Why a secret could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the master key {path} cannot be used")]
    KeyFile { path: PathBuf, source: io::Error },
    #[error("the master key {path} is readable by others (mode {mode:o}); it must be 0600")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the master key {path} is damaged")]
    Damaged { path: PathBuf },
    #[error("the secret {name} cannot be opened with this master key")]
    Wrong { name: String },
    #[error("the system gives no random numbers")]
    Random,
}

/// The master key. Never printed.
pub struct MasterKey {
    seal: LessSafeKey,
    derive: hmac::Key,
}

impl MasterKey {
    /// The key file's name in the state folder.
    pub const FILE: &'static str = "master.key";

    /// Reads the key of this folder, or makes one.
    pub fn open_or_create(folder: &Path) -> Result<Self, SecretError> {
        let path = folder.join(Self::FILE);
        let failed = |source| SecretError::KeyFile { path: path.clone(), source };
        match fs::read(&path) {
            Ok(text) => {
                let mode = fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(SecretError::Exposed { path, mode });
                }
                let mut bytes = [0; 32];
                hex::decode_to_slice(text.trim_ascii(), &mut bytes)
                    .map_err(|_| SecretError::Damaged { path: path.clone() })?;
                Ok(Self::from_bytes(&bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; 32];
                rand::fill(&mut bytes).map_err(|_| SecretError::Random)?;
                write_durably(folder, Self::FILE, hex::encode(bytes).as_bytes()).map_err(failed)?;
                Ok(Self::from_bytes(&bytes))
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let seal = UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are an AES-256 key");
        // Sealing and deriving never use the same key.
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let derive = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, b"muster-derive-v1").as_ref());
        Self { seal: LessSafeKey::new(seal), derive }
    }

    /// Seals a value under its name.
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<Sealed, SecretError> {
        let mut nonce = [0; 12];
        rand::fill(&mut nonce).map_err(|_| SecretError::Random)?;
        let mut bytes = value.to_vec();
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut bytes)
            .map_err(|_| SecretError::Wrong { name: name.to_owned() })?;
        Ok(Sealed { nonce: hex::encode(nonce), sealed: STANDARD.encode(bytes) })
    }

    /// Opens what was sealed under this name.
    pub fn open(&self, name: &str, sealed: &Sealed) -> Result<Vec<u8>, SecretError> {
        let wrong = || SecretError::Wrong { name: name.to_owned() };
        let mut nonce = [0; 12];
        hex::decode_to_slice(&sealed.nonce, &mut nonce).map_err(|_| wrong())?;
        let mut bytes = STANDARD.decode(&sealed.sealed).map_err(|_| wrong())?;
        let plain = self
            .seal
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut bytes)
            .map_err(|_| wrong())?;
        Ok(plain.to_vec())
    }

    /// A text that only holders of the master key can make: 64 hexadecimal digits, the same for the same input.
    pub fn derive(&self, purpose: &str, input: &str) -> String {
        let mut context = hmac::Context::with_key(&self.derive);
        for part in [purpose, input] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        hex::encode(context.sign())
    }
}

/// A random secret of 32 letters and digits.
pub fn generate() -> Result<String, SecretError> {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    let mut text = String::with_capacity(32);
    while text.len() < 32 {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| SecretError::Random)?;
        // Bytes beyond the last whole multiple would favour the first letters.
        let fair = (256 / ALPHABET.len() * ALPHABET.len()) as u16;
        let letters = bytes.iter().filter(|byte| u16::from(**byte) < fair);
        text.extend(letters.map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()] as char).take(32 - text.len()));
    }
    Ok(text)
}

/// Writes a file of mode 0600 that is whole or absent after a crash.
pub(crate) fn write_durably(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_under_its_own_name_and_key_only() {
        let key = MasterKey::from_bytes(&[7; 32]);
        let sealed = key.seal("database", b"open sesame").unwrap();
        assert_eq!(key.open("database", &sealed).unwrap(), b"open sesame");
        assert!(key.open("other", &sealed).is_err(), "bound to its name");
        assert!(MasterKey::from_bytes(&[8; 32]).open("database", &sealed).is_err(), "bound to its key");
        assert!(!serde_json::to_string(&sealed).unwrap().contains("sesame"));
    }

    #[test]
    fn the_key_file_survives_and_must_be_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = MasterKey::open_or_create(folder.path()).unwrap();
        let again = MasterKey::open_or_create(folder.path()).unwrap();
        assert_eq!(first.derive("enrol", "x"), again.derive("enrol", "x"));
        assert_ne!(first.derive("enrol", "x"), first.derive("digest", "x"));
        let path = folder.path().join(MasterKey::FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(MasterKey::open_or_create(folder.path()), Err(SecretError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn generated_secrets_are_32_letters_and_differ() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
