//! Joining: kubeadm's phases in order, with only the change of etcd's membership one node at a time.
//!
//! ```text
//!   ticket → CA by its digest → checks, certificates
//!     worker:         → kubelet starts → it has its certificate → labels
//!     control plane:  → kubelet's certificate, signed here: the CA has come → kubelet starts, by the load balancer
//!                     → key for Secrets → [turn: dead members go; announced; etcd's first start finds the cluster]
//!                     → etcd ∥ the other static pods: etcd serves → it votes → API ready → labels
//! ```
//!
//! kubeadm has a joining control plane's kubelet ask its own API server for a certificate, which is not there yet, and
//! kubelet asks ever more rarely: that cost half a minute. With the CA at hand nobody has to be asked.
//! The static pods are written only once the node has the turn: an API server that finds no etcd for twenty seconds
//! crashes, and is then held back ever longer.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use kube::Client;
use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, MemberRole};
use muster_plan::{
    Skip,
    kinds::cluster_member::{Membership, Stage},
};

use super::{
    KUBERNETES, LOCAL_API, birth, client,
    discovery::{self, discover},
    documents::{self, JoinSecrets},
    encryption,
    etcd::{self, Etcd, peer_url},
    first::{self, First},
    kubeadm, membership, midwife, node, settings,
};
use crate::{
    Context, StepError,
    ports::{HeldTurn, Taken, Turn},
};

/// What of `kubeadm join` is done here instead, or has its own moment.
const LATER: &str = "control-plane-prepare/control-plane,check-etcd,etcd-join,kubelet-wait-bootstrap,control-plane-join,wait-control-plane";

pub(super) const ETCD_DATA: &str = "/var/lib/etcd/member";

/// A control plane's etcd step takes seconds; with this many before it, something is wrong.
const LONGEST_QUEUE: Duration = Duration::from_secs(300);

pub async fn join(ctx: &Context, spec: &ClusterMemberSpec, note: &mut Membership) -> Result<Vec<String>, StepError> {
    let mut notes = Vec::new();
    match spec.role {
        MemberRole::Worker => {
            if note.stage < Stage::Prepared {
                if note.resumed > 0 {
                    // One of a former attempt keeps this node Ready in the cluster, beside which kubeadm refuses to join.
                    ctx.units.stop("kubelet.service").await?;
                }
                prepare(ctx, spec, note, LATER).await?;
                membership::reach(&*ctx.files, note, Stage::Prepared)?;
            }
            wait_certificate(ctx, spec).await?;
            let own = ctx.kube.client().await?;
            node::settle(ctx, &own, spec, note).await?;
            // kubeadm gave it the settings of the cluster's first node. Nothing is there yet that it could disturb.
            settings::configure(ctx, spec).await?;
        }
        MemberRole::ControlPlane => {
            if note.stage < Stage::Prepared {
                prepare(ctx, spec, note, &format!("kubelet-start,{LATER}")).await?;
                start_kubelet(ctx, spec).await?;
                membership::reach(&*ctx.files, note, Stage::Prepared)?;
            }
            let admin = birth::read(ctx, "admin.conf")?;
            let cluster = client::of_kubeconfig(&admin, Some(&format!("https://{}", spec.api_endpoint))).await?;
            if note.stage < Stage::Answering {
                notes = join_etcd(ctx, spec, &cluster).await?;
                membership::reach(&*ctx.files, note, Stage::Answering)?;
            }
            let local = client::of_kubeconfig(&admin, Some(LOCAL_API)).await?;
            birth::wait_ready(ctx, &local, Duration::from_secs(180)).await?;
            node::settle(ctx, &local, spec, note).await?;
            settings::remember(ctx, spec, note)?;
            birth::settle_kubelet(ctx)?;
        }
    }
    Ok(notes)
}

async fn prepare(ctx: &Context, spec: &ClusterMemberSpec, note: &Membership, later: &str) -> Result<(), StepError> {
    let begun = Instant::now();
    let ticket = ctx.tickets.join(documents::is_control_plane(spec)).await?;
    tracing::info!(took = begun.elapsed().as_millis(), "a ticket came");
    wait_endpoint(ctx, spec, &ticket.ca_hash).await?;
    let secrets = JoinSecrets { token: ticket.token, certificate_key: ticket.certificate_key };
    let documents = documents::join(spec, discovery::FILE, Some(&secrets));
    // A second attempt finds the files of the first and its kubelet's port taken: the checks passed then.
    let skip = if note.resumed > 0 { format!("preflight,{later}") } else { later.to_owned() };
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
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
}

/// Starts a control plane's kubelet with a certificate signed here. Until its own API server is there it dials the load
/// balancer.
async fn start_kubelet(ctx: &Context, spec: &ClusterMemberSpec) -> Result<(), StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    credentials(ctx, &documents, &format!("https://{}", spec.api_endpoint)).await?;
    // kubelet looks for a folder that is not there only now and then.
    ctx.files.make_dir(&format!("{KUBERNETES}/manifests"))?;
    kubeadm::run(ctx, &["init", "phase", "kubelet-start"], &documents).await
}

