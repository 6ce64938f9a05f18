//! The gate: a layer before every service that lets a request through when [`decide`] does and its node did not call too
//! often, and puts its peer where the handlers find it. What is not in the table is denied.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::{Either, Ready, ready};
use muster_ids::NodeName;
use muster_proto::{Clock, Method, Peer, Revocations, Role, tls::server::Connection};
use tokio::sync::watch;
use tonic::{Request, Status, body::Body, codegen::http};
use tower::{Layer, Service};

use super::{Limits, decide};

/// Which nodes are control planes, by the newest blueprint.
pub trait ControlPlanes: Send + Sync + 'static {
    fn is_control_plane(&self, node: &NodeName) -> bool;
}

/// The layer.
#[derive(Clone)]
pub struct Gate {
    control_planes: Arc<dyn ControlPlanes>,
    revocations: watch::Receiver<Arc<Revocations>>,
    clock: Arc<dyn Clock>,
    limits: Arc<Mutex<Limits>>,
}

impl Gate {
    pub fn new(
        control_planes: Arc<dyn ControlPlanes>,
        revocations: watch::Receiver<Arc<Revocations>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { control_planes, revocations, clock, limits: Arc::default() }
    }

    fn check(&self, request: &mut http::Request<Body>) -> Result<(), Status> {
        let path = request.uri().path();
        let Some(method) = Method::from_path(path) else {
            return Err(Status::unimplemented("there is no such method"));
        };
        let Some(connection) = request.extensions().get::<Connection>().cloned() else {
            return Err(Status::internal("the connection is unknown"));
        };
        connection.called();
        let revocations = self.revocations.borrow().clone();
        let decided = decide(method, &connection, &revocations, &*self.control_planes, self.clock.now());
        if let Err(status) = &decided {
            let peer = connection.peer.as_ref().map(|peer| format!("{} {}", peer.role, peer.name));
            tracing::warn!(?method, address = %connection.address, peer, reason = status.message(), "a call was denied");
        }
        decided?;
        if let Some(peer) = connection.peer.as_ref().filter(|peer| peer.role == Role::Agent) {
            let now = tokio::time::Instant::now().into_std();
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            limits.take(method, &peer.name, now).map_err(|often| Status::resource_exhausted(often.to_string()))?;
        }
        if let Some(peer) = connection.peer {
            request.extensions_mut().insert(peer);
        }
        Ok(())
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<http::Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match self.gate.check(&mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

/// Who calls. Behind the gate every method but enrolment has one.
pub fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request.extensions().get::<Peer>().ok_or_else(|| Status::unauthenticated("this call needs a certificate"))
}
