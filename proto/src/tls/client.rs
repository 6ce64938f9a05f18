//! A channel to the coordinator that shows, at each dial, the newest certificate there is.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use tokio::{sync::watch, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use super::{
    Credentials, TlsError, Trust, alpn,
    io::{Dial, Wire},
    provider,
    verify::{ClientVerifier, SERVER_NAME, ServerVerifier},
};
use crate::{
    clock::{Clock, RustlsClock},
    identity::{Leaf, Realm, Revocations},
};
use rustls::server::danger::ClientCertVerifier as _;

/// For dialing and the handshake together.
const CONNECT: Duration = Duration::from_secs(10);
/// A coordinator that is silent for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client's configuration, if its certificate would stand before the coordinator's verifier. One that has expired does: it
/// can be renewed, and whether it is too late for that is the coordinator's to say.
pub fn config(
    credentials: Option<Credentials>,
    trust: Trust,
    realm: &Realm,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    if let Some(credentials) = &credentials {
        let ends = Leaf::read(credentials.leaf())?.of(realm)?.not_after;
        let (_, nothing) = watch::channel(Arc::new(Revocations::default()));
        ClientVerifier::new(&credentials.ca, realm.clone(), nothing)?
            .verify_client_cert(credentials.leaf(), &[], crate::clock::unix_time(clock.now().min(ends)))
            .map_err(TlsError::Rejected)?;
    }
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(RustlsClock(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(trust, realm.clone())));
    let mut config = match credentials {
        Some(Credentials { chain, key, ca: _ }) => {
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Config)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A channel that dials when it is first used, and again whenever the connection is lost. The address is `host:port`.
///
/// A connection keeps the certificate it was made with. Who rotates takes a new channel for new calls and lets the old one
/// go with its last call: no call fails for it.
pub fn channel(address: &str, config: watch::Receiver<Arc<ClientConfig>>, dial: Dial) -> Result<Channel, TlsError> {
    let bad = || TlsError::Address(address.to_owned());
    // `http://`: TLS is the connector's business, and tonic refuses `https://` where a crate of the build turns on its own TLS.
    let uri: Uri = format!("http://{address}").parse().map_err(|_| bad())?;
    if uri.port().is_none() {
        return Err(bad());
    }
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| connect(address.clone(), config.borrow().clone(), dial.clone()));
    Ok(Endpoint::from(uri)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector))
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream<Box<dyn Wire>>>>> + Send>>;

fn connect(address: String, config: Arc<ClientConfig>, dial: Dial) -> Connecting {
    Box::pin(async move {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"));
        let whole = async {
            let wire = dial(address.clone()).await?;
            let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
            TlsConnector::from(config).connect(name, wire).await
        };
        Ok(TokioIo::new(timeout(CONNECT, whole).await.map_err(late)??))
    })
}
