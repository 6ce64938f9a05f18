//! Joining: kubeadm's phases in order, with only the change of etcd's membership one node at a time.
//!
//! ```text
//!   ticket → CA by its digest → checks, certificates, kubelet starts
//!     worker:         → kubelet has its certificate → labels
//!     control plane:  → key for Secrets → [turn: collect dead members; etcd joins ∥ the other static pods] → API ready → labels
//! ```
//!
//! The static pods of a joining control plane are written only once it has the turn: an API server that finds no etcd for
//! twenty seconds crashes, and is then held back ever longer.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, MemberRole};
use muster_plan::{
    Skip,
    kinds::cluster_member::{Membership, Stage},
};

use super::{
    KUBERNETES, LOCAL_API, birth, client,
    discovery::{self, discover},
    documents::{self, JoinSecrets},
    encryption, etcd::{self, Etcd}, kubeadm, membership, node,
};
use crate::{
    Context, StepError,
    ports::{Taken, Turn},
};

/// What of `kubeadm join` is done here instead, or has its own moment.
const LATER: &str =
    "control-plane-prepare/control-plane,check-etcd,etcd-join,kubelet-wait-bootstrap,control-plane-join,wait-control-plane";

const ETCD_DATA: &str = "/var/lib/etcd";

/// A control plane's etcd step takes seconds; with this many before it, something is wrong.
const LONGEST_QUEUE: Duration = Duration::from_secs(300);

pub async fn join(ctx: &Context, spec: &ClusterMemberSpec, note: &mut Membership) -> Result<Vec<String>, StepError> {
    let control_plane = documents::is_control_plane(spec);
    if note.stage < Stage::Prepared {
        prepare(ctx, spec, note, control_plane).await?;
        membership::reach(&*ctx.files, note, Stage::Prepared)?;
    }
    let mut notes = Vec::new();
    match spec.role {
        MemberRole::Worker => wait_certificate(ctx, spec).await?,
        MemberRole::ControlPlane => {
            if note.stage < Stage::Answering {
                notes = join_etcd(ctx, spec).await?;
                membership::reach(&*ctx.files, note, Stage::Answering)?;
            }
            let local = client::of_kubeconfig(&admin_conf(ctx)?, Some(LOCAL_API)).await?;
            birth::wait_ready(ctx, &local, Duration::from_secs(180)).await?;
            wait_certificate(ctx, spec).await?;
        }
    }
    let own = ctx.kube.client().await?;
    node::settle(ctx, &own, spec, note).await?;
    Ok(notes)
}

async fn prepare(ctx: &Context, spec: &ClusterMemberSpec, note: &Membership, control_plane: bool) -> Result<(), StepError> {
    let begun = Instant::now();
    let ticket = ctx.tickets.join(control_plane).await?;
    tracing::info!(took = begun.elapsed().as_millis(), "a ticket came");
    wait_endpoint(ctx, spec, &ticket.ca_hash).await?;
    let secrets = JoinSecrets { token: ticket.token, certificate_key: ticket.certificate_key };
    let documents = documents::join(spec, discovery::FILE, Some(&secrets));
    let skip = if note.resumed > 0 { format!("preflight,{LATER}") } else { LATER.to_owned() };
    kubeadm::run(ctx, &["join", "--skip-phases", &skip], &documents).await
}

/// The load balancer may need a moment until it has found the first API server.
async fn wait_endpoint(ctx: &Context, spec: &ClusterMemberSpec, ca_hash: &str) -> Result<(), StepError> {
    let begun = Instant::now();
    loop {
        match discover(ctx, &spec.api_endpoint, ca_hash).await {
            Ok(_ca) => return Ok(()),
            Err(error) if begun.elapsed() > Duration::from_secs(90) => return Err(error),
            Err(error) => tracing::debug!(%error, "the API's endpoint is not there yet"),
        }
        ctx.clock.sleep(Duration::from_millis(200)).await;
    }
}

