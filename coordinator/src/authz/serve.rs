//! The server with its gate: the only way in which services are mounted.

use std::{future::Future, time::Duration};

use muster_proto::tls::{
    io::Accept,
    server::{self, ServerTls},
};
use tonic::service::Routes;

use super::Gate;

/// After a shutdown began, calls have this long; then connections are cut, because streams do not end by themselves.
const GRACE: Duration = Duration::from_secs(3);

/// Serves `routes` over mTLS behind `gate`, until `shutdown` is done and the last call has ended or was cut.
pub async fn serve<L: Accept>(
    listener: L,
    tls: ServerTls,
    gate: Gate,
    routes: Routes,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let cut = tls.cut.clone();
    let stop = async move {
        shutdown.await;
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            cut.cancel();
        });
    };
    server::builder()
        .layer(gate)
        .add_routes(routes)
        .serve_with_incoming_shutdown(server::incoming(listener, tls), stop)
        .await
}
