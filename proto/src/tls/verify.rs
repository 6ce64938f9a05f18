//! Who is let in, and whom a client believes. Both wrap rustls' own verifiers, which check chain, usage and signature,
//! and add what is muster's: the URI identity, the realm, revocations, and for clients the grace of an expired certificate.

use std::{sync::Arc, time::Duration};

use muster_ids::Digest;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tokio::sync::watch;

use super::{TlsError, provider, roots};
use crate::{
    clock::unix_time,
    identity::{Identity, InvalidCertificate, Leaf, Realm, Revocations, Role},
};

/// How long after its end a certificate can still be renewed: 30 days, so that a weekend, or a holiday, off freezes nobody.
/// Later only a node that an operator has readmitted renews its own.
pub const EXPIRED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The name that every coordinator's certificate carries and every client asks for, wherever it dials: the address is
/// the environment's business, the identity is the certificate's.
pub const SERVER_NAME: &str = "coordinator.muster";

/// The SHA-256 of the CA's certificate (DER): what a new node knows before it knows the CA.
pub fn pin(ca: &CertificateDer<'_>) -> Digest {
    Digest::of(ca.as_ref())
}

/// What a client believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// This CA.
    Ca(CertificateDer<'static>),
    /// The CA with this pin, which the server sends behind its certificate; for the first enrolment.
    Pin(Digest),
}

fn refused(reason: InvalidCertificate) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// The server's judgement of clients.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    realm: Realm,
    revocations: watch::Receiver<Arc<Revocations>>,
}

impl ClientVerifier {
    pub(super) fn new(
        ca: &CertificateDer<'_>,
        realm: Realm,
        revocations: watch::Receiver<Arc<Revocations>>,
    ) -> Result<Self, TlsError> {
        let inner = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| TlsError::Root(e.into()))?;
        Ok(Self { inner, realm, revocations })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    /// Enrolment has no certificate yet; which methods may be called without one is decided per method.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let leaf = Leaf::read(end_entity).and_then(|leaf| leaf.of(&self.realm)).map_err(refused)?;
        if leaf.identity.role.serves() {
            return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
        }
        let end = unix_time(leaf.not_after);
        let Identity { role, name, .. } = &leaf.identity;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now.as_secs() > end.as_secs().saturating_add(EXPIRED_FOR.as_secs())
            && !self.revocations.borrow().readmits(*role, name, seconds)
        {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        // The chain is leaf and root, and roots have no end here: judging as of the leaf's last second changes nothing else.
        let as_of = if now.as_secs() > end.as_secs() { end } else { now };
        let verified = self.inner.verify_client_cert(end_entity, intermediates, as_of)?;
        if self.revocations.borrow().covers(&leaf) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A client's judgement of the coordinator.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    trust: Trust,
    realm: Realm,
}

impl ServerVerifier {
    pub(super) fn new(trust: Trust, realm: Realm) -> Self {
        Self { trust, realm }
    }

    fn inner(&self, intermediates: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca = match &self.trust {
            Trust::Ca(ca) => ca,
            Trust::Pin(expected) => intermediates.iter().find(|ca| pin(ca) == *expected).ok_or_else(unknown)?,
        };
        let roots = roots(ca).map_err(|_| unknown())?;
        WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(|_| unknown())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = Leaf::read(end_entity).and_then(|leaf| leaf.of(&self.realm)).map_err(refused)?;
        if leaf.identity.role != Role::Coordinator {
            return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
        }
        let inner = self.inner(intermediates)?;
        // The CA comes along for those who know its pin alone; as a link of the chain it would only be in the way.
        inner.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