/// etcd's membership, under the cluster's turn.
async fn join_etcd(ctx: &Context, spec: &ClusterMemberSpec) -> Result<Vec<String>, StepError> {
    let address: Ipv4Addr =
        spec.address.parse().map_err(|_| StepError::failed(format!("`{}` is no IPv4 address", spec.address)))?;
    let cluster = client::of_kubeconfig(&admin_conf(ctx)?, Some(&format!("https://{}", spec.api_endpoint))).await?;
    encryption::fetch(&cluster, &*ctx.files).await?;

    let turn = take_turn(ctx).await?;
    let joined = async {
        let endpoints = etcd::endpoints(&cluster).await?;
        let own = format!("https://{address}:2379");
        let others: Vec<_> = endpoints.into_iter().filter(|endpoint| *endpoint != own).collect();
        let etcd = Etcd::connect(&*ctx.files, &others).await?;
        let has_data = ctx.files.stat(&format!("{ETCD_DATA}/member"))?.is_some();
        let (mut notes, known) = etcd.collect(&spec.name, address, has_data).await?;
        if has_data && !known {
            // What a member that is none any more has left would keep the new one from starting.
            ctx.files.remove(&format!("{ETCD_DATA}/member"), true)?;
            notes.push("data of a former etcd member removed".to_owned());
        }
        let documents = documents::join(spec, &format!("{KUBERNETES}/admin.conf"), None);
        futures::try_join!(
            kubeadm::run(ctx, &["join", "phase", "etcd-join"], &documents),
            kubeadm::run(ctx, &["join", "phase", "control-plane-prepare", "control-plane"], &documents),
        )?;
        Ok(notes)
    }
    .await;
    turn.give().await;
    joined
}

async fn take_turn(ctx: &Context) -> Result<Box<dyn crate::ports::HeldTurn>, StepError> {
    let begun = Instant::now();
    loop {
        match ctx.turns.take(Turn::Etcd, "joins etcd").await? {
            Taken::Granted(turn) => {
                tracing::info!(took = begun.elapsed().as_millis(), "this node has the turn to join etcd");
                return Ok(turn);
            }
            Taken::HeldBy(held_by) if begun.elapsed() > LONGEST_QUEUE => return Err(StepError::Skip(Skip::Turn { held_by })),
            Taken::HeldBy(held_by) => tracing::debug!(held_by, "waits for the turn to join etcd"),
        }
        ctx.clock.sleep(Duration::from_millis(250)).await;
    }
}

/// kubelet asked for its certificate with the ticket's token; the leading agent approves it.
async fn wait_certificate(ctx: &Context, spec: &ClusterMemberSpec) -> Result<(), StepError> {
    let begun = Instant::now();
    let conf = format!("{KUBERNETES}/kubelet.conf");
    let pem = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    while begun.elapsed() < Duration::from_secs(120) {
        if ctx.files.stat(&conf)?.is_some() && ctx.files.read(pem)?.is_some() {
            // The token stands in it.
            ctx.files.remove(&format!("{KUBERNETES}/bootstrap-kubelet.conf"), false)?;
            tracing::info!(took = begun.elapsed().as_millis(), "kubelet has its certificate");
            return Ok(());
        }
        ctx.clock.sleep(Duration::from_millis(50)).await;
    }
    Err(StepError::failed(format!("kubelet of {} got no certificate within two minutes", spec.name))
        .help("does a control plane lead (Lease kube-system/muster)? `journalctl -u kubelet` on this node says more")
        .retry())
}

fn admin_conf(ctx: &Context) -> Result<String, StepError> {
    let path = format!("{KUBERNETES}/admin.conf");
    let bytes = ctx.files.read(&path)?.ok_or_else(|| StepError::failed(format!("{path} is gone")).retry())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the API knows this node; for those whose note was lost.
pub async fn known(ctx: &Context, name: &str) -> Option<muster_plan::kinds::cluster_member::NodeSeen> {
    let client = ctx.kube.client().await.ok()?;
    let asked = tokio::time::timeout(Duration::from_secs(5), node::seen(&client, name)).await.ok()?;
    match asked {
        Ok(seen) => seen,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "the API does not say what it knows of this node");
            None
        }
    }
}
