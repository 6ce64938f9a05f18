//! For tests: a CA in a folder, a server on loopback, and clients with whatever certificate.

use std::{net::SocketAddr, sync::Arc};

use muster_ids::NodeName;
use muster_proto::{
    ManualClock, OperatorRole, Realm, Revocations,
    tls::{self, Credentials, Trust, client, server::ServerTls},
    v1::Empty,
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, codegen::http, service::Routes, transport::Channel};

use super::{ControlPlanes, Gate, serve};
use crate::ca::{Authority, Issued, Rotation};

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const HOUR: i64 = 3600;

pub(crate) struct NamedControlPlanes;

impl ControlPlanes for NamedControlPlanes {
    fn is_control_plane(&self, node: &NodeName) -> bool {
        node.as_str().starts_with("control-plane-")
    }
}

pub(crate) struct Lab {
    _folder: tempfile::TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) authority: Arc<Authority>,
    pub(crate) revoke: watch::Sender<Arc<Revocations>>,
    pub(crate) revocations: watch::Receiver<Arc<Revocations>>,
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) rotation: Rotation,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW);
        let authority = Authority::open_or_create(folder.path(), realm(), Arc::new(clock.clone())).unwrap();
        let (revoke, revocations) = watch::channel(Arc::default());
        Self { _folder: folder, clock, authority: Arc::new(authority), revoke, revocations }
    }

    pub(crate) async fn serve(&self, routes: Routes) -> Running {
        self.serve_deaf(routes, self.revocations.clone()).await
    }

    /// A server whose connections are judged by `listener`'s revocations, and whose gate by the lab's.
    pub(crate) async fn serve_deaf(&self, routes: Routes, listener: watch::Receiver<Arc<Revocations>>) -> Running {
        let clock: Arc<ManualClock> = Arc::new(self.clock.clone());
        let (rotation, identity) = Rotation::start(self.authority.clone(), listener.clone(), clock.clone()).unwrap();
        let tls = ServerTls {
            realm: realm(),
            identity,
            revocations: listener,
            clock: clock.clone(),
            cut: CancellationToken::new(),
        };
        let gate = Gate::new(Arc::new(NamedControlPlanes), self.revocations.clone(), clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(serve(listener, tls, gate, routes, async move { drop(stopped.await) }));
        Running { address, rotation, stop: Some(stop) }
    }

    /// A certificate of this lab's CA for an agent.
    pub(crate) fn agent(&self, name: &str) -> Credentials {
        let (key, csr) = request();
        self.credentials(&key, self.authority.issue_agent(name, &csr).unwrap())
    }

    /// The same for an operator; without a role as before there were any.
    pub(crate) fn operator(&self, role: Option<OperatorRole>, name: &str) -> Credentials {
        let (key, csr) = request();
        let issued = match role {
            Some(role) => self.authority.issue_operator(role, name, &csr),
            None => self.authority.issue_without_role(name, &csr),
        };
        self.credentials(&key, issued.unwrap())
    }

    fn credentials(&self, key: &KeyPair, issued: Issued) -> Credentials {
        Credentials::from_pem(&issued.chain_pem, &key.serialize_pem(), self.authority.ca_pem()).unwrap()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::Ca(tls::certificate_from_pem(self.authority.ca_pem()).unwrap())
    }

    /// A channel whose certificate is what the other end of the watch says.
    pub(crate) fn channel(&self, server: SocketAddr, credentials: Option<Credentials>) -> Channel {
        self.channel_trusting(server, credentials, self.trust())
    }

    pub(crate) fn channel_trusting(&self, server: SocketAddr, shown: Option<Credentials>, trust: Trust) -> Channel {
        let config = client::config(shown, trust, &realm(), Arc::new(self.clock.clone())).unwrap();
        let (_, config) = watch::channel(config);
        client::channel(&server.to_string(), config, tls::io::tcp()).unwrap()
    }
}

pub(crate) fn realm() -> Realm {
    Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() }
}

/// A key and a request for it.
pub(crate) fn request() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

/// Calls a method by its path with an empty message; what comes back is the `caller` that the handler saw.
pub(crate) async fn call(channel: Channel, path: &'static str) -> Result<String, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<Empty, Empty>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = grpc.server_streaming(tonic::Request::new(Empty {}), path, codec).await?;
    let caller = answer.metadata().get("caller").and_then(|caller| caller.to_str().ok()).unwrap_or_default();
    Ok(caller.to_owned())
}
