//! The birth of a cluster: `kubeadm init`, phase by phase, on the one node that the coordinator chose.
//!
//! ```text
//!   key for Secrets → certificates, kubeconfigs, static pods, kubelet → API ready
//!     → rights ┬ kubeadm's ConfigMaps ┬ → cluster-info: from here on others join
//!              ├ CoreDNS, kube-proxy  ┤
//!              └ key for Secrets      ┘ → labels and taints of this node
//! ```
//!
//! Nothing here dials the load balancer: it has no healthy server before this is done. Every phase may run again: what is
//! there is used.

use std::time::{Duration, Instant};

use kube::Client;
use muster_catalog::kinds::cluster_member::ClusterMemberSpec;
use muster_plan::kinds::cluster_member::{Membership, Stage};

use super::{KUBERNETES, LOCAL_API, api, bootstrap, client, documents, encryption, kubeadm, membership, node};
use crate::{Context, StepError};

/// What of `kubeadm init` is done here instead, or has its own moment.
const LATER: &str =
    "wait-control-plane,upload-config,upload-certs,mark-control-plane,bootstrap-token,kubelet-finalize,addon,show-join-command";

/// A kubeconfig of the administrator that dials this node. In memory, gone with a reboot; removed after use.
const LOCAL_ADMIN: &str = "/run/muster/admin.conf";

pub async fn begin(ctx: &Context, spec: &ClusterMemberSpec, note: &mut Membership) -> Result<(), StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    if note.stage < Stage::Prepared {
        encryption::ensure(&*ctx.files)?;
        // A second attempt finds the files of the first and its kubelet's port taken: the checks passed then.
        let skip = if note.resumed > 0 { format!("preflight,{LATER}") } else { LATER.to_owned() };
        kubeadm::run(ctx, &["init", "--skip-phases", &skip], &documents).await?;
        membership::reach(&*ctx.files, note, Stage::Prepared)?;
    }
    let local = local_admin(ctx)?;
    let first = client::of_kubeconfig(&read(ctx, "super-admin.conf")?, Some(LOCAL_API)).await?;
    wait_ready(ctx, &first, Duration::from_secs(180)).await?;
    membership::reach(&*ctx.files, note, Stage::Answering)?;

    if note.stage < Stage::Published {
        bootstrap::admin(&first).await?;
        ctx.files.write(LOCAL_ADMIN, local.as_bytes(), 0o600, 0, 0)?;
        let published = publish(ctx, spec, &first, &documents).await;
        ctx.files.remove(LOCAL_ADMIN, false)?;
        published?;
        membership::reach(&*ctx.files, note, Stage::Published)?;
    }
    node::settle(ctx, &first, spec, note).await?;
    rotate_kubelet(ctx)
}

async fn publish(ctx: &Context, spec: &ClusterMemberSpec, first: &Client, documents: &str) -> Result<(), StepError> {
    let begun = Instant::now();
    let by = |phase: &'static [&'static str]| {
        let mut arguments = vec!["init", "phase"];
        arguments.extend(phase);
        arguments.extend(["--kubeconfig", LOCAL_ADMIN]);
        async move { kubeadm::run(ctx, &arguments, documents).await }
    };
    futures::try_join!(
        bootstrap::rights(ctx, first),
        encryption::publish(first, &*ctx.files),
        by(&["upload-config", "all"]),
        by(&["addon", "all"]),
    )?;
    let ca = read(ctx, "pki/ca.crt")?;
    bootstrap::publish(ctx, first, &spec.api_endpoint, &ca).await?;
    tracing::info!(took = begun.elapsed().as_millis(), "the cluster can be joined");
    Ok(())
}

/// Waits until this node's API server is ready, looking ten times a second.
pub async fn wait_ready(ctx: &Context, local: &Client, most: Duration) -> Result<(), StepError> {
    let begun = Instant::now();
    while begun.elapsed() < most {
        let asked = tokio::time::timeout(Duration::from_secs(2), api::is_ready(local)).await;
        if asked == Ok(true) {
            tracing::info!(took = begun.elapsed().as_millis(), "the API server is ready");
            return Ok(());
        }
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
    Err(StepError::failed(format!("this node's API server was not ready after {} s", most.as_secs()))
        .help("`crictl ps -a` and `journalctl -u kubelet` on the node: are etcd and kube-apiserver running, are their images there?")
        .retry())
}

/// Puts the static pods' manifests back, from the configuration alone.
pub async fn restore(ctx: &Context, spec: &ClusterMemberSpec, manifests: &std::collections::BTreeSet<String>) -> Result<(), StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    for manifest in manifests {
        let phase: &[&str] = match manifest.as_str() {
            // With data in place etcd ignores the initial members that this writes.
            "etcd" => &["init", "phase", "etcd", "local"],
            "kube-apiserver" => &["init", "phase", "control-plane", "apiserver"],
            "kube-controller-manager" => &["init", "phase", "control-plane", "controller-manager"],
            _other => &["init", "phase", "control-plane", "scheduler"],
        };
        kubeadm::run(ctx, phase, &documents).await?;
    }
    Ok(())
}

fn read(ctx: &Context, name: &str) -> Result<String, StepError> {
    let path = format!("{KUBERNETES}/{name}");
    let bytes = ctx.files.read(&path)?.ok_or_else(|| StepError::failed(format!("{path} is gone")).retry())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn local_admin(ctx: &Context) -> Result<String, StepError> {
    let mut kubeconfig: serde_json::Value = serde_yaml_ng::from_str(&read(ctx, "admin.conf")?)
        .map_err(|error| StepError::failed("admin.conf cannot be read").because(error).retry())?;
    for cluster in kubeconfig["clusters"].as_array_mut().into_iter().flatten() {
        cluster["cluster"]["server"] = LOCAL_API.into();
    }
    Ok(kubeconfig.to_string())
}

/// kubelet renews its certificate into a file of its own; its kubeconfig has to name that file, not hold the first
/// certificate for ever. kubeadm restarts kubelet for this, and nothing needs it: kubelet reads the file by itself at its
/// next start, and until then has the certificate in memory.
fn rotate_kubelet(ctx: &Context) -> Result<(), StepError> {
    const PEM: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let path = format!("{KUBERNETES}/kubelet.conf");
    if ctx.files.read(PEM)?.is_none() {
        return Ok(());
    }
    let mut kubeconfig: serde_json::Value = serde_yaml_ng::from_str(&read(ctx, "kubelet.conf")?)
        .map_err(|error| StepError::failed("kubelet.conf cannot be read").because(error).retry())?;
    for user in kubeconfig["users"].as_array_mut().into_iter().flatten() {
        user["user"] = serde_json::json!({"client-certificate": PEM, "client-key": PEM});
    }
    let text = serde_yaml_ng::to_string(&kubeconfig)
        .map_err(|error| StepError::failed("kubelet.conf cannot be written").because(error))?;
    Ok(ctx.files.write(&path, text.as_bytes(), 0o600, 0, 0)?)
}