async fn credentials(ctx: &Context, documents: &str, server: &str) -> Result<(), StepError> {
    kubeadm::run(ctx, &["init", "phase", "kubeconfig", "kubelet"], documents).await?;
    let text = birth::with_server(&birth::read(ctx, "kubelet.conf")?, server)?;
    Ok(ctx.files.write(&format!("{KUBERNETES}/kubelet.conf"), text.as_bytes(), 0o600, 0, 0)?)
}

/// Makes a control plane's lost `kubelet.conf` anew, signed here. A kubelet that runs has its own in memory and goes on;
/// one that ended for want of it starts.
pub async fn renew_credentials(ctx: &Context, spec: &ClusterMemberSpec) -> Result<(), StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    credentials(ctx, &documents, LOCAL_API).await?;
    Ok(ctx.units.start("kubelet.service").await?)
}

/// etcd's membership. What has to be alone in the cluster is done under the turn.
async fn join_etcd(ctx: &Context, spec: &ClusterMemberSpec, cluster: &Client) -> Result<Vec<String>, StepError> {
    let address: Ipv4Addr =
        spec.address.parse().map_err(|_| StepError::failed(format!("`{}` is no IPv4 address", spec.address)))?;
    encryption::fetch(cluster, &*ctx.files).await?;
    let others = connect_others(ctx, cluster, address).await?;

    let turn = take_turn(ctx, "joins etcd").await?;
    let announced = announce(ctx, spec, address, &others).await;
    turn.give().await;
    let notes = announced?;
    midwife::serving(ctx).await?;
    midwife::vote(ctx, &others, address).await?;
    Ok(notes)
}

/// A member besides this node's own. The API servers' list of themselves is written a moment after they answer.
async fn connect_others(ctx: &Context, cluster: &Client, address: Ipv4Addr) -> Result<Etcd, StepError> {
    let (begun, own) = (Instant::now(), etcd::client_url(address));
    loop {
        let found = async {
            let others = etcd::endpoints(cluster).await?.into_iter().filter(|endpoint| *endpoint != own);
            Etcd::connect(&*ctx.files, &others.collect::<Vec<_>>()).await
        };
        match found.await {
            Ok(etcd) => return Ok(etcd),
            Err(error) if begun.elapsed() > Duration::from_secs(30) => return Err(error),
            Err(error) => tracing::debug!(%error, "no other member of etcd answers yet"),
        }
        ctx.clock.sleep(Duration::from_millis(200)).await;
    }
}

/// Up to the moment when the new member has found the cluster: it compares those who are there with those it was told of,
/// so nobody else may come in between.
async fn announce(
    ctx: &Context,
    spec: &ClusterMemberSpec,
    address: Ipv4Addr,
    others: &Etcd,
) -> Result<Vec<String>, StepError> {
    let has_data = ctx.files.stat(ETCD_DATA)?.is_some();
    let (mut notes, known) = others.collect(&spec.name, address, has_data).await?;
    if has_data && !known {
        // What a member that is none any more has left would keep the new one from starting.
        ctx.files.remove(ETCD_DATA, true)?;
        notes.push("data of a former etcd member removed".to_owned());
    }
    others.say_joining(address).await?;
    if !known {
        add(ctx, others, address).await?;
    }
    let members = others.members().await?;
    let cluster = midwife::initial_cluster(&members, &spec.name, address);
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    first::begin(ctx, spec, &documents, First::Joins(&cluster)).await?;
    futures::try_join!(
        kubeadm::run(ctx, &["init", "phase", "etcd", "local"], &documents),
        kubeadm::run(ctx, &["init", "phase", "control-plane", "all"], &documents),
    )?;
    Ok(notes)
}

/// etcd takes nobody in while it has not been whole for five seconds.
async fn add(ctx: &Context, others: &Etcd, address: Ipv4Addr) -> Result<(), StepError> {
    let begun = Instant::now();
    loop {
        match others.add_learner(address).await {
            Ok(()) => {
                tracing::info!(
                    took = begun.elapsed().as_millis(),
                    "etcd knows of its new member {}",
                    peer_url(address)
                );
                return Ok(());
            }
            Err(error) if begun.elapsed() > Duration::from_secs(60) => return Err(error.into()),
            Err(error) => tracing::debug!(%error, "etcd takes no new member yet"),
        }
        ctx.clock.sleep(Duration::from_millis(200)).await;
    }
}

pub(super) async fn take_turn(ctx: &Context, reason: &str) -> Result<Box<dyn HeldTurn>, StepError> {
    let begun = Instant::now();
    loop {
        match ctx.turns.take(Turn::Etcd, reason).await? {
            Taken::Granted(turn) => {
                tracing::info!(took = begun.elapsed().as_millis(), reason, "this node has the turn to change etcd");
                return Ok(turn);
            }
            Taken::HeldBy(held_by) if begun.elapsed() > LONGEST_QUEUE => {
                return Err(StepError::Skip(Skip::Turn { held_by }));
            }
            Taken::HeldBy(held_by) => tracing::debug!(held_by, "waits for the turn to change etcd"),
        }
        // The coordinator answers so many questions a minute.
        ctx.clock.sleep(Duration::from_millis(700)).await;
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
