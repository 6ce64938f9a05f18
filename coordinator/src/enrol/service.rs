//! The two calls: `Enrol`, whose proof is a token, an instance and an address, and `Renew`, whose proof is a node's newest
//! certificate, expired or not.

use std::{net::IpAddr, sync::Arc};

use muster_ids::{Digest, NodeName};
use muster_proto::{
    Clock, Role,
    tls::server::Connection,
    v1::{Certificate, EnrolRequest, RenewRequest, enrolment_server},
};
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _};
use tonic::{Request, Response, Status};

use super::{Identities, IdentityStore, Refusal};
use crate::{
    authz,
    ca::{Authority, CaError, Issued},
    cloud::{Answer, Cloud},
    store::StoreError,
};

/// What enrolment asks of the provider: whether this node's instance runs and has this address.
pub trait Vouch: Send + Sync + 'static {
    fn vouch<'a>(&'a self, node: &'a NodeName, instance: &'a str, address: IpAddr) -> Answer<'a, bool>;
}

impl Vouch for Arc<dyn Cloud> {
    fn vouch<'a>(&'a self, node: &'a NodeName, instance: &'a str, address: IpAddr) -> Answer<'a, bool> {
        (**self).vouch(node, instance, address)
    }
}

/// The service.
pub struct Enrolment {
    authority: Arc<Authority>,
    store: Arc<dyn IdentityStore>,
    provider: Arc<dyn Vouch>,
    clock: Arc<dyn Clock>,
}

impl Enrolment {
    pub fn new(
        authority: Arc<Authority>,
        store: Arc<dyn IdentityStore>,
        provider: Arc<dyn Vouch>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { authority, store, provider, clock }
    }

    fn read(&self) -> Result<Identities, Status> {
        self.store.read().map_err(unreachable)
    }

    fn answer(&self, name: &str, issued: Issued) -> Response<Certificate> {
        Response::new(Certificate {
            chain_pem: issued.chain_pem,
            ca_pem: self.authority.ca_pem().to_owned(),
            catalog_key_pem: self.authority.catalog_key_pem(),
            node: name.to_owned(),
        })
    }

    /// Changes the identities; a refusal changes nothing.
    fn change<T>(&self, mut change: impl FnMut(&mut Identities) -> Result<T, Refusal>) -> Result<T, Status> {
        let mut outcome = None;
        let changed = self.store.change(&mut |identities| outcome.insert(change(identities)).is_ok());
        changed.map_err(unreachable)?;
        outcome.ok_or_else(|| Status::internal("the store changed nothing"))?.map_err(refuse)
    }
}

fn unreachable(error: StoreError) -> Status {
    tracing::error!(error = &error as &dyn std::error::Error, "the store does not answer");
    Status::unavailable("the coordinator cannot reach its store; try again")
}

fn refuse(refusal: Refusal) -> Status {
    tracing::warn!(reason = %refusal, "no certificate was given");
    Status::permission_denied(refusal.to_string())
}

fn failed(error: CaError) -> Status {
    match error {
        CaError::Request(_) | CaError::Name { .. } => Status::invalid_argument(error.to_string()),
        CaError::File(_)
        | CaError::Damaged(_)
        | CaError::Make(_)
        | CaError::Catalog(_)
        | CaError::Credentials(_)
        | CaError::Random => {
            tracing::error!(error = &error as &dyn std::error::Error, "the CA made no certificate");
            Status::internal("the CA made no certificate")
        }
    }
}

#[tonic::async_trait]
impl enrolment_server::Enrolment for Enrolment {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<Certificate>, Status> {
        let Some(address) = request.extensions().get::<Connection>().map(|connection| connection.address.ip()) else {
            return Err(Status::internal("the connection is unknown"));
        };
        let EnrolRequest { token, instance, csr_pem } = request.into_inner();
        let token = Digest::of(token);
        let csr = CertificateSigningRequestParams::from_pem(&csr_pem).map_err(|e| failed(CaError::Request(e)))?;
        let key = Digest::of(csr.public_key.der_bytes());
        let now = self.clock.now();

        // Look, ask the provider, then take: a caller from the wrong place uses nobody's token up.
        let known = self.read()?;
        let node = known.look(&token, &key, &instance, now).map_err(refuse)?.clone();
        let canonical = address.to_canonical();
        let vouched = self.provider.vouch(&node, &instance, canonical).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, %node, "the provider could not vouch");
            Status::unavailable("the provider cannot say yet whose instance this is; try again")
        })?;
        if !vouched {
            tracing::warn!(%node, instance, %address, "an enrolment came from an instance that the provider does not vouch for");
            return Err(Status::permission_denied(format!(
                "the provider has no running instance {instance} of {node} at {canonical}"
            )));
        }
        let issued = self.authority.issue_agent(node.as_str(), &csr_pem).map_err(failed)?;
        let (serial, not_after) = (issued.serial, issued.not_after);
        let node = self.change(|identities| {
            let node = identities.take(&token, key, &instance, now)?;
            identities.issued(Role::Agent, node.as_str(), serial, not_after, now);
            Ok(node)
        })?;
        tracing::info!(%node, %address, %serial, "enrolled");
        Ok(self.answer(node.as_str(), issued))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        let peer = authz::peer(&request)?.clone();
        let now = self.clock.now();
        self.read()?.may_renew(&peer, now).map_err(refuse)?;
        let issued = self.authority.issue_agent(&peer.name, &request.get_ref().csr_pem).map_err(failed)?;
        self.change(|identities| {
            identities.may_renew(&peer, now)?;
            identities.shown(&peer);
            identities.issued(peer.role, &peer.name, issued.serial, issued.not_after, now);
            Ok(())
        })?;
        tracing::info!(role = %peer.role, name = peer.name, serial = %issued.serial, expired = peer.expired, "renewed");
        Ok(self.answer(&peer.name, issued))
    }
}
