//! Signed catalogs: what the coordinator publishes and agents believe, from the wire and from their own disk.
//!
//! Ed25519 over a domain tag and the TOML. That a catalog is for this node and not older than the last is the reader's
//! business; that these bytes came from this environment's coordinator is decided here.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use muster_ids::Digest;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey, SubjectPublicKeyInfo};

use crate::v1::SignedCatalog;

/// Keeps a signature over a catalog from being one over anything else.
const TAG: &str = "muster-catalog-v1\n";

/// Why a key or a signature is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("the catalog key is no Ed25519 key in PEM")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the catalog key is of another kind than Ed25519")]
    NotEd25519,
    #[error("the catalog's signature is not from this environment's coordinator")]
    Signature,
    #[error("the catalog's etag is not the digest of its text")]
    Etag,
    #[error("the catalog cannot be signed")]
    Sign(#[source] rcgen::Error),
}

/// The private half; on the coordinator alone.
pub struct CatalogSigner {
    key: KeyPair,
}

impl CatalogSigner {
    /// A new key.
    pub fn generate() -> Result<Self, SignatureError> {
        KeyPair::generate_for(&PKCS_ED25519).map(|key| Self { key }).map_err(SignatureError::Sign)
    }

    /// From PKCS #8 in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let key =
            KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519).map_err(|e| SignatureError::Key(e.into()))?;
        Ok(Self { key })
    }

    /// PKCS #8 in PEM: a secret.
    pub fn to_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub fn public_pem(&self) -> String {
        self.key.public_key_pem()
    }

    /// Signs the text of a catalog; its etag is the text's digest.
    pub fn sign(&self, toml: String) -> Result<SignedCatalog, SignatureError> {
        let signature = self.key.sign(format!("{TAG}{toml}").as_bytes()).map_err(SignatureError::Sign)?;
        Ok(SignedCatalog { etag: Digest::of(&toml).to_string(), signature, toml })
    }
}

impl fmt::Debug for CatalogSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CatalogSigner")
    }
}

/// The public half, which agents got when they enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogKey(Vec<u8>);

impl CatalogKey {
    /// From SubjectPublicKeyInfo in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let key = SubjectPublicKeyInfo::from_pem(pem).map_err(|e| SignatureError::Key(e.into()))?;
        if key.algorithm() != &PKCS_ED25519 {
            return Err(SignatureError::NotEd25519);
        }
        Ok(Self(key.der_bytes().to_vec()))
    }

    /// The text, once it is proven to be the coordinator's.
    pub fn verify<'a>(&self, catalog: &'a SignedCatalog) -> Result<&'a str, SignatureError> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(format!("{TAG}{}", catalog.toml).as_bytes(), &catalog.signature)
            .map_err(|_| SignatureError::Signature)?;
        if Digest::of(&catalog.toml).to_string() != catalog.etag {
            return Err(SignatureError::Etag);
        }
        Ok(&catalog.toml)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signed_text_under_the_right_key_passes() {
        let signer = CatalogSigner::from_pem(&CatalogSigner::generate().unwrap().to_pem()).unwrap();
        assert_eq!(format!("{signer:?}"), "CatalogSigner", "nothing of its key");
        let key = CatalogKey::from_pem(&signer.public_pem()).unwrap();
        let signed = signer.sign("node = \"a\"\n".to_owned()).unwrap();
        assert_eq!(key.verify(&signed).unwrap(), "node = \"a\"\n");

        let tampered = SignedCatalog { toml: "node = \"b\"\n".to_owned(), ..signed.clone() };
        assert!(matches!(key.verify(&tampered), Err(SignatureError::Signature)));
        let etag = SignedCatalog { etag: "0".repeat(64), ..signed.clone() };
        assert!(matches!(key.verify(&etag), Err(SignatureError::Etag)));
        let foreign = CatalogKey::from_pem(&CatalogSigner::generate().unwrap().public_pem()).unwrap();
        assert!(matches!(foreign.verify(&signed), Err(SignatureError::Signature)));
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let ecdsa = KeyPair::generate().unwrap();
        assert!(matches!(CatalogKey::from_pem(&ecdsa.public_key_pem()), Err(SignatureError::NotEd25519)));
    }
}
