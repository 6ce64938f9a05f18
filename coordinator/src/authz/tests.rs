//! Every method that the contract has, with every kind of certificate, over real TLS on loopback. A new method is covered
//! without a change here: the list is the contract's.

use muster_proto::{Method, Peer, Revocations, Role};
use tonic::{Code, codegen::http, service::Routes};

use super::{
    Rule, rule,
    testing::{HOUR, Lab, call},
};

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
    ExpiredOperator,
    RevokedAgent,
    RevokedNode,
    /// The right role, another node: one that is no control plane.
    Worker,
    ControlPlane,
    Operator,
    /// Signed by another CA for the same names.
    Foreign,
    /// The coordinator's own certificate, used as a client's.
    Servers,
    /// Expired for more than 30 days.
    LongGone,
}

/// Who gets through, said apart from the code that decides: by rule, the only ones.
fn welcome(rule: Rule) -> &'static [Shows] {
    use Shows::*;
    match rule {
        // No certificate is needed; one that does not stand is refused with the connection.
        Rule::Anyone => &[Nothing, ExpiredAgent, ExpiredOperator, Worker, ControlPlane, Operator],
        Rule::Renewal => &[ExpiredAgent, Worker, ControlPlane],
        Rule::Agent => &[Worker, ControlPlane],
        Rule::ControlPlane => &[ControlPlane],
        Rule::Operator => &[Operator],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_with_every_certificate() {
    use Shows::*;
    let lab = Lab::new();
    let long_gone = lab.credentials(Role::Agent, "control-plane-9");
    lab.clock.advance(30 * 24 * HOUR);
    let expired_agent = lab.credentials(Role::Agent, "control-plane-8");
    let expired_operator = lab.credentials(Role::Operator, "erin");
    lab.clock.advance(25 * HOUR);
    let revoked = lab.credentials(Role::Agent, "control-plane-7");
    let serial = muster_proto::identity::Leaf::read(revoked.leaf()).unwrap().identity.serial;
    lab.revoke.send_replace(
        Revocations { serials: [serial].into(), nodes: ["control-plane-6".parse().unwrap()].into() }.into(),
    );
    let server = lab.serve(echo()).await;
    let other = Lab::new();
    let (foreign, servers) = (other.credentials(Role::Agent, "control-plane-1"), lab.authority.issue_own().unwrap());
    // Foreign and misused certificates are refused by our own client before they are shown, so these two are shown by one
    // that checks nothing.
    let unchecked = |credentials| unchecked_channel(&lab, server.address, credentials);

    let shows = [
        (Nothing, "nobody", lab.channel(server.address, None)),
        (ExpiredAgent, "control-plane-8", lab.channel(server.address, Some(expired_agent))),
        (ExpiredOperator, "erin", lab.channel(server.address, Some(expired_operator))),
        (RevokedAgent, "control-plane-7", lab.channel(server.address, Some(revoked))),
        (
            RevokedNode,
            "control-plane-6",
            lab.channel(server.address, Some(lab.credentials(Role::Agent, "control-plane-6"))),
        ),
        (Worker, "workers-1", lab.channel(server.address, Some(lab.credentials(Role::Agent, "workers-1")))),
        (
            ControlPlane,
            "control-plane-1",
            lab.channel(server.address, Some(lab.credentials(Role::Agent, "control-plane-1"))),
        ),
        (Operator, "dana", lab.channel(server.address, Some(lab.credentials(Role::Operator, "dana")))),
        (Foreign, "control-plane-1", unchecked(foreign)),
        (Servers, "coordinator", unchecked(servers)),
        (LongGone, "control-plane-9", unchecked(long_gone)),
    ];
    let mut tried = 0;
    for method in Method::ALL {
        for (shows, name, channel) in &shows {
            let answer = call(channel.clone(), method.path()).await;
            if welcome(rule(*method)).contains(shows) {
                assert_eq!(answer.as_deref().ok(), Some(*name), "{method:?} with {shows:?}: {answer:?}");
            } else {
                let status = answer.expect_err(&format!("{method:?} with {shows:?} went through"));
                let expected: &[Code] = match shows {
                    Nothing | ExpiredAgent | ExpiredOperator => &[Code::Unauthenticated],
                    Worker | ControlPlane | Operator => &[Code::PermissionDenied],
                    // Refused with the connection: what the client sees of that is up to chance.
                    RevokedAgent | RevokedNode | Foreign | Servers | LongGone => {
                        &[Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal]
                    }
                };
                assert!(expected.contains(&status.code()), "{method:?} with {shows:?}: {status:?}");
            }
            tried += 1;
        }
    }
    assert_eq!(tried, Method::ALL.len() * shows.len());
    // A path outside the contract reaches no service.
    let unknown = call(lab.channel(server.address, None), "/muster.v1.Agent/Shell").await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
}

/// A client that shows what it is told to.
fn unchecked_channel(
    lab: &Lab,
    server: std::net::SocketAddr,
    shown: muster_proto::tls::Credentials,
) -> tonic::transport::Channel {
    use std::sync::Arc;
    let mut config =
        (*muster_proto::tls::client::config(None, lab.trust(), &super::testing::realm(), Arc::new(lab.clock.clone()))
            .unwrap())
        .clone();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&shown.key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(shown.chain, key);
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let (_, config) = tokio::sync::watch::channel(Arc::new(config));
    muster_proto::tls::client::channel(&server.to_string(), config, muster_proto::tls::io::tcp()).unwrap()
}
