//! Whether what the site's sets run is rolled out: what `apply` waits for, as `kubectl rollout status` does.
//!
//! Only the control plane that leads says it, of Deployments, StatefulSets and DaemonSets that carry a set's label. That a
//! pod is not available is no difference from the site: nothing is put back, it is only told.

use std::time::Duration;

use kube::Client;
use muster_plan::{Workload, kinds::cluster_member::Stage};
use serde_json::Value;

use super::{
    api::{self, ApiError},
    lease::{self, Holder},
    membership,
    sets::marks,
};
use crate::Context;

const PLURALS: [&str; 3] = ["daemonsets", "deployments", "statefulsets"];
/// Longer than this nobody waits for the answer at a converge's end.
const ANSWER: Duration = Duration::from_secs(5);

/// The workloads that are not rolled out. None where this node is no member, or another one leads. That nobody answers is
/// told as one: whoever waits for roll-outs shall not take it for their end.
pub async fn behind(ctx: &Context) -> Vec<Workload> {
    let asked = async {
        let note = membership::read(&*ctx.files).ok()?;
        let Some(note) = note.filter(|note| note.stage == Stage::Member) else { return Some(vec![]) };
        let client = ctx.kube.client().await.ok()?;
        match lease::holder(&client, &note.name).await.ok()? {
            Holder::This => ask(&client).await.ok(),
            Holder::Other(_) => Some(vec![]),
            Holder::Nobody => None,
        }
    };
    tokio::time::timeout(ANSWER, asked).await.ok().flatten().unwrap_or_else(|| vec![unknown()])
}

fn unknown() -> Workload {
    let open = "the API server does not say how far their roll-outs are".to_owned();
    Workload { name: "applications".to_owned(), open, why: None, lasting: false }
}

async fn ask(client: &Client) -> Result<Vec<Workload>, ApiError> {
    let mut all = Vec::new();
    for plural in PLURALS {
        // With the selector `muster.dev/set`: there, with whatever value.
        let path = format!("/apis/apps/v1/{plural}?labelSelector={}", marks::SET.replace('/', "%2F"));
        let list = api::get(client, &path).await?;
        for workload in list["items"].as_array().into_iter().flatten() {
            let Some(open) = open(plural, workload) else { continue };
            let word = |key: &str| workload["metadata"][key].as_str().unwrap_or_default();
            let (namespace, name) = (word("namespace"), word("name"));
            let pods = api::get(client, &format!("/api/v1/namespaces/{namespace}/pods")).await?;
            let (why, lasting) = cause(&pods, &workload["spec"]["selector"]["matchLabels"]).unzip();
            let name = format!("{namespace}/{name}");
            all.push(Workload { name, open, why, lasting: lasting.unwrap_or_default() });
        }
    }
    Ok(all)
}

/// What is left of a roll-out, after `kubectl rollout status`. A strategy that leaves old pods alone asks for no new ones.
fn open(plural: &str, workload: &Value) -> Option<String> {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_u64);
    let status = |key: &str| number(&format!("/status/{key}")).unwrap_or_default();
    if status("observedGeneration") < number("/metadata/generation").unwrap_or_default() {
        return Some("its roll-out begins".to_owned());
    }
    let replicas = number("/spec/replicas").unwrap_or(1);
    let by_hand = workload["spec"]["updateStrategy"]["type"] == "OnDelete" || workload["spec"]["paused"] == true;
    let (wanted, new, updated, available) = match plural {
        "daemonsets" => {
            let wanted = status("desiredNumberScheduled");
            (wanted, wanted, status("updatedNumberScheduled"), status("numberAvailable"))
        }
        "statefulsets" => {
            let kept = number("/spec/updateStrategy/rollingUpdate/partition").unwrap_or_default();
            // One whose revision is the current one counts no pods as updated.
            let done = workload["status"]["currentRevision"] == workload["status"]["updateRevision"];
            let new = if done { 0 } else { replicas.saturating_sub(kept) };
            (replicas, new, status("updatedReplicas"), status("availableReplicas"))
        }
        _deployments => (replicas, replicas, status("updatedReplicas"), status("availableReplicas")),
    };
    let old = if plural == "deployments" { status("replicas").saturating_sub(updated) } else { 0 };
    if updated < new && !by_hand {
        Some(format!("{updated} of {new} pods are of the new version"))
    } else if available < wanted {
        Some(format!("{available} of {wanted} pods are available"))
    } else if old > 0 && !by_hand {
        Some(format!("{old} pods of the old version end"))
    } else {
        None
    }
}

