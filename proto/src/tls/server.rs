//! The accepting side: every connection is verified with the configuration of its moment, carries its peer to the
//! handlers, and ends when that peer may no longer speak.
//!
//! A connection is cut, streams and all, as soon as its certificate is revoked, ends, or the server's own ends; and
//! asked to come again after [`CONNECTION_AGE`] at most, which clients see as one failed call to retry. One without a
//! certificate is cut when it calls nothing, when its call takes too long, or when others need its place (`guests`).

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ServerConfig, client::danger::ServerCertVerifier as _, pki_types::ServerName, server::NoServerSessionStorage,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{
    Credentials, TlsError, Trust, alpn,
    guests::{Guests, PLACES, Place},
    io::{Accept, Wire},
    provider,
    verify::{ClientVerifier, SERVER_NAME, ServerVerifier},
};
use crate::{
    clock::{Clock, RustlsClock, unix_time},
    identity::{Leaf, Peer, Realm, Revocations},
};

/// After this long a connection is asked to be made anew, with the certificates of that day.
pub const CONNECTION_AGE: Duration = Duration::from_secs(6 * 3600);

const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection without a certificate may last, from its handshake on.
struct Visit {
    first_call: Duration,
    end: Duration,
}

/// An enrolment takes one call, which its agent gives up after 30 s.
const VISIT: Visit = Visit { first_call: Duration::from_secs(10), end: Duration::from_secs(60) };
/// How long an expired peer's connection lives: a renewal takes one call.
const RENEWAL: i64 = 60;

/// What the server shows, proven to stand before its own clients.
#[derive(Debug, Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    not_after: i64,
}

impl Identity {
    /// Validates the credentials as a client would, and makes the configuration. The CA goes out behind the certificate, for
    /// those who know its pin alone.
    pub fn new(
        credentials: Credentials,
        realm: &Realm,
        revocations: watch::Receiver<Arc<Revocations>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let leaf = Leaf::read(credentials.leaf())?.of(realm)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|e| TlsError::Root(e.into()))?;
        ServerVerifier::new(Trust::Ca(credentials.ca.clone()), realm.clone())
            .verify_server_cert(credentials.leaf(), &[], &name, &[], unix_time(clock.now()))
            .map_err(TlsError::Rejected)?;
        let clients = ClientVerifier::new(&credentials.ca, realm.clone(), revocations)?;
        let Credentials { mut chain, key, ca } = credentials;
        chain.truncate(1);
        chain.push(ca);
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(RustlsClock(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Config)?
            .with_client_cert_verifier(Arc::new(clients))
            .with_single_cert(chain, key)
            .map_err(TlsError::Config)?;
        config.alpn_protocols = alpn();
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), not_after: leaf.not_after })
    }

    /// Seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// What the accept loop watches.
#[derive(Clone)]
pub struct ServerTls {
    pub realm: Realm,
    pub identity: watch::Receiver<Identity>,
    pub revocations: watch::Receiver<Arc<Revocations>>,
    pub clock: Arc<dyn Clock>,
    /// Cancelled: every connection is cut. For the end of a shutdown, because streams do not end by themselves.
    pub cut: CancellationToken,
}

/// Whom a request comes from, in its extensions. Without a peer it is from someone who showed no certificate.
#[derive(Debug, Clone)]
pub struct Connection {
    pub address: SocketAddr,
    pub peer: Option<Peer>,
    called: CancellationToken,
}

impl Connection {
    /// It calls something: what nobody calls on is cut, where it showed no certificate.
    pub fn called(&self) {
        self.called.cancel();
    }
}

/// The builder of the gRPC server, with what every server of ours has set.
pub fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        // A peer that is cut off or frozen says nothing at all: it is known within six seconds.
        .http2_keepalive_interval(Some(Duration::from_secs(3)))
        .http2_keepalive_timeout(Some(Duration::from_secs(3)))
        // Without a grace: with one tonic closes abruptly, without it says GOAWAY first.
        .max_connection_age(CONNECTION_AGE)
}

/// Verified connections, for `serve_with_incoming`. Handshakes run beside each other; a failed one is logged and gone.
/// Dropping the stream stops listening.
pub fn incoming<L: Accept>(listener: L, tls: ServerTls) -> impl Stream<Item = io::Result<PeerIo<L::Wire>>> {
    let (connections, stream) = mpsc::channel(16);
    tokio::spawn(accept(listener, tls, connections));
    ReceiverStream::new(stream)
}

