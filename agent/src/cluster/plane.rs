//! What the agent of a control plane does beside converging its own node: stands for the Lease, and while it leads
//! approves joining kubelets, removes the Node objects of those that have left, and tells what the cluster is.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use muster_plan::kinds::cluster_member::Stage;
use tokio::task::JoinSet;

use super::{
    KUBERNETES, approve, bootstrap, lease, leave, membership,
    watch::{self, Seen},
};
use crate::Context;

/// Runs for the daemon's whole life. Idle on workers and until this node's own API server serves the cluster.
pub async fn run(ctx: Context, seen: Seen) {
    let mut candidate = lease::Candidate::new(ctx.scope.node.as_str());
    loop {
        if let Some(client) = client_of_control_plane(&ctx).await {
            stand(&ctx, &client, &seen, &mut candidate).await;
        }
        ctx.clock.sleep(Duration::from_millis(300)).await;
    }
}

/// None: a worker, or a control plane that has not come far enough.
async fn client_of_control_plane(ctx: &Context) -> Option<Client> {
    let admin = ctx.files.stat(&format!("{KUBERNETES}/admin.conf")).ok()?;
    let note = membership::read(&*ctx.files).ok()??;
    // From its publication on, a newborn cluster needs a leader: joining kubelets wait to be approved.
    if admin.is_none() || note.stage < Stage::Answering || note.stage == Stage::Leaving {
        return None;
    }
    ctx.kube.client().await.ok()
}

/// Stands for the Lease until the API fails; leads in between.
async fn stand(ctx: &Context, client: &Client, seen: &Seen, candidate: &mut lease::Candidate) {
    // Dropped with this future, and its task with it.
    let mut duties: JoinSet<()> = JoinSet::new();
    loop {
        let round = tokio::time::timeout(lease::GIVE_UP / 2, candidate.round(client, ctx.clock.now())).await;
        let failed = match round {
            Ok(Ok(_leads)) => false,
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the Lease could not be renewed");
                true
            }
            Err(_elapsed) => true,
        };
        if candidate.leads(Instant::now()) {
            while duties.try_join_next().is_some() {}
            if duties.is_empty() {
                duties.spawn(lead(ctx.clone(), client.clone(), seen.clone()));
            }
        } else if !duties.is_empty() {
            duties.shutdown().await;
            tracing::info!("this control plane no longer leads");
        }
        if failed && duties.is_empty() {
            return;
        }
        if client_of_control_plane(ctx).await.is_none() {
            // It leaves the cluster; dropping the duties ends them.
            return;
        }
        ctx.clock.sleep(if failed { Duration::from_secs(1) } else { lease::BEAT }).await;
    }
}

/// The leader's duties; ended from outside when it leads no longer.
async fn lead(ctx: Context, client: Client, seen: Seen) {
    if let Err(error) = bootstrap::refuse_autoapproval(&client).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "kubeadm's automatic approval could not be removed");
    }
    tokio::join!(approve_all(&client), bury_all(&client), watch::watch(&ctx, &client, &seen));
}

/// Nodes say by an annotation, with their own credentials, that they have left; deleting a Node is not among a kubelet's
/// rights.
async fn bury_all(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut changes = watcher(nodes, watcher::Config::default()).default_backoff().boxed();
    loop {
        let node = match changes.try_next().await {
            Ok(Some(watcher::Event::Apply(node) | watcher::Event::InitApply(node))) => node,
            Ok(Some(watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone)) => continue,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the watch on nodes began anew");
                continue;
            }
        };
        if leave::has_left(&node)
            && let Err(error) = leave::bury(client, &node).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a Node that has left could not be deleted");
        }
    }
}

async fn approve_all(client: &Client) {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let mut changes = watcher(requests, watcher::Config::default()).default_backoff().boxed();
    loop {
        let event = match changes.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the watch on certificate requests began anew"
                );
                continue;
            }
        };
        let request = match event {
            watcher::Event::Apply(request) | watcher::Event::InitApply(request) => request,
            watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone => continue,
        };
        let Ok(request) = serde_json::to_value(&request) else { continue };
        if let Err(error) = approve::consider(client, &request).await
            && !error.is_conflict()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a kubelet's certificate could not be approved");
        }
    }
}
