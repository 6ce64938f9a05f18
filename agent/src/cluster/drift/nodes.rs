//! Node objects: gone, ready or not any more, labelled or tainted by somebody.

use std::collections::{BTreeMap, BTreeSet};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Node};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use muster_ids::Digest;
use muster_plan::kinds::cluster_member::Stage;

use super::leading;
use crate::{Context, cluster::membership};

/// This node's own. Its credentials let it watch no other.
pub fn own(ctx: Context, name: String) -> BoxStream<'static, ()> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let nodes = async move {
        loop {
            let member = membership::read(&*ctx.files)
                .is_ok_and(|note| note.is_some_and(|note| note.name == name && note.stage == Stage::Member));
            if member && let Ok(client) = ctx.kube.client().await {
                return Api::all(client);
            }
            ctx.clock.sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    stream::once(nodes).flat_map(move |nodes| changes(nodes, config.clone(), Touch::Own)).boxed()
}

/// The servers of cluster DNS, while this node leads: changed by somebody, or gone.
pub fn dns(ctx: Context) -> BoxStream<'static, ()> {
    let sets = async move { Api::<DaemonSet>::namespaced(leading(&ctx).await, "kube-system") };
    let config = watcher::Config::default().fields("metadata.name=coredns");
    let changes = move |sets: Api<DaemonSet>| {
        let events = watcher(sets, config.clone()).default_backoff();
        events
            .scan(None, |known: &mut Option<Option<i64>>, event| {
                let touched = match event {
                    Ok(watcher::Event::Apply(set) | watcher::Event::InitApply(set)) => {
                        let generation = Some(set.metadata.generation);
                        std::mem::replace(known, generation) != generation
                    }
                    Ok(watcher::Event::Delete(_)) => known.take().is_some(),
                    Ok(watcher::Event::InitDone) => known.is_none(),
                    Ok(watcher::Event::Init) | Err(_) => false,
                };
                std::future::ready(Some(touched))
            })
            .filter_map(|touched| std::future::ready(touched.then_some(())))
    };
    stream::once(sets).flat_map(changes).boxed()
}

/// All, while this node leads.
pub fn all(ctx: Context) -> BoxStream<'static, ()> {
    let nodes = async move { Api::all(leading(&ctx).await) };
    stream::once(nodes).flat_map(|nodes| changes(nodes, watcher::Config::default(), Touch::Marks)).boxed()
}

/// What of a Node counts as a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touch {
    /// Labels, taints, readiness; and that it is not there at all.
    Own,
    /// Labels and taints.
    Marks,
}

fn changes(nodes: Api<Node>, config: watcher::Config, touch: Touch) -> impl futures::Stream<Item = ()> {
    let events = watcher(nodes, config).default_backoff();
    events
        .scan(Known::default(), move |known, event| {
            let touched = match event {
                Ok(event) => known.take(event, touch),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a watch on nodes began anew");
                    false
                }
            };
            std::future::ready(Some(touched))
        })
        .filter_map(|touched| std::future::ready(touched.then_some(())))
}

#[derive(Default)]
struct Known {
    nodes: BTreeMap<String, Digest>,
    listed: BTreeSet<String>,
}

impl Known {
    /// Whether an event shows a change. What is there when the watch begins is none.
    fn take(&mut self, event: watcher::Event<Node>, touch: Touch) -> bool {
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                false
            }
            watcher::Event::InitApply(node) => {
                self.listed.insert(name(&node));
                let digest = digest(&node, touch);
                self.nodes.insert(name(&node), digest).is_some_and(|before| before != digest)
            }
            watcher::Event::InitDone => {
                let before = self.nodes.len();
                let listed = std::mem::take(&mut self.listed);
                self.nodes.retain(|name, _| listed.contains(name));
                self.nodes.len() < before || touch == Touch::Own && self.nodes.is_empty()
            }
            watcher::Event::Apply(node) => {
                let digest = digest(&node, touch);
                self.nodes.insert(name(&node), digest) != Some(digest)
            }
            watcher::Event::Delete(node) => self.nodes.remove(&name(&node)).is_some(),
        }
    }
}

fn digest(node: &Node, touch: Touch) -> Digest {
    let ready = || {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        conditions.filter(|one| one.type_ == "Ready").map(|one| one.status.as_str()).collect::<String>()
    };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let ready = if touch == Touch::Own { ready() } else { String::new() };
    Digest::of(serde_json::json!([node.metadata.uid, node.metadata.labels, taints, ready]).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, labels: serde_json::Value, ready: &str) -> Node {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": status})).unwrap()
    }

    #[test]
    fn a_beat_of_kubelets_is_no_change_and_readiness_is_ones_own() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        for touch in [Touch::Own, Touch::Marks] {
            let mut known = Known::default();
            let mut take = |event| known.take(event, touch);
            let one = |labels, ready| node("n-1", labels, ready);
            assert!(!take(Init) && !take(InitApply(one(json!({}), "True"))) && !take(InitDone));
            assert!(!take(Apply(one(json!({}), "True"))), "a beat");
            assert_eq!(take(Apply(one(json!({}), "Unknown"))), touch == Touch::Own);
            assert!(take(Apply(one(json!({"a": "b"}), "Unknown"))));
            // What happened while the watch was away.
            assert!(!take(Init) && take(InitApply(one(json!({"a": "c"}), "Unknown"))) && !take(InitDone));
            assert!(take(Delete(one(json!({"a": "c"}), "Unknown"))));
            take(Apply(one(json!({}), "True")));
            assert!(!take(Init) && take(InitDone), "it went");
            take(Init);
            assert_eq!(take(InitDone), touch == Touch::Own, "it still is not there");
        }
    }
}
