//! The birth of a cluster: `kubeadm init`, phase by phase, on the one node that the coordinator chose.
//!
//! ```text
//!   key for Secrets → certificates, kubeconfigs, static pods, kubelet → etcd's data, etcd → API ready
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

use super::{
    KUBERNETES, LOCAL_API, api, bootstrap, client, dns, documents, encryption,
    first::{self, First},
    kubeadm, membership, midwife, node, settings,
};
use crate::{Context, StepError};

/// What of `kubeadm init` is done here instead, or has its own moment.
const LATER: &str = "etcd,wait-control-plane,upload-config,upload-certs,mark-control-plane,bootstrap-token,kubelet-finalize,addon,show-join-command";

/// A kubeconfig of the administrator that dials this node. In memory, gone with a reboot; removed after use.
pub(super) const LOCAL_ADMIN: &str = "/run/muster/admin.conf";

pub async fn begin(ctx: &Context, spec: &ClusterMemberSpec, note: &mut Membership) -> Result<(), StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    if note.stage < Stage::Prepared {
        encryption::ensure(&*ctx.files)?;
        // A second attempt finds the files of the first and its kubelet's port taken: the checks passed then.
        let skip = if note.resumed > 0 { format!("preflight,{LATER}") } else { LATER.to_owned() };
        kubeadm::run(ctx, &["init", "--skip-phases", &skip], &documents).await?;
        // kubelet brings the other static pods' images meanwhile; an API server waits for its etcd for twenty seconds.
        first::begin(ctx, spec, &documents, First::Alone).await?;
        kubeadm::run(ctx, &["init", "phase", "etcd", "local"], &documents).await?;
        membership::reach(&*ctx.files, note, Stage::Prepared)?;
    }
    let super_admin = read(ctx, "super-admin.conf")?;
    let first = client::of_kubeconfig(&super_admin, Some(LOCAL_API)).await?;
    wait_answer(ctx, &first).await?;
    membership::reach(&*ctx.files, note, Stage::Answering)?;

    if note.stage < Stage::Published {
        ctx.files.write(LOCAL_ADMIN, with_server(&super_admin, LOCAL_API)?.as_bytes(), 0o600, 0, 0)?;
        let furnished = furnish(ctx, spec, &first, &documents).await;
        ctx.files.remove(LOCAL_ADMIN, false)?;
        furnished?;
    }
    publish(ctx, spec, &first, note).await?;
    ensure_registered(ctx, &first, spec).await?;
    node::settle(ctx, &first, spec, note).await?;
    settings::remember(ctx, spec, note)?;
    settle_kubelet(ctx)
}

/// All that others find in place when they join.
async fn furnish(ctx: &Context, spec: &ClusterMemberSpec, first: &Client, documents: &str) -> Result<(), StepError> {
    let begun = Instant::now();
    let by = |phase: &'static [&'static str]| {
        let mut arguments = vec!["init", "phase"];
        arguments.extend(phase);
        arguments.extend(["--kubeconfig", LOCAL_ADMIN]);
        async move { kubeadm::run(ctx, &arguments, documents).await }
    };
    futures::try_join!(
        bootstrap::admin(ctx, first),
        bootstrap::rights(ctx, first),
        encryption::publish(ctx, first),
        by(&["upload-config", "all"]),
        by(&["addon", "kube-proxy"]),
        dns::furnish(ctx, first, spec, documents),
    )?;
    settings::mark_newborn(ctx, spec, first).await?;
    tracing::info!(took = begun.elapsed().as_millis(), "the cluster has what joining nodes need");
    Ok(())
}

/// Lets others join. It is noted before: a cluster that others may be joining is never thrown away, and where the way
/// was cut in between, this is done again.
async fn publish(
    ctx: &Context,
    spec: &ClusterMemberSpec,
    first: &Client,
    note: &mut Membership,
) -> Result<(), StepError> {
    let ca = read(ctx, "pki/ca.crt")?;
    membership::reach(&*ctx.files, note, Stage::Published)?;
    bootstrap::publish(ctx, first, &spec.api_endpoint, &ca).await?;
    tracing::info!("the cluster can be joined");
    Ok(())
}

/// Waits until the newborn API server can be written to. It calls itself ready a second or two later, when its own
/// defaults are written too; the super-administrator needs none of them.
async fn wait_answer(ctx: &Context, first: &Client) -> Result<(), StepError> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(180) {
        let asked =
            tokio::time::timeout(Duration::from_secs(1), api::find(first, "/api/v1/namespaces/kube-system")).await;
        if matches!(asked, Ok(Ok(Some(_)))) {
            tracing::info!(took = begun.elapsed().as_millis(), "the API server answers");
            return Ok(());
        }
        ctx.clock.sleep(Duration::from_millis(50)).await;
    }
    Err(not_ready(180))
}

