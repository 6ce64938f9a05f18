//! Enrolment and renewal over real TLS on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use muster_ids::{Digest, NodeName};
use muster_proto::{
    OperatorRole,
    tls::{Credentials, Trust},
    v1::{
        Certificate, EnrolRequest, RenewRequest, enrolment_client::EnrolmentClient, enrolment_server::EnrolmentServer,
    },
};
use tonic::{Code, Status, service::Routes};

use super::{Enrolment, IdentityStore as _, MemoryIdentities, Vouch};
use crate::{
    authz::testing::{HOUR, Lab, NOW, Running, request},
    ca::Authority,
    cloud::Answer,
};

/// A provider with one instance, `i-1` of `workers-1`, at one address.
struct OneInstance(IpAddr);

impl Vouch for OneInstance {
    fn vouch<'a>(&'a self, node: &'a NodeName, instance: &'a str, address: IpAddr) -> Answer<'a, bool> {
        Box::pin(async move { Ok(node.as_str() == "workers-1" && instance == "i-1" && address == self.0) })
    }
}

struct Setup {
    lab: Lab,
    store: Arc<MemoryIdentities>,
    server: Running,
}

async fn setup(address: Ipv4Addr) -> Setup {
    let lab = Lab::new();
    let store = Arc::new(MemoryIdentities::default());
    let grant = |token: &str, node: &str| {
        store
            .change(&mut |identities| {
                identities.grant(Digest::of(token), node.parse().unwrap(), NOW);
                true
            })
            .unwrap();
    };
    grant("token-1", "workers-1");
    grant("token-2", "workers-2");
    let service = Enrolment::new(
        lab.authority.clone(),
        store.clone(),
        Arc::new(OneInstance(address.into())),
        Arc::new(lab.clock.clone()),
    );
    let server = lab.serve(Routes::new(EnrolmentServer::new(service))).await;
    Setup { lab, store, server }
}

impl Setup {
    async fn enrol(&self, token: &str, instance: &str, csr: &str) -> Result<Certificate, Status> {
        let pinned = Trust::Pin(self.lab.authority.pin());
        let channel = self.lab.channel_trusting(self.server.address, None, pinned);
        let request = EnrolRequest { token: token.to_owned(), instance: instance.to_owned(), csr_pem: csr.to_owned() };
        Ok(EnrolmentClient::new(channel).enrol(request).await?.into_inner())
    }

    async fn renew(&self, credentials: &Credentials) -> Result<Credentials, Status> {
        let (key, csr_pem) = request();
        let channel = self.lab.channel(self.server.address, Some(credentials.clone()));
        let certificate = EnrolmentClient::new(channel).renew(RenewRequest { csr_pem }).await?.into_inner();
        Ok(Credentials::from_pem(&certificate.chain_pem, &key.serialize_pem(), &certificate.ca_pem).unwrap())
    }

    async fn enrolled(&self) -> Credentials {
        let (key, csr) = request();
        let certificate = self.enrol("token-1", "i-1", &csr).await.unwrap();
        Credentials::from_pem(&certificate.chain_pem, &key.serialize_pem(), &certificate.ca_pem).unwrap()
    }
}

#[tokio::test]
async fn a_token_gives_one_certificate_for_one_key() {
    let setup = setup(Ipv4Addr::LOCALHOST).await;
    let (_, csr) = request();
    let certificate = setup.enrol("token-1", "i-1", &csr).await.unwrap();
    assert_eq!(certificate.node, "workers-1");
    assert_eq!(certificate.catalog_key_pem, setup.lab.authority.catalog_key_pem());
    // Its answer got lost: the same key may ask again. Another may not.
    assert!(setup.enrol("token-1", "i-1", &csr).await.is_ok());
    let (_, thief) = request();
    let status = setup.enrol("token-1", "i-1", &thief).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "the enrolment token was used already"));
}

#[tokio::test]
async fn wrong_tokens_instances_and_requests_get_nothing_and_use_nothing_up() {
    let setup = setup(Ipv4Addr::LOCALHOST).await;
    let (_, csr) = request();
    for (token, instance) in [("guess", "i-1"), ("token-1", "i-2"), ("token-2", "i-1"), ("", "")] {
        let status = setup.enrol(token, instance, &csr).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{token} {instance}: {status:?}");
    }
    assert_eq!(setup.enrol("token-1", "i-1", "no request").await.unwrap_err().code(), Code::InvalidArgument);
    assert!(setup.store.read().unwrap().tokens.values().all(|token| token.used.is_none()));
    assert!(setup.enrol("token-1", "i-1", &csr).await.is_ok());
}

