//! Plain HTTP: health, metrics, and the agent's program by its digest. Nothing here is secret and nothing changes
//! anything: a new node fetches the program before it has an identity, and checks it against its user-data.

use std::{fmt::Write as _, path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use muster_ids::Digest;
use tokio_util::io::ReaderStream;

use crate::{context::Context, status};

/// What the handlers need.
#[derive(Clone)]
pub struct HttpState {
    pub ctx: Arc<Context>,
    /// The agent's program and its digest; absent where none is served.
    pub agent: Option<(Digest, PathBuf)>,
}

/// The routes.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/agent/{digest}", get(agent))
        .with_state(state)
}

/// Healthy: the store answers.
async fn healthz(State(state): State<HttpState>) -> Response {
    match state.ctx.state.refresh() {
        Ok(()) => "ok\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn agent(State(state): State<HttpState>, Path(digest): Path<String>) -> Response {
    let (Ok(asked), Some((digest, path))) = (digest.parse::<Digest>(), &state.agent) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if asked != *digest {
        return StatusCode::NOT_FOUND.into_response();
    }
    match tokio::fs::File::open(path).await {
        Ok(file) => {
            let length = file.metadata().await.map(|metadata| metadata.len().to_string()).unwrap_or_default();
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, length)];
            (headers, Body::from_stream(ReaderStream::with_capacity(file, 1 << 18))).into_response()
        }
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "the agent's program cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    match status::of(&state.ctx) {
        Ok(status) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text(&status)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// The text form of Prometheus.
fn text(status: &status::Status) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, values: Vec<(String, String)>| {
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let flag = |flag: bool| if flag { "1" } else { "0" }.to_owned();
    let each = |value: &dyn Fn(&status::NodeStatus) -> String| -> Vec<_> {
        let labels = |node: &status::NodeStatus| format!("{{node=\"{}\",pool=\"{}\"}}", node.name, node.pool);
        status.nodes.iter().map(|node| (labels(node), value(node))).collect()
    };
    let pools = |value: &dyn Fn(&status::PoolStatus) -> u32| -> Vec<_> {
        status.pools.iter().map(|pool| (format!("{{pool=\"{}\"}}", pool.name), value(pool).to_string())).collect()
    };
    gauge("muster_pool_nodes", "Nodes that the pool should have.", pools(&|pool| pool.wanted));
    gauge("muster_pool_ready", "Nodes of the pool that serve.", pools(&|pool| pool.ready));
    gauge("muster_node_ready", "Whether the node serves in the cluster.", each(&|node| flag(node.ready)));
    gauge("muster_node_converged", "Whether the node is as written.", each(&|node| flag(node.converged)));
    gauge("muster_node_connected", "Whether the node's agent is connected.", each(&|node| flag(node.connected)));
    gauge("muster_node_drift", "Resources put back in the last converge.", each(&|node| node.drift.len().to_string()));
    gauge(
        "muster_node_generation",
        "Counter of the generation that the node has.",
        each(&|node| node.generation.map_or(0, |generation| generation.counter).to_string()),
    );
    let usage = |value: &dyn Fn(crate::state::Usage) -> u64| -> Vec<_> {
        let nodes = status.nodes.iter().filter_map(|node| Some((node, node.usage?)));
        nodes.map(|(node, usage)| (format!("{{node=\"{}\"}}", node.name), value(usage).to_string())).collect()
    };
    gauge("muster_node_cpu_used_milli", "Thousandths of a CPU in use.", usage(&|usage| usage.cpu_used_milli));
    gauge("muster_node_memory_used_bytes", "Memory in use.", usage(&|usage| usage.memory_used));
    let members = status.control_plane.iter().flat_map(|seen| seen.members.iter().flatten());
    let member = |member: &muster_plan::cluster::Member| {
        let votes = member.state == muster_plan::cluster::MemberState::Voter;
        (format!("{{node=\"{}\"}}", member.node), flag(votes))
    };
    let missing = status.control_plane.iter().flat_map(|seen| &seen.missing);
    let missing = missing.map(|node| (format!("{{node=\"{node}\"}}"), flag(false)));
    gauge(
        "muster_etcd_member",
        "Whether the member of etcd answers and votes.",
        members.map(member).chain(missing).collect(),
    );
    let dns = status.control_plane.as_ref().and_then(|seen| seen.dns);
    let dns = dns.map_or(vec![], |dns| vec![(String::new(), dns.ready.to_string())]);
    gauge("muster_dns_ready", "Nodes whose server of cluster DNS is ready.", dns);
    let generation = status.generation.map_or(0, |generation| generation.counter);
    gauge("muster_generation", "Counter of the newest generation.", vec![(String::new(), generation.to_string())]);
    gauge("muster_written", "Whether everything is as written.", vec![(String::new(), flag(status.written()))]);
    out
}