async fn accept<L: Accept>(mut listener: L, tls: ServerTls, connections: mpsc::Sender<io::Result<PeerIo<L::Wire>>>) {
    let guests = Guests::new(PLACES);
    loop {
        let accepted = tokio::select! {
            () = connections.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (wire, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that left while queued: neither ends the server.
                tracing::warn!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // The others wait in the kernel's queue meanwhile.
        let place = tokio::select! {
            () = connections.closed() => return,
            place = guests.admit(address.ip()) => place,
        };
        let (tls, connections) = (tls.clone(), connections.clone());
        tokio::spawn(async move {
            let cut = place.cut();
            let done = tokio::select! {
                () = cut => return tracing::debug!(%address, "a connection made room in its handshake"),
                done = timeout(HANDSHAKE, handshake(wire, address, tls, place)) => done,
            };
            match done {
                // A closed channel is a server that shuts down.
                Ok(Ok(peer)) => drop(connections.send(Ok(peer)).await),
                Ok(Err(error)) => tracing::info!(%address, %error, "a connection was refused"),
                Err(_) => tracing::info!(%address, "a connection never finished its handshake"),
            }
        });
    }
}

async fn handshake<W: Wire>(wire: W, address: SocketAddr, tls: ServerTls, place: Place) -> io::Result<PeerIo<W>> {
    let identity = tls.identity.borrow().clone();
    let stream = TlsAcceptor::from(identity.config).accept(wire).await?;
    let now = tls.clock.now();
    let peer = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        Some(certificate) => {
            let leaf = Leaf::read(certificate).and_then(|leaf| leaf.of(&tls.realm)).map_err(io::Error::other)?;
            Some(Peer::new(leaf, address, now))
        }
        None => None,
    };
    let end = match &peer {
        Some(peer) if peer.expired => now + RENEWAL,
        Some(peer) => peer.not_after.min(identity.not_after),
        None => identity.not_after,
    };
    // Whoever showed a certificate is no guest.
    let place = peer.is_none().then_some(place);
    let connection = Connection { address, peer: peer.clone(), called: CancellationToken::new() };
    let leave = leave(place, connection.called.clone(), VISIT);
    let ended = Box::pin(async move {
        tokio::select! {
            reason = ended(peer, end, tls) => reason,
            reason = leave => reason,
        }
    });
    Ok(PeerIo { stream, connection, ended, cut: None })
}

/// Returns when a guest has to go, with the reason; never for others. Its place is free then, or when this is dropped.
async fn leave(place: Option<Place>, called: CancellationToken, visit: Visit) -> &'static str {
    let Some(place) = place else { return std::future::pending().await };
    let end = sleep(visit.end);
    tokio::select! {
        () = place.cut() => return "others need the place of one without a certificate",
        () = sleep(visit.first_call) => return "it showed no certificate and called nothing",
        () = called.cancelled() => {}
    }
    tokio::select! {
        () = place.cut() => "others need the place of one without a certificate",
        () = end => "it showed no certificate and took too long",
    }
}

/// Returns when the connection may no longer be used, with the reason.
async fn ended(peer: Option<Peer>, end: i64, tls: ServerTls) -> &'static str {
    let ServerTls { mut revocations, clock, cut, .. } = tls;
    loop {
        let revoked = {
            let known = revocations.borrow_and_update();
            peer.as_ref().is_some_and(|peer| known.covers_peer(peer))
        };
        if revoked {
            return "its certificate was revoked";
        }
        tokio::select! {
            () = cut.cancelled() => return "the server stops",
            () = clock.sleep_until(end + 1) => return "its certificate has ended",
            changed = revocations.changed() => if changed.is_err() {
                return "the server stops";
            },
        }
    }
}

/// A TLS connection and whom it is with.
pub struct PeerIo<W> {
    stream: TlsStream<W>,
    connection: Connection,
    ended: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    cut: Option<&'static str>,
}

impl<W> PeerIo<W> {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.is_none()
            && let Poll::Ready(reason) = self.ended.as_mut().poll(cx)
        {
            tracing::info!(address = %self.connection.address, reason, "a connection was cut");
            self.cut = Some(reason);
        }
        match self.cut {
            Some(reason) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)),
            None => Ok(()),
        }
    }
}

impl<W> Connected for PeerIo<W> {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl<W: Wire> AsyncRead for PeerIo<W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl<W: Wire> AsyncWrite for PeerIo<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Only reading polls for the end, so that its waker is never replaced by a writer's.
        if let Some(reason) = this.cut {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);

    /// Why a guest goes who has as much time as `first_call` and `end` say.
    async fn goes(called: CancellationToken, first_call: Duration, end: Duration) -> Option<&'static str> {
        let guests = Guests::new(PLACES);
        let place = guests.admit(IpAddr::from([10, 89, 1, 4])).await;
        timeout(SHORT * 20, leave(Some(place), called, Visit { first_call, end })).await.ok()
    }

    #[tokio::test]
    async fn a_guest_has_time_for_its_first_call_and_for_its_end() {
        let called = CancellationToken::new();
        let silent = goes(called.clone(), SHORT, LONG).await;
        assert_eq!(silent, Some("it showed no certificate and called nothing"));
        called.cancel();
        assert_eq!(goes(called.clone(), SHORT, LONG).await, None);
        assert_eq!(goes(called, LONG, SHORT).await, Some("it showed no certificate and took too long"));
    }

    #[tokio::test]
    async fn whoever_showed_a_certificate_is_no_guest() {
        let none = leave(None, CancellationToken::new(), Visit { first_call: SHORT, end: SHORT });
        assert!(timeout(SHORT * 20, none).await.is_err());
    }
}