/// Why a pod of this selector does not start, where one says so, and whether that seldom passes.
fn cause(pods: &Value, selector: &Value) -> Option<(String, bool)> {
    let selected = |pod: &&Value| {
        let labels = &pod["metadata"]["labels"];
        selector.as_object().is_some_and(|all| all.iter().all(|(key, value)| labels[key] == *value))
    };
    let pods = pods["items"].as_array().into_iter().flatten().filter(selected);
    pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).find_map(|pod| {
        let states = ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|key| {
            let containers = pod["status"][key].as_array().into_iter().flatten();
            containers.map(|container| (&container["state"]["waiting"], container["image"].as_str()))
        });
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let unplaced = conditions.filter(|one| one["type"] == "PodScheduled" && one["status"] == "False");
        let unplaced = unplaced.map(|said| (said, None));
        let (reason, said) = states.chain(unplaced).find_map(|(said, image)| {
            let reason = said["reason"].as_str()?;
            // What every pod passes through is no cause.
            let passes = ["ContainerCreating", "PodInitializing"].contains(&reason);
            let text = said["message"].as_str().unwrap_or_default();
            let said = match image.and_then(|image| missing(image, text)) {
                Some(missing) => format!(": {missing}"),
                None if text.is_empty() => String::new(),
                None => format!(": {text}"),
            };
            (!passes).then_some((reason, said))
        })?;
        // What no node has room for waits for a node or for somebody who asks for less.
        let lasting =
            reason.contains("Image") || reason.starts_with("CreateContainer") || said.contains("Insufficient");
        Some((format!("{}: {reason}{said}", pod["metadata"]["name"].as_str().unwrap_or_default()), lasting))
    })
}

/// An image that is nowhere, and what to do. containerd asks the site's mirrors first; what they do not have it looks for
/// at the registry of the image's name, and says last that it does not even find that one.
fn missing(image: &str, said: &str) -> Option<String> {
    let help = "correct its name or tag, or put it there";
    if said.contains("dial tcp: lookup ") {
        let host = said.split("lookup ").nth(1).and_then(|rest| rest.split([' ', ':']).next()).unwrap_or_default();
        return Some(format!("the image {image} is not in the site's registry, and {host} is not known here: {help}"));
    }
    let absent = said.contains(": not found") || said.contains("manifest unknown");
    absent.then(|| format!("the image {image} is not in its registry: {help}"))
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
        let by_hand = |mut workload: Value, key: &str, value: Value| {
            workload["spec"][key] = value;
            workload
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
        // Old pods stay until somebody says otherwise.
        let half = || deployment(3, counts(1, 2, 3));
        assert_eq!(open("deployments", &by_hand(half(), "paused", json!(true))), None);
        assert_eq!(open("statefulsets", &by_hand(half(), "updateStrategy", json!({ "type": "OnDelete" }))), None);
        let partition = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } });
        assert_eq!(open("statefulsets", &by_hand(half(), "updateStrategy", partition)), None);
    }

    #[test]
    fn the_pod_says_why() {
        let pod = |app: &str, status: Value| json!({ "metadata": { "name": "web-1", "labels": { "app": app, "of": "shop" } }, "status": status });
        let waiting = |reason: &str| json!({ "containerStatuses": [{ "state": { "waiting": { "reason": reason, "message": "no" } } }] });
        let unplaced =
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }] });
        let mut too_large = unplaced.clone();
        too_large["conditions"][0]["message"] = json!("0/5 nodes are available: 2 Insufficient memory.");
        let nowhere = |text: &str| {
            let mut status = waiting("ErrImagePull");
            status["containerStatuses"][0]["image"] = json!("docker.io/shop:9");
            status["containerStatuses"][0]["state"]["waiting"]["message"] = json!(text);
            status
        };
        let unknown = "failed to do request: Head \"https://registry-1.docker.io/v2/shop/manifests/9\": dial tcp: \
            lookup registry-1.docker.io on 10.89.0.1:53: no such host";
        let unknown_told = "web-1: ErrImagePull: the image docker.io/shop:9 is not in the site's registry, and \
            registry-1.docker.io is not known here: correct its name or tag, or put it there";
        let absent_told = "web-1: ErrImagePull: the image docker.io/shop:9 is not in its registry: correct its name or \
            tag, or put it there";
        for (app, status, told) in [
            ("web", nowhere(unknown), Some((unknown_told, true))),
            (
                "web",
                nowhere("failed to resolve reference \"docker.io/shop:9\": docker.io/shop:9: not found"),
                Some((absent_told, true)),
            ),
            ("web", waiting("ImagePullBackOff"), Some(("web-1: ImagePullBackOff: no", true))),
            ("web", waiting("CrashLoopBackOff"), Some(("web-1: CrashLoopBackOff: no", false))),
            ("web", waiting("ContainerCreating"), None),
            ("web", unplaced, Some(("web-1: Unschedulable", false))),
            ("web", too_large, Some(("web-1: Unschedulable: 0/5 nodes are available: 2 Insufficient memory.", true))),
            ("web-admin", waiting("ImagePullBackOff"), None),
        ] {
            let found = cause(&json!({ "items": [pod(app, status)] }), &json!({ "app": "web" }));
            assert_eq!(found.as_ref().map(|(why, lasting)| (why.as_str(), *lasting)), told, "{app}");
        }
    }
}
