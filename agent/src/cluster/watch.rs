//! What the cluster is just now, as the control plane that leads sees it: Nodes by a watch, etcd and cluster DNS by looking
//! every two seconds. Told as a whole, when it changes.
//!
//! A converge tells of its own node, minutes apart; a node that is cut off, frozen or out of the cluster tells nothing, or what
//! was true before.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use muster_plan::cluster::{ClusterReport, Member, MemberState, NodeCondition};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    dns,
    etcd::{self, Etcd},
};
use crate::Context;

/// The newest; none while this node does not lead.
pub type Seen = watch::Sender<Option<ClusterReport>>;

const EVERY: Duration = Duration::from_secs(2);
/// A member or an API server that takes longer is silent this time.
const ANSWER: Duration = Duration::from_secs(1);

/// Watches until it is dropped; then nothing is told any more.
pub async fn watch(ctx: &Context, client: &Client, seen: &Seen) {
    let _silent_at_the_end = Silence(seen);
    let nodes: Api<Node> = Api::all(client.clone());
    let mut changes = watcher(nodes, watcher::Config::default()).default_backoff().boxed();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut nodes, mut etcd) = (Nodes::default(), Members::default());
    let (mut report, mut missed) = (ClusterReport::default(), false);
    loop {
        tokio::select! {
            change = changes.try_next() => match change {
                Ok(Some(event)) => nodes.take(event),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the watch on nodes began anew");
                }
            },
            _ = ticks.tick() => {
                let count = nodes.known.as_ref().map_or(0, BTreeMap::len);
                let looked = timeout(ANSWER, dns::look(client, u32::try_from(count).unwrap_or(u32::MAX)));
                let (members, looked) = futures::join!(etcd.look(ctx), looked);
                report.members = members;
                // Once is no silence on a busy machine.
                (report.dns, missed) = match (looked.ok().flatten(), missed) {
                    (Some(dns), _) => (Some(dns), false),
                    (None, false) => (report.dns, true),
                    (None, true) => (None, true),
                };
            }
        }
        if let Some(known) = &nodes.known {
            report.nodes.clone_from(known);
            seen.send_if_modified(|told| {
                let news = told.as_ref() != Some(&report);
                if news {
                    *told = Some(report.clone());
                }
                news
            });
        }
    }
}

struct Silence<'a>(&'a Seen);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

/// Node objects, once all are listed.
#[derive(Default)]
struct Nodes {
    known: Option<BTreeMap<String, NodeCondition>>,
    listing: BTreeMap<String, NodeCondition>,
}

impl Nodes {
    fn take(&mut self, event: watcher::Event<Node>) {
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(node) => drop(self.listing.insert(name(&node), condition(&node))),
            watcher::Event::InitDone => self.known = Some(std::mem::take(&mut self.listing)),
            watcher::Event::Apply(node) => {
                self.known.get_or_insert_default().insert(name(&node), condition(&node));
            }
            watcher::Event::Delete(node) => {
                self.known.get_or_insert_default().remove(&name(&node));
            }
        }
    }
}

