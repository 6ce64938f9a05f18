//! Whether what the site's sets run is rolled out: what `apply` waits for, as `kubectl rollout status` does.
//!
//! Only the control plane that leads says it, of Deployments, StatefulSets and DaemonSets that carry a set's label. That a
//! pod is not available is no difference from the site: nothing is put back, it is only told.

use std::time::Duration;

use kube::Client;
use muster_plan::Workload;
use serde_json::Value;

use super::{
    api::{self, ApiError},
    lease::{self, Holder},
    membership, objects,
};
use crate::Context;

const PLURALS: [&str; 3] = ["daemonsets", "deployments", "statefulsets"];
/// Longer than this nobody waits for the answer at a converge's end.
const ANSWER: Duration = Duration::from_secs(5);

/// The workloads that are not rolled out. None as well where this node does not lead, or nobody answers.
pub async fn behind(ctx: &Context) -> Vec<Workload> {
    let asked = async {
        let note = membership::read(&*ctx.files).ok()??;
        let client = ctx.kube.client().await.ok()?;
        match lease::holder(&client, &note.name).await {
            Ok(Holder::This) => ask(&client).await.ok(),
            Ok(Holder::Other(_) | Holder::Nobody) | Err(_) => None,
        }
    };
    tokio::time::timeout(ANSWER, asked).await.ok().flatten().unwrap_or_default()
}

async fn ask(client: &Client) -> Result<Vec<Workload>, ApiError> {
    let mut all = Vec::new();
    for plural in PLURALS {
        // With the selector `muster.dev/set`: there, with whatever value.
        let path = format!("/apis/apps/v1/{plural}?labelSelector={}", objects::SET.replace('/', "%2F"));
        let list = api::get(client, &path).await?;
        for workload in list["items"].as_array().into_iter().flatten() {
            let Some(open) = open(plural, workload) else { continue };
            let word = |key: &str| workload["metadata"][key].as_str().unwrap_or_default();
            let (namespace, name) = (word("namespace"), word("name"));
            let pods = api::get(client, &format!("/api/v1/namespaces/{namespace}/pods")).await?;
            all.push(Workload { name: format!("{namespace}/{name}"), open, why: cause(&pods, name) });
        }
    }
    Ok(all)
}

/// What is left of a roll-out, after `kubectl rollout status`.
fn open(plural: &str, workload: &Value) -> Option<String> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_u64);
    let status = |key: &str| number(&format!("/status/{key}")).unwrap_or_default();
    if status("observedGeneration") < number("/metadata/generation").unwrap_or_default() {
        return Some("its roll-out begins".to_owned());
    }
    let (wanted, updated, available) = match plural {
        "daemonsets" => (status("desiredNumberScheduled"), status("updatedNumberScheduled"), status("numberAvailable")),
        // A StatefulSet whose revision is the current one counts no pods as updated.
        "statefulsets" if workload["status"]["currentRevision"] == workload["status"]["updateRevision"] => {
            let wanted = number("/spec/replicas").unwrap_or(1);
            (wanted, wanted, status("availableReplicas"))
        }
        _deployments_and_statefulsets => {
            (number("/spec/replicas").unwrap_or(1), status("updatedReplicas"), status("availableReplicas"))
        }
    };
    let old = if plural == "deployments" { status("replicas").saturating_sub(updated) } else { 0 };
    if updated < wanted {
        Some(format!("{updated} of {wanted} pods are of the new version"))
    } else if available < wanted {
        Some(format!("{available} of {wanted} pods are available"))
    } else if old > 0 {
        Some(format!("{old} pods of the old version end"))
    } else {
        None
    }
}

/// Why a pod of this workload does not start, where one says so.
fn cause(pods: &Value, workload: &str) -> Option<String> {
    let own = format!("{workload}-");
    let pods = pods["items"].as_array().into_iter().flatten();
    let of_it = pods.filter(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(&own)));
    of_it.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).find_map(|pod| {
        let states = ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|key| {
            pod["status"][key].as_array().into_iter().flatten().map(|container| &container["state"]["waiting"])
        });
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let unplaced = conditions.filter(|one| one["type"] == "PodScheduled" && one["status"] == "False");
        let said = states.chain(unplaced).find_map(|said| {
            let reason = said["reason"].as_str()?;
            // What every pod passes through is no cause.
            let passes = ["ContainerCreating", "PodInitializing"].contains(&reason);
            (!passes).then(|| match said["message"].as_str() {
                Some(message) => format!("{reason}: {message}"),
                None => reason.to_owned(),
            })
        })?;
        Some(format!("{}: {said}", pod["metadata"]["name"].as_str().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_rolled_out_is_not_told() {
        let deployment = |generation: u64, status: Value| json!({ "metadata": { "generation": generation }, "spec": { "replicas": 2 }, "status": status });
        let counts = |updated, available, all| {
            json!({
                "observedGeneration": 3, "replicas": all, "updatedReplicas": updated, "availableReplicas": available,
                "currentRevision": "a", "updateRevision": "b",
            })
        };
        for (plural, generation, status, told) in [
            ("deployments", 3, counts(2, 2, 2), None),
            ("deployments", 4, counts(2, 2, 2), Some("its roll-out begins")),
            ("deployments", 3, counts(1, 2, 3), Some("1 of 2 pods are of the new version")),
            ("deployments", 3, counts(2, 1, 2), Some("1 of 2 pods are available")),
            ("deployments", 3, counts(2, 2, 3), Some("1 pods of the old version end")),
            ("deployments", 3, json!({ "observedGeneration": 3 }), Some("0 of 2 pods are of the new version")),
            ("statefulsets", 3, counts(1, 2, 2), Some("1 of 2 pods are of the new version")),
            ("statefulsets", 3, json!({ "observedGeneration": 3, "availableReplicas": 2 }), None),
            ("statefulsets", 3, json!({ "observedGeneration": 3 }), Some("0 of 2 pods are available")),
            (
                "daemonsets",
                3,
                json!({ "observedGeneration": 3, "desiredNumberScheduled": 5, "updatedNumberScheduled": 5, "numberAvailable": 4 }),
                Some("4 of 5 pods are available"),
            ),
        ] {
            assert_eq!(open(plural, &deployment(generation, status.clone())).as_deref(), told, "{plural} {status}");
        }
    }

    #[test]
    fn the_pod_says_why() {
        let pod = |name: &str, status: Value| json!({ "metadata": { "name": name }, "status": status });
        let waiting = |reason: &str| json!({ "containerStatuses": [{ "state": { "waiting": { "reason": reason, "message": "no such image" } } }] });
        let unplaced = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/5 nodes" }] });
        for (name, status, told) in [
            ("web-1", waiting("ImagePullBackOff"), Some("web-1: ImagePullBackOff: no such image")),
            ("web-1", waiting("ContainerCreating"), None),
            ("web-1", unplaced, Some("web-1: Unschedulable: 0/5 nodes")),
            ("database-0", waiting("ImagePullBackOff"), None),
        ] {
            assert_eq!(cause(&json!({ "items": [pod(name, status)] }), "web").as_deref(), told, "{name}");
        }
    }
}