/// kubelet tries to register its node ever more rarely while the API server comes up, up to seven seconds apart. When it
/// does not come by itself at once, a new start of it is quicker than waiting.
async fn ensure_registered(ctx: &Context, first: &Client, spec: &ClusterMemberSpec) -> Result<(), StepError> {
    for _ in 0..8 {
        if node::seen(first, &spec.name).await?.is_some() {
            return Ok(());
        }
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
    tracing::info!("kubelet starts anew to register the node");
    Ok(ctx.units.restart("kubelet.service").await?)
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
    Err(not_ready(most.as_secs()))
}

fn not_ready(seconds: u64) -> StepError {
    StepError::failed(format!("this node's API server was not ready after {seconds} s"))
        .help("`journalctl -u kubelet` on the node: are etcd and kube-apiserver running, are their images there?")
        .retry()
}

/// Etcd's manifest again, by which it starts only with the data that it has. Clusters that older agents began have one that
/// would begin another.
pub async fn secure_etcd(ctx: &Context, spec: &ClusterMemberSpec) -> Result<(), StepError> {
    restore(ctx, spec, &["etcd".to_owned()].into()).await?;
    midwife::secured(ctx).await
}

/// Whether etcd's manifest lets it do without its data: begin a cluster, or come back as a member that has forgotten all.
pub fn does_without_data(ctx: &Context) -> Result<bool, StepError> {
    let Some(manifest) = ctx.files.read(&format!("{KUBERNETES}/manifests/etcd.yaml"))? else { return Ok(false) };
    let manifest = String::from_utf8_lossy(&manifest);
    // An argument a line, in YAML's list.
    let words = manifest.lines().map(|line| line.trim().trim_start_matches("- "));
    Ok(!midwife::needs_its_data(words))
}

/// Puts the static pods' manifests back, from the configuration alone.
pub async fn restore(
    ctx: &Context,
    spec: &ClusterMemberSpec,
    manifests: &std::collections::BTreeSet<String>,
) -> Result<(), StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    for manifest in manifests {
        let phase: &[&str] = match manifest.as_str() {
            // With data in place etcd ignores the initial members that this writes. Were it to go before etcd starts,
            // the state `existing` keeps it from beginning a cluster of its own.
            "etcd" if ctx.files.stat("/var/lib/etcd/member")?.is_none() => {
                return Err(StepError::failed("etcd's data went while its manifest was put back").retry());
            }
            "etcd" => &["init", "phase", "etcd", "local"],
            "kube-apiserver" => &["init", "phase", "control-plane", "apiserver"],
            "kube-controller-manager" => &["init", "phase", "control-plane", "controller-manager"],
            _other => &["init", "phase", "control-plane", "scheduler"],
        };
        kubeadm::run(ctx, phase, &documents).await?;
    }
    Ok(())
}

pub(super) fn read(ctx: &Context, name: &str) -> Result<String, StepError> {
    let path = format!("{KUBERNETES}/{name}");
    let bytes = ctx.files.read(&path)?.ok_or_else(|| StepError::failed(format!("{path} is gone")).retry())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A kubeconfig with another server's address.
pub(super) fn with_server(kubeconfig: &str, server: &str) -> Result<String, StepError> {
    edit(kubeconfig, |kubeconfig| {
        for cluster in kubeconfig["clusters"].as_array_mut().into_iter().flatten() {
            cluster["cluster"]["server"] = server.into();
        }
    })
}

fn edit(kubeconfig: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<String, StepError> {
    let mut value: serde_json::Value = serde_yaml_ng::from_str(kubeconfig)
        .map_err(|error| StepError::failed("a kubeconfig of kubeadm's cannot be read").because(error).retry())?;
    change(&mut value);
    serde_yaml_ng::to_string(&value).map_err(|error| StepError::failed("a kubeconfig cannot be written").because(error))
}

/// Puts a control plane's kubelet on its own feet, from its next start on: by its own API server, and with the
/// certificate that it renews in a file of its own instead of the first one for ever. kubeadm restarts kubelet for this;
/// nothing needs it, for what it holds in memory is good.
pub(super) fn settle_kubelet(ctx: &Context) -> Result<(), StepError> {
    const PEM: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    if ctx.files.read(PEM)?.is_none() {
        return Ok(());
    }
    let text = with_server(&read(ctx, "kubelet.conf")?, LOCAL_API)?;
    let text = edit(&text, |kubeconfig| {
        for user in kubeconfig["users"].as_array_mut().into_iter().flatten() {
            user["user"] = serde_json::json!({"client-certificate": PEM, "client-key": PEM});
        }
    })?;
    Ok(ctx.files.write(&format!("{KUBERNETES}/kubelet.conf"), text.as_bytes(), 0o600, 0, 0)?)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::adapters::fake::FakeMachine;

    #[tokio::test]
    async fn that_others_may_join_is_noted_before_they_can() {
        let machine = FakeMachine::new();
        machine.files.put("/etc/kubernetes/pki/ca.crt", "the CA");
        let ctx = machine.node("n-1");
        let spec = json!({
            "name": "n-1", "role": "control-plane", "start": "init", "address": "10.0.0.1", "kubernetes": "1.34.4",
            "api_endpoint": "10.0.0.9:6443", "pods": "10.244.0.0/16", "services": "10.96.0.0/12",
            "image_repository": "registry.k8s.io",
        });
        let spec: ClusterMemberSpec = serde_json::from_value(spec).unwrap();
        let note = json!({"version": 1, "name": "n-1", "role": "control-plane", "start": "init", "stage": "answering"});
        let mut note: Membership = serde_json::from_value(note).unwrap();

        let asked = Arc::new(Mutex::new(Vec::new()));
        let (files, seen) = (Arc::clone(&machine.files), Arc::clone(&asked));
        let service = tower::service_fn(move |request: Request<Body>| {
            let noted = membership::read(&*files).unwrap().map(|note| note.stage);
            seen.lock().unwrap().push((request.uri().path().to_owned(), noted));
            async move { Ok::<_, Infallible>(Response::new(Body::from(b"{}".to_vec()))) }
        });
        publish(&ctx, &spec, &Client::new(service, "default"), &mut note).await.unwrap();
        let path = "/api/v1/namespaces/kube-public/configmaps/cluster-info".to_owned();
        assert_eq!(*asked.lock().unwrap(), [(path, Some(Stage::Published))]);
    }
}
