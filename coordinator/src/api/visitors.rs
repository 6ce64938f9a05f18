//! Connections of plain HTTP: limited in number and ended when they rest, so that they take no file from those who show a
//! certificate.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use muster_proto::tls::guests::{Guests, PLACES, Place};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};

/// On which nothing moves for so long, in either direction, is cut. A node that fetches its program reads all the time.
const REST: Duration = Duration::from_secs(30);

/// The listener.
pub struct Visitors {
    listener: TcpListener,
    guests: Arc<Guests>,
    rest: Duration,
}

impl Visitors {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, guests: Guests::new(PLACES), rest: REST }
    }
}

impl axum::serve::Listener for Visitors {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let place = self.guests.admit(address.ip()).await;
                    let cut = Box::pin(place.cut());
                    let visitor =
                        Visitor { stream, rest: self.rest, rests: Box::pin(sleep(self.rest)), cut, _place: place };
                    return (visitor, address);
                }
                Err(error) => {
                    // Out of descriptors, or a peer that left while queued: neither ends the server.
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One of them.
pub struct Visitor {
    stream: TcpStream,
    rest: Duration,
    rests: Pin<Box<Sleep>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

impl Visitor {
    /// Whether it has to go; else its task is woken when it has.
    fn poll_stays(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() || self.rests.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn moved(&mut self) {
        let until = Instant::now() + self.rest;
        self.rests.as_mut().reset(until);
    }
}

impl AsyncRead for Visitor {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_stays(cx)?;
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        this.moved();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_stays(cx)?;
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf));
        this.moved();
        Poll::Ready(written)
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
    use axum::{Router, routing::get};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    /// A server that lets connections rest for so long.
    async fn serve(rest: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let visitors = Visitors { rest, ..Visitors::new(listener) };
        let slow = get(async || {
            // Longer than a connection may rest, and not at rest.
            let parts = futures::stream::unfold(0, async |part| {
                tokio::time::sleep(SHORT / 3).await;
                (part < 6).then_some((Ok::<_, io::Error>("part "), part + 1))
            });
            axum::body::Body::from_stream(parts)
        });
        let routes = Router::new().route("/healthz", get(async || "ok")).route("/slow", slow);
        tokio::spawn(async move { axum::serve(visitors, routes).await });
        address
    }

    async fn got(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_connection_that_rests_is_cut_and_a_slow_download_is_not() {
        let address = serve(SHORT).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(got(address, "/slow").await.ends_with("\r\n\r\npart part part part part part "));
        let mut said = Vec::new();
        let end = timeout(SHORT * 4, idle.read_to_end(&mut said)).await.expect("it is cut");
        assert!(matches!(end, Ok(0) | Err(_)) && said.is_empty(), "{end:?}");
    }

    #[tokio::test]
    async fn more_than_its_share_of_one_address_go_for_the_next() {
        let address = serve(REST).await;
        let mut crowd = Vec::new();
        for _ in 0..256 + 20 {
            crowd.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(timeout(Duration::from_secs(5), got(address, "/healthz")).await.unwrap().ends_with("ok"));
        let mut said = Vec::new();
        drop(timeout(Duration::from_secs(5), crowd[0].read_to_end(&mut said)).await.expect("the oldest went"));
        assert!(timeout(SHORT, crowd[256].read_to_end(&mut said)).await.is_err(), "the youngest are here");
    }
}
