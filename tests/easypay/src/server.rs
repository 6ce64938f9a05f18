//! The listener and its end.
//!
//! On SIGTERM a replica says at `/ready` that it leaves, and goes on serving for a grace: only the load balancers can stop
//! new connections, and they need a few seconds to notice. Then it takes what is left in the accept queue, closes the
//! listener, lets requests under way finish, and exits 0. An own accept loop because axum's drops the accept queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::settings::Settings;
use crate::store::Store;
use crate::{probe, web};

/// Longer than the 60 s for which load balancers commonly keep an idle connection, so that they close it first.
const IDLE: Duration = Duration::from_secs(75);
/// For the request on a connection that was taken last: closing such a connection before its first byte would fail it.
const SETTLE: Duration = Duration::from_secs(1);
/// For requests under way, after the patience of the last one.
const FINISH: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT, and returns when all is finished. A second signal ends it at once.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener =
        TcpListener::bind(settings.listen).await.with_context(|| format!("cannot listen on {}", settings.listen))?;
    tracing::info!(address = %listener.local_addr()?, ?settings, "serving");

    let store = Store::new(settings.database, settings.patience)?;
    let (leave, leaving) = watch::channel(false);
    probe::start(&store);
    let app = web::App { store, currency: Arc::from(settings.currency), leaving };
    let router = web::router(app);
    let connections = GracefulShutdown::new();

    let mut told = std::pin::pin!(async {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        tracing::info!(grace_ms = settings.grace.as_millis() as u64, "told to leave; serving on for the grace");
        leave.send_replace(true);
        sleep(settings.grace).await;
        (terminate, interrupt)
    });
    let (mut terminate, mut interrupt) = loop {
        tokio::select! {
            signals = &mut told => break signals,
            stream = accept(&listener) => serve(stream, &router, &connections),
        }
    };
    // What has connected before the listener closes is served; the bound is for clients that never stop coming.
    for _ in 0..1000 {
        let Ok(stream) = timeout(Duration::from_millis(20), accept(&listener)).await else { break };
        serve(stream, &router, &connections);
    }
    drop(listener);

    let finish = async {
        sleep(SETTLE.min(settings.grace)).await;
        if timeout(settings.patience + FINISH, connections.shutdown()).await.is_err() {
            tracing::warn!("requests were still under way at the end");
        }
    };
    tokio::select! {
        () = finish => tracing::info!("left"),
        _ = terminate.recv() => tracing::warn!("told twice; leaving at once"),
        _ = interrupt.recv() => tracing::warn!("told twice; leaving at once"),
    }
    Ok(())
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // A connection that was given up already, or no file descriptor left: neither ends the server.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn serve(stream: TcpStream, router: &Router, connections: &GracefulShutdown) {
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
}
