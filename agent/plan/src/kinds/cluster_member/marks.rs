//! What the control plane that leads keeps on the workers' Node objects.
//!
//! A kubelet may not change its own node's taints, nor labels of Kubernetes' own domains: it has those that it joined with.
//! Nodes carry taints of many owners (controllers, network plugins, an admin's maintenance), so only what was once put on
//! for the site is ever taken off; an annotation on the Node remembers it.

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::kinds::cluster_member::Worker;
use serde::{Deserialize, Serialize};

use super::kubelet_may_set;

/// What was put on a Node for the site: the annotation's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marked {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taints: BTreeSet<String>,
}

/// A worker's Node object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerSeen {
    pub labels: BTreeMap<String, String>,
    /// All of them, `key=value:Effect`.
    pub taints: BTreeSet<String>,
    pub marked: Marked,
}

/// What changes on one Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marking {
    pub set: BTreeMap<String, String>,
    pub remove: BTreeSet<String>,
    pub taint: BTreeSet<String>,
    pub untaint: BTreeSet<String>,
    /// To be remembered.
    pub marked: Marked,
}

impl Marking {
    /// Lines for people.
    pub(super) fn detail(&self, node: &str) -> Vec<String> {
        let mut lines: Vec<_> = self.set.iter().map(|(key, value)| format!("{node}: + label {key}={value}")).collect();
        lines.extend(self.remove.iter().map(|key| format!("{node}: - label {key}")));
        lines.extend(self.taint.iter().map(|taint| format!("{node}: + taint {taint}")));
        lines.extend(self.untaint.iter().map(|taint| format!("{node}: - taint {taint}")));
        if lines.is_empty() {
            lines.push(format!("{node}: labels and taints noted as the site's"));
        }
        lines
    }
}

/// What the leader has to change on a worker's Node.
pub fn marking(worker: &Worker, seen: &WorkerSeen) -> Option<Marking> {
    let wanted = Marked {
        labels: worker.labels.keys().filter(|key| !kubelet_may_set(key)).cloned().collect(),
        taints: worker.taints.iter().map(|taint| plain(taint)).collect(),
    };
    let differs = |key: &&String| seen.labels.get(*key) != worker.labels.get(*key);
    let set: BTreeMap<_, _> =
        wanted.labels.iter().filter(differs).map(|key| (key.clone(), worker.labels[key].clone())).collect();
    let left = |key: &&String| !wanted.labels.contains(*key) && seen.labels.contains_key(*key);
    let remove: BTreeSet<_> = seen.marked.labels.iter().filter(left).cloned().collect();
    let taint: BTreeSet<_> = wanted.taints.difference(&seen.taints).cloned().collect();
    let untaint = seen.marked.taints.iter().filter(|taint| !wanted.taints.contains(*taint));
    let untaint: BTreeSet<_> = untaint.filter(|taint| seen.taints.contains(*taint)).cloned().collect();
    (wanted != seen.marked || !set.is_empty() || !taint.is_empty()).then_some(Marking {
        set,
        remove,
        taint,
        untaint,
        marked: wanted,
    })
}

/// `key=:Effect` is `key:Effect`.
fn plain(taint: &str) -> String {
    taint.replacen("=:", ":", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    fn worker(labels: &[(&str, &str)], taints: &[&str]) -> Worker {
        Worker {
            name: "workers-1".to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            taints: taints.iter().map(|taint| (*taint).to_owned()).collect(),
        }
    }

    #[test]
    fn a_pool_without_taints_touches_no_node() {
        let theirs =
            WorkerSeen { taints: set(&["node.cilium.io/agent-not-ready:NoSchedule"]), ..WorkerSeen::default() };
        assert_eq!(marking(&worker(&[("tier", "a")], &[]), &theirs), None);
    }

    #[test]
    fn a_taint_comes_and_goes_with_the_site_and_others_stay() {
        let theirs = "maintenance=dana:NoExecute";
        let mut seen = WorkerSeen { taints: set(&[theirs]), ..WorkerSeen::default() };
        let change = marking(&worker(&[], &["dedicated=db:NoSchedule"]), &seen).unwrap();
        assert_eq!((&change.taint, &change.untaint), (&set(&["dedicated=db:NoSchedule"]), &set(&[])));
        seen.taints.extend(change.taint);
        seen.marked = change.marked;
        assert_eq!(marking(&worker(&[], &["dedicated=db:NoSchedule"]), &seen), None);

        let change = marking(&worker(&[], &["dedicated=:NoSchedule"]), &seen).unwrap();
        assert_eq!((change.taint, change.untaint), (set(&["dedicated:NoSchedule"]), set(&["dedicated=db:NoSchedule"])));
        let change = marking(&worker(&[], &[]), &seen).unwrap();
        assert_eq!((change.untaint, change.marked), (set(&["dedicated=db:NoSchedule"]), Marked::default()));
    }

    #[test]
    fn taken_off_by_hand_it_is_put_on_again() {
        let marked = Marked { taints: set(&["a:NoSchedule"]), ..Marked::default() };
        let seen = WorkerSeen { marked, ..WorkerSeen::default() };
        assert_eq!(marking(&worker(&[], &["a:NoSchedule"]), &seen).unwrap().taint, set(&["a:NoSchedule"]));
    }

    #[test]
    fn only_labels_that_kubelet_may_not_set_are_the_leaders() {
        let role = "node-role.kubernetes.io/db";
        let wanted = worker(&[(role, ""), ("tier", "a")], &[]);
        let mut seen = WorkerSeen::default();
        let change = marking(&wanted, &seen).unwrap();
        assert_eq!(change.set.keys().collect::<Vec<_>>(), [role]);
        seen.labels.insert(role.to_owned(), String::new());
        seen.marked = change.marked;
        assert_eq!(marking(&wanted, &seen), None);
        assert_eq!(marking(&worker(&[], &[]), &seen).unwrap().remove, set(&[role]));
    }
}
