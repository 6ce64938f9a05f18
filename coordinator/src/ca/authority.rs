//! Issues certificates of 24 hours and signs catalogs.
//!
//! Of a request only its public key is used: name, role, usages and dates are the authority's. Which name someone may have
//! is decided before (enrolment); which serials are valid is recorded by the caller.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::rand;
use muster_ids::Digest;
use muster_proto::{
    Clock, Identity, OperatorRole, Realm, Role, Serial,
    identity::COORDINATOR,
    signed::{CatalogSigner, SignatureError},
    tls::{self, Credentials, CredentialsError},
    v1::SignedCatalog,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};

use super::keys::{self, KeyFileError};

/// How long a certificate is valid.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);
/// The root outlives every environment that is not rebuilt.
const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Clocks of machines differ: a certificate is valid from a little before it is made.
pub const SKEW: Duration = Duration::from_secs(300);

/// Why the authority could not be opened, or issued nothing.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("a file of the CA cannot be used")]
    File(#[from] KeyFileError),
    #[error("the CA's key is there without its certificate's counterpart: {0} is damaged")]
    Damaged(&'static str),
    #[error("the certificate request cannot be used")]
    Request(#[source] rcgen::Error),
    #[error("no certificate could be made")]
    Make(#[source] rcgen::Error),
    #[error("`{name}` is no name of {role}")]
    Name { role: Role, name: String },
    #[error("the catalog key cannot be used")]
    Catalog(#[from] SignatureError),
    #[error("the CA's own credentials cannot be read back")]
    Credentials(#[from] CredentialsError),
    #[error("the system gives no random numbers")]
    Random,
}

/// A certificate that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub chain_pem: String,
    pub serial: Serial,
    /// Seconds since the epoch.
    pub not_after: i64,
}

/// The root of trust of one environment.
pub struct Authority {
    realm: Realm,
    clock: Arc<dyn Clock>,
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    pin: Digest,
    catalog: CatalogSigner,
}

impl Authority {
    /// Opens the CA in `state/ca`, or makes it where there is none.
    pub fn open_or_create(state: &Path, realm: Realm, clock: Arc<dyn Clock>) -> Result<Self, CaError> {
        keys::folder(&state.join("ca"))?;
        let [root_path, key_path, catalog_path] = files(state);
        if keys::read(&root_path)?.is_none() {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Make)?;
            let root = root(&realm, clock.now(), &key)?;
            keys::write(&catalog_path, &CatalogSigner::generate()?.to_pem(), 0o600)?;
            keys::write(&key_path, &key.serialize_pem(), 0o600)?;
            keys::write(&root_path, &root, 0o644)?;
        }
        Self::open(state, realm, clock)
    }

    /// Opens the CA in `state/ca`, which was made.
    pub fn open(state: &Path, realm: Realm, clock: Arc<dyn Clock>) -> Result<Self, CaError> {
        let [root_path, key_path, catalog_path] = files(state);
        let root_pem = keys::read(&root_path)?.ok_or(CaError::Damaged("root.pem"))?;
        let key_pem = keys::read(&key_path)?.ok_or(CaError::Damaged("root.key"))?;
        let catalog_pem = keys::read(&catalog_path)?.ok_or(CaError::Damaged("catalog.key"))?;
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&key_pem, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| CaError::Damaged("root.key"))?;
        let der = tls::certificate_from_pem(&root_pem)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| CaError::Damaged("root.pem"))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::Damaged("root.key"));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| CaError::Damaged("root.pem"))?;
        let catalog = CatalogSigner::from_pem(&catalog_pem)?;
        Ok(Self { realm, clock, issuer, pin: tls::pin(&der), root_pem, catalog })
    }

    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The root's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.root_pem
    }

    /// The SHA-256 of the root's certificate (DER): what new nodes are told.
    pub fn pin(&self) -> Digest {
        self.pin
    }

    pub fn catalog_key_pem(&self) -> String {
        self.catalog.public_pem()
    }

    pub fn sign_catalog(&self, toml: String) -> Result<SignedCatalog, CaError> {
        Ok(self.catalog.sign(toml)?)
    }

    /// A certificate for an agent's public key. Everything else in the request is ignored.
    pub fn issue_agent(&self, node: &str, csr_pem: &str) -> Result<Issued, CaError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
        self.make(Role::Agent, None, node, &request.public_key)
    }

    /// The same for an operator's, with a role.
    pub fn issue_operator(&self, role: OperatorRole, name: &str, csr_pem: &str) -> Result<Issued, CaError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
        self.make(Role::Operator, Some(role), name, &request.public_key)
    }

    /// An operator's as it was before there were roles.
    #[cfg(test)]
    pub(crate) fn issue_without_role(&self, name: &str, csr_pem: &str) -> Result<Issued, CaError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
        self.make(Role::Operator, None, name, &request.public_key)
    }

    /// A fresh key and certificate for the coordinator itself.
    pub fn issue_own(&self) -> Result<Credentials, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Make)?;
        let issued = self.make(Role::Coordinator, None, COORDINATOR, &key)?;
        Ok(Credentials::from_pem(&issued.chain_pem, &key.serialize_pem(), &self.root_pem)?)
    }

    fn make(
        &self,
        role: Role,
        operator: Option<OperatorRole>,
        name: &str,
        key: &impl PublicKeyData,
    ) -> Result<Issued, CaError> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| CaError::Random)?;
        let (realm, serial) = (self.realm.clone(), Serial::from_random(bytes));
        let identity = Identity { realm, role, operator, name: name.to_owned(), serial };
        // Reading it back is the check that the name is one.
        let uri = identity.uri();
        if Identity::from_uri(&uri).as_ref() != Ok(&identity) {
            return Err(CaError::Name { role, name: name.to_owned() });
        }
        let now = self.clock.now();
        let not_after = now + seconds(LIFE);
        let mut params = CertificateParams::default();
        params.not_before = date(now - seconds(SKEW));
        params.not_after = date(not_after);
        params.serial_number = Some(SerialNumber::from_slice(identity.serial.as_bytes()));
        params.distinguished_name = named(name);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(CaError::Make)?)];
        if role.serves() {
            let dns = tls::SERVER_NAME.try_into().map_err(CaError::Make)?;
            params.subject_alt_names.push(SanType::DnsName(dns));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Coordinator => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Agent | Role::Operator => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(CaError::Make)?;
        Ok(Issued { chain_pem: certificate.pem(), serial: identity.serial, not_after })
    }
}

