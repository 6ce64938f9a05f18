//! Asking the cluster where this node's own API server may be dead: others are asked too before anything is destroyed.
//!
//! Everything else goes by the own API server alone, and waits for it.

use std::time::Duration;

use kube::Client;
use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, Start};
use muster_plan::kinds::cluster_member::{Known, Membership};

use super::{KUBERNETES, client, node};
use crate::{Context, StepError};

/// How long one API server may take to say what it knows of a node.
const ANSWER: Duration = Duration::from_secs(5);

/// What the API knows of this node. Where that decides whether something is destroyed, every way to it is tried.
pub async fn known(ctx: &Context, spec: &ClusterMemberSpec, note: Option<&Membership>) -> Known {
    let first: Vec<Client> = ctx.kube.client().await.ok().into_iter().collect();
    let (known, _) = ask(&first, &spec.name).await;
    let destroys = spec.start == Start::Leave || note.is_none();
    if !destroys || !matches!(known, Known::Silent | Known::NoCredentials) {
        return known;
    }
    let others: Vec<Client> = balanced(ctx, spec).await.into_iter().collect();
    match ask(&others, &spec.name).await.0 {
        Known::NoCredentials => known,
        answer => answer,
    }
}

/// A client that was answered just now: of the own API server, or else of any other by the load balancer.
pub async fn answering(ctx: &Context, spec: &ClusterMemberSpec) -> Result<Client, StepError> {
    let mut clients = vec![ctx.kube.client().await?];
    if let (_, Some(client)) = ask(&clients, &spec.name).await {
        return Ok(client);
    }
    clients = balanced(ctx, spec).await.into_iter().collect();
    let answered = ask(&clients, &spec.name).await.1;
    answered.ok_or_else(|| StepError::waits(format!("the API server to answer, here or at {}", spec.api_endpoint)))
}

/// By the load balancer, with what credentials there are.
async fn balanced(ctx: &Context, spec: &ClusterMemberSpec) -> Option<Client> {
    for name in ["admin.conf", "kubelet.conf"] {
        let Ok(Some(text)) = ctx.files.read(&format!("{KUBERNETES}/{name}")) else { continue };
        let server = format!("https://{}", spec.api_endpoint);
        return client::of_kubeconfig(&String::from_utf8_lossy(&text), Some(&server)).await.ok();
    }
    None
}

/// The first answer, and who gave it. Only "there is no such Node" counts as absent.
async fn ask(clients: &[Client], name: &str) -> (Known, Option<Client>) {
    let mut known = Known::NoCredentials;
    for client in clients {
        match tokio::time::timeout(ANSWER, node::seen(client, name)).await {
            Ok(Ok(Some(node))) => return (Known::Node(node), Some(client.clone())),
            Ok(Ok(None)) => return (Known::Absent, Some(client.clone())),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "the API does not say what it knows of this node");
            }
            Err(_elapsed) => tracing::debug!("the API does not answer what it knows of this node"),
        }
        known = Known::Silent;
    }
    (known, None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server with this answer to everything.
    fn server(code: u16) -> Client {
        let body = match code {
            200 => json!({"metadata": {"name": "n-1", "labels": {"a": "b"}}}),
            code => json!({"kind": "Status", "status": "Failure", "code": code, "reason": "x", "message": "m"}),
        };
        let service = tower::service_fn(move |_: Request<Body>| {
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(response) }
        });
        Client::new(service, "default")
    }

    fn dead() -> Client {
        let service = tower::service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>("refused") });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn only_a_404_is_absence_and_silence_is_no_answer() {
        assert_eq!(ask(&[server(404)], "n-1").await.0, Known::Absent);
        for silent in [dead(), server(503), server(401)] {
            assert_eq!(ask(&[silent], "n-1").await.0, Known::Silent);
        }
        assert_eq!(ask(&[], "n-1").await.0, Known::NoCredentials);
    }

    #[tokio::test]
    async fn others_are_asked_where_the_own_api_server_is_dead() {
        let (known, client) = ask(&[dead(), server(200)], "n-1").await;
        assert_eq!(known.node().unwrap().labels["a"], "b");
        assert!(client.is_some());
    }
}
