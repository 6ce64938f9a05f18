//! The cluster as the control plane that leads told of it last, and how old that is. In memory alone: the next report is
//! never more than ten seconds away.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use muster_ids::NodeName;
use muster_plan::cluster::{ClusterReport, MemberState, NodeCondition};

use crate::events::Level;

/// A leader tells every ten seconds; a Lease changes hands in fifteen.
pub const FRESH: i64 = 25;

/// A report, from whom and of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub from: NodeName,
    /// Seconds since the epoch, on this clock.
    pub at: i64,
    pub report: ClusterReport,
}

/// What was told last.
#[derive(Debug, Default)]
pub struct Cluster {
    last: Mutex<Option<Told>>,
}

/// What Kubernetes says of one node just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// Nobody who leads was heard of lately.
    Unknown,
    /// It has no Node object of this name.
    Absent,
    Node(NodeCondition),
}

impl Cluster {
    /// Keeps a report; the one before is returned.
    pub fn hear(&self, told: Told) -> Option<Told> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(told)
    }

    pub fn last(&self) -> Option<Told> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What may still be believed.
    pub fn fresh(&self, now: i64) -> Option<Told> {
        self.last().filter(|told| now - told.at < FRESH)
    }

    pub fn says(&self, node: &NodeName, now: i64) -> Says {
        match self.fresh(now) {
            None => Says::Unknown,
            Some(told) => told.report.nodes.get(node.as_str()).map_or(Says::Absent, |node| Says::Node(node.clone())),
        }
    }
}

/// An event in the making: level, node, phrase, text.
pub type News = (Level, Option<NodeName>, &'static str, String);

/// What people should hear of it: the difference to the report before.
pub fn news(before: &ClusterReport, now: &ClusterReport) -> Vec<News> {
    let mut news = Vec::new();
    let names: BTreeSet<&String> = before.nodes.keys().chain(now.nodes.keys()).collect();
    for name in names {
        let Ok(node) = name.parse::<NodeName>() else { continue };
        let mut tell = |level, what, text: String| news.push((level, Some(node.clone()), what, text));
        match (before.nodes.get(name), now.nodes.get(name)) {
            (Some(_), None) => tell(Level::Warn, "node gone", "the cluster has no Node of it any more".to_owned()),
            (Some(NodeCondition { ready: true, .. }), Some(NodeCondition { ready: false, why, .. })) => {
                let why = why.as_ref().map_or(String::new(), |why| format!(": {why}"));
                tell(Level::Warn, "not ready", format!("no longer serves{why}"));
            }
            (None | Some(NodeCondition { ready: false, .. }), Some(NodeCondition { ready: true, .. })) => {
                tell(Level::Info, "ready", "serves in the cluster".to_owned());
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
    }
    let (Some(was), Some(is)) = (&before.members, &now.members) else { return news };
    for member in is {
        let state = was.iter().find(|before| before.node == member.node).map(|before| before.state);
        let node = member.node.parse().ok();
        match (state, member.state) {
            (before, now) if before == Some(now) => {}
            (_, MemberState::Silent) => {
                news.push((Level::Warn, node, "etcd", format!("{} {}", member.node, member.state.text())));
            }
            (_, MemberState::Voter) => {
                news.push((Level::Info, node, "etcd", format!("{} {}", member.node, member.state.text())));
            }
            // On their way in.
            (_, MemberState::Learner | MemberState::Unstarted) => {}
        }
    }
    news
}

#[cfg(test)]
mod tests {
    use muster_plan::cluster::Member;

    use super::*;

    fn condition(ready: bool) -> NodeCondition {
        NodeCondition { ready, why: (!ready).then(|| "KubeletNotReady: no network".to_owned()), cordoned: false }
    }

    fn report(nodes: &[(&str, bool)], members: &[(&str, MemberState)]) -> ClusterReport {
        let member = |(node, state): &(&str, MemberState)| Member { node: (*node).to_owned(), state: *state };
        ClusterReport {
            nodes: nodes.iter().map(|(name, ready)| ((*name).to_owned(), condition(*ready))).collect(),
            members: Some(members.iter().map(member).collect()),
            dns: None,
        }
    }

    #[test]
    fn what_was_told_is_believed_for_a_while_and_then_nothing_is_known() {
        let cluster = Cluster::default();
        let (one, other): (NodeName, NodeName) = ("workers-1".parse().unwrap(), "workers-2".parse().unwrap());
        assert_eq!(cluster.says(&one, 100), Says::Unknown);
        let from: NodeName = "control-plane-1".parse().unwrap();
        assert_eq!(cluster.hear(Told { from, at: 100, report: report(&[("workers-1", true)], &[]) }), None);
        assert_eq!(cluster.says(&one, 101), Says::Node(condition(true)));
        assert_eq!(cluster.says(&other, 101), Says::Absent);
        assert_eq!(cluster.says(&one, 100 + FRESH), Says::Unknown, "silence is no word for it");
    }

    #[test]
    fn changes_are_told_once_with_their_cause() {
        use MemberState::{Learner, Silent, Voter};
        let well = report(&[("a-1", true), ("a-2", true)], &[("a-1", Voter), ("a-2", Voter)]);
        assert_eq!(news(&well, &well), []);
        let worse = report(&[("a-2", false)], &[("a-1", Silent), ("a-2", Voter)]);
        let told: Vec<_> =
            news(&well, &worse).into_iter().map(|(_, _, what, text)| format!("{what}: {text}")).collect();
        assert_eq!(
            told,
            [
                "node gone: the cluster has no Node of it any more",
                "not ready: no longer serves: KubeletNotReady: no network",
                "etcd: a-1 does not answer as a member of etcd",
            ]
        );
        assert_eq!(news(&worse, &worse), []);
        assert_eq!(news(&worse, &well).len(), 3);
        let joins = report(&[], &[("a-1", Voter), ("a-3", Learner)]);
        assert_eq!(news(&report(&[], &[("a-1", Voter)]), &joins), [], "it is on its way in");
    }
}
