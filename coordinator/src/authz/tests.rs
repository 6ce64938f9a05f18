//! Every method that the contract has, with every kind of certificate, over real TLS on loopback; and what the gate alone
//! refuses.

use std::{net::SocketAddr, sync::Arc};

use muster_proto::{Method, OperatorRole, Peer, Revocations, identity::Leaf, tls::Credentials};
use tokio::sync::watch;
use tonic::{Code, codegen::http, service::Routes, transport::Channel};

use super::testing::{HOUR, Lab, call};

/// A service that answers every call, and says whom it saw. Nothing but the gate stands before it.
fn echo() -> Routes {
    axum::Router::new()
        .fallback(|request: http::Request<axum::body::Body>| async move {
            let caller = request.extensions().get::<Peer>().map_or("nobody".to_owned(), |peer| peer.name.clone());
            http::Response::builder()
                .header("content-type", "application/grpc")
                .header("caller", caller)
                .body(axum::body::Body::empty())
                .unwrap()
        })
        .into()
}

/// What a caller shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Nothing,
    ExpiredAgent,
    ExpiredAdmin,
    RevokedAgent,
    RevokedNode,
    RevokedAdmin,
    /// The right role, another node: one that is no control plane.
    Worker,
    ControlPlane,
    Reader,
    Applier,
    Admin,
    /// An operator's from before there were roles.
    RolelessOperator,
    /// Signed by another CA for the same names.
    Foreign,
    /// The coordinator's own certificate, used as a client's.
    Servers,
    /// Expired for more than 30 days.
    LongGone,
    /// The same, and an operator has readmitted the node.
    Readmitted,
}

use Shows::*;

/// No certificate is needed; one that does not stand is refused with the connection.
const ANYONE: &[Shows] =
    &[Nothing, ExpiredAgent, ExpiredAdmin, Readmitted, Worker, ControlPlane, Reader, Applier, Admin, RolelessOperator];
const RENEWAL: &[Shows] = &[ExpiredAgent, Readmitted, Worker, ControlPlane];
const AGENTS: &[Shows] = &[Worker, ControlPlane];
const CONTROL_PLANES: &[Shows] = &[ControlPlane];
const READ: &[Shows] = &[Reader, Applier, Admin, RolelessOperator];
const APPLY: &[Shows] = &[Applier, Admin, RolelessOperator];
const ADMIN: &[Shows] = &[Admin, RolelessOperator];

/// Who gets through, by hand: the code that decides has no part in it. A new method needs a line here.
const TABLE: &[(&str, &[Shows])] = &[
    ("/muster.v1.Enrolment/Enrol", ANYONE),
    ("/muster.v1.Enrolment/Renew", RENEWAL),
    ("/muster.v1.Agent/Pull", AGENTS),
    ("/muster.v1.Agent/Watch", AGENTS),
    ("/muster.v1.Agent/Report", AGENTS),
    ("/muster.v1.Agent/AnswerDraft", AGENTS),
    ("/muster.v1.Agent/TakeTurn", AGENTS),
    ("/muster.v1.Agent/GiveTurn", AGENTS),
    ("/muster.v1.Agent/RequestJoin", AGENTS),
    ("/muster.v1.Agent/GetSecret", AGENTS),
    ("/muster.v1.Agent/OfferJoin", CONTROL_PLANES),
    ("/muster.v1.Agent/OfferSigned", CONTROL_PLANES),
    ("/muster.v1.Agent/ReportCluster", CONTROL_PLANES),
    ("/muster.v1.Operator/Status", READ),
    ("/muster.v1.Operator/Events", READ),
    ("/muster.v1.Operator/Plan", READ),
    ("/muster.v1.Operator/ListOperators", READ),
    ("/muster.v1.Operator/Apply", APPLY),
    ("/muster.v1.Operator/PauseNode", APPLY),
    ("/muster.v1.Operator/Kubeconfig", APPLY),
    ("/muster.v1.Operator/Backup", ADMIN),
    ("/muster.v1.Operator/RevokeNode", ADMIN),
    ("/muster.v1.Operator/ReadmitNode", ADMIN),
    ("/muster.v1.Operator/RevokeOperator", ADMIN),
];

#[test]
fn the_table_by_hand_has_every_method_once() {
    let mut by_hand: Vec<&str> = TABLE.iter().map(|(path, _)| *path).collect();
    let mut contract: Vec<&str> = Method::ALL.iter().map(|method| method.path()).collect();
    by_hand.sort_unstable();
    contract.sort_unstable();
    assert_eq!(by_hand, contract);
}

