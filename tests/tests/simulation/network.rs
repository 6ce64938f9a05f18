//! The simulated network behind the product's own listeners and dialers.

use std::{io, net::SocketAddr, sync::Arc};

use muster_proto::tls::io::{Accept, Dial, Wire};
use turmoil::net::{TcpListener, TcpStream};

/// A listener of the simulation.
pub struct Listen(TcpListener);

impl Listen {
    pub async fn on(port: u16) -> io::Result<Self> {
        Ok(Self(TcpListener::bind(("0.0.0.0", port)).await?))
    }
}

impl Accept for Listen {
    type Wire = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// Dials over the simulated network.
pub fn dial() -> Dial {
    Arc::new(|address| {
        Box::pin(async move {
            let address: SocketAddr = address.parse().map_err(io::Error::other)?;
            Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Wire>)
        })
    })
}