fn name(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

fn condition(node: &Node) -> NodeCondition {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let why = match ready {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => {
            let said = [condition.reason.as_deref(), condition.message.as_deref()];
            Some(shown(&said.into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")))
        }
        None => Some("kubelet has not said yet whether it is ready".to_owned()),
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    NodeCondition { ready: why.is_none(), why, cordoned }
}

/// What a kubelet says of itself, at a length for people: it may write whatever it likes.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// etcd's members, with a connection to each.
#[derive(Default)]
struct Members {
    clients: BTreeMap<String, Etcd>,
    /// Those that did not answer the last time: once is no silence on a busy machine.
    missed: BTreeSet<u64>,
}

impl Members {
    /// None: this node's own says nothing, or has no quorum to say it with.
    async fn look(&mut self, ctx: &Context) -> Option<Vec<Member>> {
        let own = etcd::client_url("127.0.0.1");
        self.connect(ctx, &own)?;
        let members = timeout(ANSWER * 2, self.clients[&own].members()).await;
        let Ok(Ok(members)) = members else {
            self.clients.clear();
            return None;
        };
        for url in members.iter().filter_map(|member| member.client_urls.first()) {
            self.connect(ctx, url);
        }
        let clients = &self.clients;
        let asked = members.iter().map(|member| async move {
            let client = member.client_urls.first().and_then(|url| clients.get(url));
            match client {
                Some(client) => timeout(ANSWER, client.serves()).await == Ok(true),
                None => false,
            }
        });
        let answers = futures::future::join_all(asked).await;
        let mut silent = BTreeSet::new();
        let mut told: Vec<Member> = Vec::with_capacity(members.len());
        for (member, answered) in members.iter().zip(answers) {
            if !answered {
                silent.insert(member.id);
                self.clients.retain(|url, _| !member.client_urls.contains(url));
            }
            told.push(state(member, answered || !self.missed.contains(&member.id)));
        }
        self.missed = silent;
        told.sort_by(|one, other| one.node.cmp(&other.node));
        Some(told)
    }

    fn connect(&mut self, ctx: &Context, url: &str) -> Option<()> {
        if !self.clients.contains_key(url) {
            self.clients.insert(url.to_owned(), Etcd::at(&*ctx.files, url).ok()?);
        }
        Some(())
    }
}

fn state(member: &etcd::Member, answers: bool) -> Member {
    if member.name.is_empty() {
        let host = member.peer_urls.first().map(String::as_str).unwrap_or_default();
        let host = host.trim_start_matches("https://").trim_end_matches(":2380").to_owned();
        return Member { node: host, state: MemberState::Unstarted };
    }
    let state = match (answers, member.learner) {
        // It may not have come so far.
        (_, true) => MemberState::Learner,
        (false, false) => MemberState::Silent,
        (true, false) => MemberState::Voter,
    };
    Member { node: member.name.clone(), state }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str, message: &str, cordoned: bool) -> Node {
        let ready = json!({"type": "Ready", "status": ready, "reason": "R", "message": message});
        let object =
            json!({"metadata": {"name": name}, "spec": {"unschedulable": cordoned}, "status": {"conditions": [ready]}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_node_is_ready_by_its_condition_and_says_why_it_is_not() {
        let well = NodeCondition { ready: true, why: None, cordoned: false };
        assert_eq!(condition(&node("n", "True", "kubelet is posting ready status", false)), well);
        let silent = condition(&node("n", "Unknown", "Kubelet stopped posting node status.", true));
        let why = Some("R: Kubelet stopped posting node status.".to_owned());
        assert_eq!(silent, NodeCondition { ready: false, why, cordoned: true });
        assert!(!condition(&Node::default()).ready);
        let long = condition(&node("n", "False", &"\u{1b}[2J".repeat(1000), false)).why.unwrap();
        assert!(long.chars().count() == 300 && !long.contains('\u{1b}'));
    }

    #[test]
    fn nothing_is_told_before_all_nodes_are_listed_and_one_that_went_meanwhile_is_gone() {
        use watcher::Event::{Delete, Init, InitApply, InitDone};
        let mut nodes = Nodes::default();
        nodes.take(Init);
        nodes.take(InitApply(node("a", "True", "", false)));
        assert_eq!(nodes.known, None);
        nodes.take(InitApply(node("b", "True", "", false)));
        nodes.take(InitDone);
        let names = |nodes: &Nodes| nodes.known.clone().unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(names(&nodes), ["a", "b"]);
        nodes.take(Init);
        nodes.take(InitApply(node("a", "True", "", false)));
        assert_eq!(names(&nodes), ["a", "b"], "the list is not whole yet");
        nodes.take(InitDone);
        assert_eq!(names(&nodes), ["a"]);
        nodes.take(Delete(node("a", "True", "", false)));
        assert!(names(&nodes).is_empty());
    }

    #[test]
    fn a_member_that_never_started_goes_by_its_address() {
        let member = |name: &str, learner| etcd::Member {
            id: 1,
            name: name.to_owned(),
            peer_urls: vec!["https://10.0.0.3:2380".to_owned()],
            client_urls: vec![],
            learner,
        };
        let told = |member: &etcd::Member, answers| {
            let Member { node, state } = state(member, answers);
            (node, state)
        };
        assert_eq!(told(&member("", true), false), ("10.0.0.3".to_owned(), MemberState::Unstarted));
        assert_eq!(told(&member("c", false), false), ("c".to_owned(), MemberState::Silent));
        for answers in [true, false] {
            assert_eq!(told(&member("c", true), answers), ("c".to_owned(), MemberState::Learner));
        }
        assert_eq!(told(&member("c", false), true), ("c".to_owned(), MemberState::Voter));
    }
}