fn serial(credentials: &Credentials) -> muster_proto::Serial {
    Leaf::read(credentials.leaf()).unwrap().identity.serial
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_with_every_certificate() {
    let lab = Lab::new();
    let operator = |role, name| lab.operator(Some(role), name);
    let (long_gone, readmitted) = (lab.agent("control-plane-9"), lab.agent("control-plane-5"));
    lab.clock.advance(30 * 24 * HOUR);
    let (expired_agent, expired_admin) = (lab.agent("control-plane-8"), operator(OperatorRole::Admin, "erin"));
    lab.clock.advance(25 * HOUR);
    let (revoked, revoked_admin) = (lab.agent("control-plane-7"), operator(OperatorRole::Admin, "mallory"));
    let revocations = Revocations {
        serials: [serial(&revoked), serial(&revoked_admin)].into(),
        nodes: ["control-plane-6".parse().unwrap()].into(),
        readmitted: [("control-plane-5".parse().unwrap(), i64::MAX)].into(),
        ..Revocations::default()
    };
    lab.revoke.send_replace(revocations.into());
    let server = lab.serve(echo()).await;
    let other = Lab::new();
    let (foreign, servers) = (other.agent("control-plane-1"), lab.authority.issue_own().unwrap());
    let shown = |credentials| lab.channel(server.address, Some(credentials));
    // Foreign and misused certificates are refused by our own client before they are shown, so these are shown by one that
    // checks nothing.
    let unchecked = |credentials| unchecked_channel(&lab, server.address, credentials);

    let shows = [
        (Nothing, "nobody", lab.channel(server.address, None)),
        (ExpiredAgent, "control-plane-8", shown(expired_agent)),
        (ExpiredAdmin, "erin", shown(expired_admin)),
        (RevokedAgent, "control-plane-7", shown(revoked)),
        (RevokedNode, "control-plane-6", shown(lab.agent("control-plane-6"))),
        (RevokedAdmin, "mallory", shown(revoked_admin)),
        (Worker, "workers-1", shown(lab.agent("workers-1"))),
        (ControlPlane, "control-plane-1", shown(lab.agent("control-plane-1"))),
        (Reader, "rita", shown(operator(OperatorRole::Read, "rita"))),
        (Applier, "paul", shown(operator(OperatorRole::Apply, "paul"))),
        (Admin, "dana", shown(operator(OperatorRole::Admin, "dana"))),
        (RolelessOperator, "olga", shown(lab.operator(None, "olga"))),
        (Foreign, "control-plane-1", unchecked(foreign)),
        (Servers, "coordinator", unchecked(servers)),
        (LongGone, "control-plane-9", shown(long_gone)),
        (Readmitted, "control-plane-5", shown(readmitted)),
    ];
    for (path, welcome) in TABLE {
        for (shows, name, channel) in &shows {
            let answer = call(channel.clone(), path).await;
            if welcome.contains(shows) {
                assert_eq!(answer.as_deref().ok(), Some(*name), "{path} with {shows:?}: {answer:?}");
                continue;
            }
            let status = answer.expect_err(&format!("{path} with {shows:?} went through"));
            let expected: &[Code] = match shows {
                Nothing | ExpiredAgent | ExpiredAdmin | Readmitted => &[Code::Unauthenticated],
                Worker | ControlPlane | Reader | Applier | Admin | RolelessOperator => &[Code::PermissionDenied],
                // Refused with the connection: what the client sees of that is up to chance.
                RevokedAgent | RevokedNode | RevokedAdmin | Foreign | Servers | LongGone => {
                    &[Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal]
                }
            };
            assert!(expected.contains(&status.code()), "{path} with {shows:?}: {status:?}");
        }
    }
    // A path outside the contract reaches no service.
    let unknown = call(lab.channel(server.address, None), "/muster.v1.Agent/Shell").await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_role_that_is_too_low_is_named_with_the_one_that_is_needed() {
    let lab = Lab::new();
    let server = lab.serve(echo()).await;
    let channel = lab.channel(server.address, Some(lab.operator(Some(OperatorRole::Read), "rita")));
    let denied = call(channel, Method::OperatorApply.path()).await.unwrap_err();
    let first = denied.message().lines().next().unwrap();
    assert_eq!(first, "this call needs the role apply, and the certificate of operator rita has read");
}

/// The listener never hears of a revocation here, and lets everybody in whom the CA signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_refuses_what_was_revoked_although_tls_lets_it_in() {
    let lab = Lab::new();
    let (_deaf, listener) = watch::channel(Arc::default());
    let server = lab.serve_deaf(echo(), listener).await;
    let by_serial = lab.agent("control-plane-1");
    let operator = lab.operator(Some(OperatorRole::Admin), "dana");
    let revocations = Revocations {
        serials: [serial(&by_serial)].into(),
        nodes: ["control-plane-2".parse().unwrap()].into(),
        operators: [("dana".parse().unwrap(), super::testing::NOW)].into(),
        ..Revocations::default()
    };
    let cases = [
        (by_serial, Method::AgentPull, "agent control-plane-1"),
        (lab.agent("control-plane-2"), Method::EnrolmentRenew, "agent control-plane-2"),
        (operator, Method::OperatorStatus, "operator dana"),
    ];
    let channels: Vec<_> =
        cases.map(|(shown, method, who)| (lab.channel(server.address, Some(shown)), method, who)).into();
    for (channel, method, who) in &channels {
        assert!(call(channel.clone(), method.path()).await.is_ok(), "{who} before");
    }
    lab.revoke.send_replace(revocations.into());
    for (channel, method, who) in &channels {
        // On the connection that is open, and on a new one.
        let refused = call(channel.clone(), method.path()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{who}");
        assert_eq!(refused.message(), format!("the certificate of {who} was revoked"));
    }
    let again = lab.channel(server.address, Some(lab.agent("control-plane-2")));
    assert_eq!(call(again, Method::AgentPull.path()).await.unwrap_err().code(), Code::PermissionDenied);
}

/// A client that shows what it is told to.
fn unchecked_channel(lab: &Lab, server: SocketAddr, shown: Credentials) -> Channel {
    use muster_proto::tls::{client, io};
    let realm = super::testing::realm();
    let mut config = (*client::config(None, lab.trust(), &realm, Arc::new(lab.clock.clone())).unwrap()).clone();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&shown.key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(shown.chain, key);
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let (_, config) = watch::channel(Arc::new(config));
    client::channel(&server.to_string(), config, io::tcp()).unwrap()
}