/// Without keys.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, pin {})", self.realm, self.pin.short())
    }
}

/// The root's certificate, its key, and the catalog key.
fn files(state: &Path) -> [PathBuf; 3] {
    ["ca/root.pem", "ca/root.key", "ca/catalog.key"].map(|name| state.join(name))
}

fn root(realm: &Realm, now: i64, key: &KeyPair) -> Result<String, CaError> {
    let mut params = CertificateParams::default();
    params.not_before = date(now - seconds(SKEW));
    params.not_after = date(now + seconds(ROOT_LIFE));
    params.distinguished_name = named(&format!("muster {realm}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key).map_err(CaError::Make)?.pem())
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// rcgen's date of seconds since the epoch.
fn date(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds.max(0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use muster_proto::{ManualClock, identity::Leaf};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn realm() -> Realm {
        Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() }
    }

    fn authority(folder: &Path) -> Authority {
        Authority::open_or_create(folder, realm(), Arc::new(ManualClock::at(NOW))).unwrap()
    }

    #[test]
    fn opened_again_it_is_the_same_and_its_keys_are_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = authority(folder.path());
        let second = authority(folder.path());
        assert_eq!((first.pin(), first.catalog_key_pem()), (second.pin(), second.catalog_key_pem()));
        for (file, mode) in [("ca", 0o700), ("ca/root.key", 0o600), ("ca/catalog.key", 0o600)] {
            assert_eq!(
                std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode() & 0o777,
                mode,
                "{file}"
            );
        }
    }

    #[test]
    fn of_a_request_only_the_key_counts() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["coordinator.muster".to_owned()]).unwrap();
        wish.distinguished_name = named("root");
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
        wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
        let issued = authority.issue_agent("workers-1", &csr).unwrap();

        let der = tls::certificate_from_pem(&issued.chain_pem).unwrap();
        let leaf = Leaf::read(&der).unwrap();
        assert_eq!((leaf.identity.role, leaf.identity.name.as_str()), (Role::Agent, "workers-1"));
        assert_eq!((leaf.not_before, leaf.not_after), (NOW - 300, NOW + 24 * 3600));
        assert_eq!(issued.serial, leaf.identity.serial);
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=workers-1");
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
        assert!(!parsed.is_ca());
        assert_eq!(parsed.public_key().raw, key.subject_public_key_info());
    }

    #[test]
    fn an_operators_certificate_says_its_role() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        for role in OperatorRole::ALL {
            let issued = authority.issue_operator(role, "dana", &csr).unwrap();
            let leaf = Leaf::read(&tls::certificate_from_pem(&issued.chain_pem).unwrap()).unwrap();
            assert_eq!((leaf.identity.role, leaf.identity.operator), (Role::Operator, Some(role)));
        }
    }

    #[test]
    fn a_name_that_is_none_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        for name in ["", "a/b", "workers-1/../../operator/dana", "Workers"] {
            assert!(matches!(authority.issue_agent(name, &csr), Err(CaError::Name { .. })), "{name}");
        }
        assert!(matches!(authority.issue_agent("workers-1", "no request"), Err(CaError::Request(_))));
    }

    #[test]
    fn a_key_of_another_root_is_noticed() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        authority(one.path());
        authority(other.path());
        std::fs::copy(other.path().join("ca/root.key"), one.path().join("ca/root.key")).unwrap();
        let opened = Authority::open_or_create(one.path(), realm(), Arc::new(ManualClock::at(NOW)));
        assert!(matches!(opened, Err(CaError::Damaged("root.key"))));
    }
}