#[tokio::test]
async fn a_token_from_another_address_gets_nothing() {
    let setup = setup(Ipv4Addr::new(10, 89, 1, 4)).await;
    let (_, csr) = request();
    let status = setup.enrol("token-1", "i-1", &csr).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("127.0.0.1"), "{status:?}");
    assert!(setup.store.read().unwrap().tokens[&Digest::of("token-1")].used.is_none());
}

#[tokio::test]
async fn a_pin_of_another_ca_stops_the_client_before_it_shows_its_token() {
    let setup = setup(Ipv4Addr::LOCALHOST).await;
    let elsewhere = Lab::new();
    let channel = setup.lab.channel_trusting(setup.server.address, None, Trust::Pin(elsewhere.authority.pin()));
    let (_, csr_pem) = request();
    let request = EnrolRequest { token: "token-1".to_owned(), instance: "i-1".to_owned(), csr_pem };
    assert!(EnrolmentClient::new(channel).enrol(request).await.is_err());
    assert!(setup.store.read().unwrap().tokens[&Digest::of("token-1")].used.is_none());
}

#[tokio::test]
async fn after_a_weekend_the_newest_certificate_renews_and_only_it() {
    let setup = setup(Ipv4Addr::LOCALHOST).await;
    let first = setup.enrolled().await;
    setup.lab.clock.advance(12 * HOUR);
    let second = setup.renew(&first).await.unwrap();
    setup.lab.clock.advance(HOUR);
    let third = setup.renew(&second).await.unwrap();

    setup.lab.clock.advance(72 * HOUR);
    // The server was off as well: it comes back with a certificate of now.
    let mut setup = setup;
    setup.server.rotation.renew().unwrap();
    let stale = setup.renew(&first).await.unwrap_err();
    assert_eq!(stale.code(), Code::PermissionDenied);
    assert!(stale.message().contains("newer certificate"), "{stale:?}");
    let fourth = setup.renew(&third).await.unwrap();
    assert!(setup.renew(&fourth).await.is_ok());
}

#[tokio::test]
async fn thirty_days_are_the_end_but_for_who_is_readmitted() {
    let mut setup = setup(Ipv4Addr::LOCALHOST).await;
    let first = setup.enrolled().await;
    setup.lab.clock.advance(32 * 24 * HOUR);
    setup.server.rotation.renew().unwrap();
    assert!(setup.renew(&first).await.is_err(), "refused with the connection");
    let now = muster_proto::Clock::now(&setup.lab.clock);
    let readmit = |identities: &mut super::Identities| {
        identities.readmit("workers-1".parse().unwrap(), now);
        true
    };
    setup.store.change(&mut { readmit }).unwrap();
    setup.lab.revoke.send_replace(setup.store.read().unwrap().revocations.into());
    let second = setup.renew(&first).await.unwrap();
    // Its word holds for one certificate.
    setup.lab.revoke.send_replace(setup.store.read().unwrap().revocations.into());
    assert!(setup.renew(&first).await.is_err());
    assert!(setup.renew(&second).await.is_ok());
}

#[tokio::test]
async fn a_revoked_node_renews_nothing() {
    let setup = setup(Ipv4Addr::LOCALHOST).await;
    let first = setup.enrolled().await;
    setup
        .store
        .change(&mut |identities| {
            identities.revoke_node(&"workers-1".parse().unwrap());
            true
        })
        .unwrap();
    // Even where the gate has not heard of it yet.
    let status = setup.renew(&first).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("revoked"), "{status:?}");
}

#[tokio::test]
async fn an_operator_renews_nothing() {
    let mut setup = setup(Ipv4Addr::LOCALHOST).await;
    let stolen = setup.lab.operator(Some(OperatorRole::Admin), "dana");
    setup.lab.clock.advance(20 * HOUR);
    assert_eq!(setup.renew(&stolen).await.unwrap_err().code(), Code::PermissionDenied);
    setup.lab.clock.advance(5 * HOUR);
    setup.server.rotation.renew().unwrap();
    let status = setup.renew(&stolen).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().ends_with("a new one has to be issued"), "{status:?}");
    assert!(setup.store.read().unwrap().members.is_empty(), "nothing was issued");
}

#[test]
fn an_authority_is_shared_between_tasks() {
    fn shared<T: Send + Sync>() {}
    shared::<Authority>();
    shared::<SocketAddr>();
}
