//! The network as a parameter: listeners and dialers are handed in, real ones or a simulation's.

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A byte stream, whatever carries it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// Takes connections.
pub trait Accept: Send + 'static {
    type Wire: Wire;

    /// The next connection and where it comes from.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Wire, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Wire = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, address))
    }
}

/// What a dialer gives.
pub type Dialed = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Makes a connection to `host:port`.
pub type Dial = Arc<dyn Fn(String) -> Dialed + Send + Sync>;

/// TCP of this machine.
pub fn tcp() -> Dial {
    Arc::new(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    })
}
