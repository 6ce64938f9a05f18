//! Settings of kubelet and kube-proxy: as the site says, also on nodes that are members already.
//!
//! kubelet's are the node's own. kubeadm makes its file of the site's fragments and starts it anew; noted are the digests
//! of what was wanted and of the file, so that a change of either shows. It counts as up again when it renews its Lease in
//! the cluster: a kubelet that does not start leaves its Node Ready for most of a minute.
//!
//! kube-proxy's are the cluster's: the control plane that leads writes them, and marks the DaemonSet's pods with their
//! digest, upon which Kubernetes starts them anew, one node at a time.

use std::time::{Duration, Instant};

use kube::Client;
use muster_catalog::kinds::cluster_member::ClusterMemberSpec;
use muster_ids::Digest;
use muster_plan::kinds::cluster_member::{Membership, Settings, SettingsSeen};
use serde_json::{Value, json};

use super::{LOCAL_API, api, birth, documents, kubeadm, lease, membership, node};
use crate::{Context, Done, StepError};

/// What kubeadm makes of kubelet's settings.
const KUBELET: &str = "/var/lib/kubelet/config.yaml";
const PROXY: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy";
/// On the pods of kube-proxy's DaemonSet.
const MARK: &str = "muster.dev/settings";
/// How long a kubelet may take to renew its Lease; it does every ten seconds.
const UP: Duration = Duration::from_secs(60);

/// What kubelet should run with, and what stands in its file.
pub fn kubelet(ctx: &Context, spec: &ClusterMemberSpec) -> Result<SettingsSeen, StepError> {
    let wanted = documents::kubelet(&kubeadm::fragments(ctx, spec)?);
    let file = ctx.files.read(KUBELET)?.unwrap_or_default();
    let there: Value = serde_yaml_ng::from_slice(&file).unwrap_or_default();
    let mut differences = Vec::new();
    compare("", &wanted, &there, &mut differences);
    let now = Settings { wanted: digest(wanted.to_string()), written: digest(&file) };
    Ok(SettingsSeen { now, differences })
}

/// As it is noted: short, for people who look at it.
pub(super) fn digest(content: impl AsRef<[u8]>) -> String {
    let mut digest = Digest::of(content).to_string();
    digest.truncate(16);
    digest
}

/// What is wanted and stands otherwise; what is wanted no longer goes without a word.
fn compare(path: &str, wanted: &Value, there: &Value, differences: &mut Vec<String>) {
    match wanted {
        Value::Object(wanted) => {
            for (key, value) in wanted {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, value, &there[key], differences);
            }
        }
        wanted if wanted == there => {}
        wanted if there.is_null() => differences.push(format!("+ {path}: {wanted}")),
        wanted => differences.push(format!("{path}: {there} → {wanted}")),
    }
}

/// Writes kubelet's file and starts it anew.
pub async fn configure(ctx: &Context, spec: &ClusterMemberSpec) -> Result<Done, StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    let client = ctx.kube.client().await?;
    kubeadm::run(ctx, &["init", "phase", "kubelet-start"], &documents).await?;
    renewed(ctx, &client, &spec.name).await?;
    if let Some(mut note) = membership::read(&*ctx.files)? {
        remember(ctx, spec, &mut note)?;
    }
    Ok(Done::default())
}

/// Notes that kubelet runs with what is wanted.
pub fn remember(ctx: &Context, spec: &ClusterMemberSpec, note: &mut Membership) -> Result<(), StepError> {
    note.kubelet = Some(kubelet(ctx, spec)?.now);
    membership::write(&*ctx.files, note)
}

/// Waits until the kubelet that was just started has spoken to the cluster. Its clock is this node's.
async fn renewed(ctx: &Context, client: &Client, name: &str) -> Result<(), StepError> {
    let started = lease::micro_time(ctx.clock.now());
    let begun = Instant::now();
    while begun.elapsed() < UP {
        let asked = tokio::time::timeout(Duration::from_secs(5), node::heartbeat(client, name)).await;
        if let Ok(Ok(Some(beat))) = asked
            && beat > started
        {
            tracing::info!(took = begun.elapsed().as_millis(), "kubelet is up with its settings");
            return Ok(());
        }
        ctx.clock.sleep(Duration::from_millis(200)).await;
    }
    Err(StepError::failed(format!("kubelet did not speak to the cluster within {} s of its new start", UP.as_secs()))
        .help("`journalctl -u kubelet` on the node says which setting it does not take")
        .retry())
}

/// kube-proxy's settings: wanted, and as its pods are marked; none where there is no kube-proxy.
pub async fn proxy(
    ctx: &Context,
    client: &Client,
    spec: &ClusterMemberSpec,
) -> Result<Option<(String, Option<String>)>, StepError> {
    let wanted = digest(documents::proxy(&kubeadm::fragments(ctx, spec)?).to_string());
    let Some(set) = api::find(client, PROXY).await? else { return Ok(None) };
    let mark = &set["spec"]["template"]["metadata"]["annotations"][MARK];
    Ok(Some((wanted, mark.as_str().map(str::to_owned))))
}

/// Writes kube-proxy's settings by kubeadm, and marks its pods.
pub async fn write_proxy(ctx: &Context, spec: &ClusterMemberSpec, wanted: &str) -> Result<Done, StepError> {
    let documents = documents::init(spec, &kubeadm::fragments(ctx, spec)?);
    let client = ctx.kube.client().await?;
    let admin = birth::with_server(&birth::read(ctx, "admin.conf")?, LOCAL_API)?;
    ctx.files.write(birth::LOCAL_ADMIN, admin.as_bytes(), 0o600, 0, 0)?;
    let phase = ["init", "phase", "addon", "kube-proxy", "--kubeconfig", birth::LOCAL_ADMIN];
    let written = kubeadm::run(ctx, &phase, &documents).await;
    ctx.files.remove(birth::LOCAL_ADMIN, false)?;
    written?;
    mark_proxy(&client, wanted).await?;
    Ok(Done::default())
}

async fn mark_proxy(client: &Client, wanted: &str) -> Result<(), StepError> {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {MARK: wanted}}}}});
    api::merge(client, PROXY, &patch).await?;
    Ok(())
}

/// A newborn cluster's kube-proxy has its settings from the start.
pub(super) async fn mark_newborn(ctx: &Context, spec: &ClusterMemberSpec, client: &Client) -> Result<(), StepError> {
    mark_proxy(client, &digest(documents::proxy(&kubeadm::fragments(ctx, spec)?).to_string())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_and_stands_otherwise_is_told() {
        let wanted = json!({"maxPods": 50, "evictionHard": {"memory.available": "100Mi"}, "failSwapOn": false});
        let there = json!({"maxPods": 110, "evictionHard": {}, "failSwapOn": false, "port": 1});
        let mut lines = Vec::new();
        compare("", &wanted, &there, &mut lines);
        assert_eq!(lines, ["+ evictionHard.memory.available: \"100Mi\"", "maxPods: 110 → 50"]);
    }
}
