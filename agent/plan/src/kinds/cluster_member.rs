//! Membership of the Kubernetes cluster: where the node stands on its way in, and what the next step is.
//!
//! kubeadm's phases are idempotent, so a way in that was cut (a kill, a power loss) is gone on with from its start with the
//! files that are there; only when that fails too is what was made thrown away. A control plane that others may have
//! joined already is never thrown away: that is decided here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::kinds::{
    cluster_member::{ClusterMemberSpec, MemberRole, Start, Worker},
    service::Disrupts,
};

use super::Describe;
use crate::row::Action;

mod marks;
mod seen;
#[cfg(test)]
mod tests;

pub use muster_catalog::kinds::cluster_member::STATIC_PODS;

pub use marks::{Marked, Marking, WorkerSeen, marking};
pub use seen::{Files, Known, Membership, NodeSeen, Observed, Settings, SettingsSeen, Stage};

/// The label that the last step of a control plane's way in sets.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Why nothing may be done for now, or not by the agent at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It passes: what is waited for.
    Waits(String),
    /// Only a person goes on; what happened, and the way out.
    Stuck { message: String, help: String },
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The way into the cluster.
    Become { role: MemberRole, start: Start, way: Way },
    /// Files are complete and the API knows the node: only the note is missing.
    Adopt,
    /// kubelet's credentials on a control plane, which has the CA to make them anew. kubelet runs on.
    Credentials,
    /// Static pods whose manifest is gone.
    Restore { manifests: BTreeSet<String> },
    /// kubelet starts anew with other settings.
    Configure { differences: Vec<String> },
    /// kube-proxy's settings for the whole cluster; Kubernetes starts it anew node by node.
    Proxy { wanted: String },
    /// Cluster DNS on every node.
    Dns { wanted: String },
    /// The Node object is gone: kubelet makes it at its start.
    Register,
    /// etcd starts anew with a manifest that begins no cluster and names no others: without its data it must not start at all.
    SecureEtcd,
    /// Labels and taints of workers, which they may not change themselves.
    MarkWorkers { nodes: BTreeMap<String, Marking> },
    /// Names of nodes that the cluster takes nothing from any more.
    Refuse { names: Vec<String> },
    /// What the cluster still has of nodes that died or were revoked: their etcd members, then their Node objects. Whoever
    /// leads does it.
    Bury { nodes: BTreeSet<String> },
    /// Labels and taints of the Node object.
    Mark { set: BTreeMap<String, String>, remove: BTreeSet<String>, taints: Option<Vec<String>> },
    /// Several of a member's, in order.
    Several(Vec<Change>),
    /// The way out; `known`: the API has a Node to be emptied.
    Leave { role: MemberRole, known: bool },
}

/// How the way in is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Fresh,
    /// With what an attempt that was cut has made.
    Continue {
        from: Stage,
    },
    /// After `kubeadm reset`: going on failed, or nobody knows what the files are.
    StartOver,
    /// After `kubeadm reset` of a node that was a member: its pods end, and its etcd's vote goes first.
    Rejoin,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Become { .. } => Action::Create,
            Self::Adopt
            | Self::Credentials
            | Self::Restore { .. }
            | Self::Configure { .. }
            | Self::Proxy { .. }
            | Self::Dns { .. }
            | Self::Register
            | Self::SecureEtcd
            | Self::Refuse { .. }
            | Self::Bury { .. }
            | Self::Mark { .. }
            | Self::MarkWorkers { .. }
            | Self::Several(_) => Action::Change,
            Self::Leave { .. } => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        match self {
            Self::Become { role, start, way } => {
                let what = match (role, start) {
                    (MemberRole::ControlPlane, Start::Init) => "begin the cluster here (kubeadm init)",
                    (MemberRole::ControlPlane, Start::Join) => "join as a control plane",
                    (MemberRole::Worker, Start::Init | Start::Join) => "join as a worker",
                    (MemberRole::ControlPlane | MemberRole::Worker, Start::Leave) => "nothing: the node leaves",
                };
                let how = match way {
                    Way::Fresh => None,
                    Way::Continue { .. } => Some("an attempt was cut: it goes on with what is there"),
                    Way::StartOver => Some("what an attempt left is removed first (kubeadm reset)"),
                    Way::Rejoin => Some("it was a member and cannot go on: reset first (kubeadm reset), its pods end"),
                };
                [Some(what), how].into_iter().flatten().map(str::to_owned).collect()
            }
            Self::Adopt => vec!["the node is a member already: noted".to_owned()],
            Self::Credentials => vec!["+ kubelet.conf, which is gone".to_owned()],
            Self::Restore { manifests } => {
                manifests.iter().map(|name| format!("+ static pod {name}, whose manifest is gone")).collect()
            }
            Self::Configure { differences } => {
                let first = "kubelet starts anew with its settings".to_owned();
                [first].into_iter().chain(differences.iter().cloned()).collect()
            }
            Self::Proxy { .. } => vec!["kube-proxy starts anew with its settings, node by node".to_owned()],
            Self::Dns { .. } => vec!["cluster DNS gets a server on every node, one after the other".to_owned()],
            Self::Register => vec!["+ the Node object, which is gone: kubelet starts anew, its pods run on".to_owned()],
            Self::SecureEtcd => {
                vec!["etcd starts anew, so that it starts in no cluster where its data is gone".to_owned()]
            }
            Self::MarkWorkers { nodes } => nodes.iter().flat_map(|(node, marking)| marking.detail(node)).collect(),
            Self::Several(changes) => changes.iter().flat_map(Self::detail).collect(),
            Self::Bury { nodes } => nodes
                .iter()
                .map(|node| format!("- {node}, which is gone: its etcd member and its Node object"))
                .collect(),
            Self::Refuse { names } => vec![format!("revoked nodes are refused: {}", names.join(", "))],
            Self::Mark { set, remove, taints } => {
                let mut lines: Vec<_> = set.iter().map(|(key, value)| format!("+ label {key}={value}")).collect();
                lines.extend(remove.iter().map(|key| format!("- label {key}")));
                lines.extend(taints.iter().map(|taints| format!("taints = {}", taints.join(", "))));
                lines
            }
            Self::Leave { role, known } => {
                let pods = known.then_some("its pods are moved, within their disruption budgets");
                let etcd = match role {
                    MemberRole::ControlPlane => Some("- etcd member"),
                    MemberRole::Worker => None,
                };
                [pods, etcd, Some("- node of the cluster")].into_iter().flatten().map(str::to_owned).collect()
            }
        }
    }

    fn disrupts(&self) -> Disrupts {
        match self {
            // Containers run on, but a kubelet that does not come up takes its node along: one at a time.
            Self::Configure { .. } | Self::SecureEtcd => Disrupts::Service,
            Self::Become { way: Way::Rejoin, .. } => Disrupts::Node,
            Self::Several(changes) => changes.iter().map(Self::disrupts).max().unwrap_or_default(),
            Self::Become { way: Way::Fresh | Way::Continue { .. } | Way::StartOver, .. }
            | Self::Adopt
            | Self::Credentials
            | Self::Restore { .. }
            | Self::Proxy { .. }
            | Self::Dns { .. }
            | Self::Register
            | Self::Refuse { .. }
            | Self::Bury { .. }
            | Self::Mark { .. }
            | Self::MarkWorkers { .. }
            | Self::Leave { .. } => Disrupts::Nothing,
        }
    }
}

/// What forbids to act on what was seen. Asked before [`diff`].
pub fn obstacle(spec: &ClusterMemberSpec, observed: &Observed) -> Option<Obstacle> {
    let (files, silent) = (&observed.files, observed.node == Known::Silent);
    let name = &spec.name;
    if spec.start == Start::Leave {
        // Whether pods run here is not known: gone without a word they would be missed for minutes.
        return silent.then(|| {
            Obstacle::Waits(format!(
                "the API server to answer, here or at {}: the node leaves when its pods have moved. Where the cluster \
                 is gone for good, delete the machine instead",
                spec.api_endpoint
            ))
        });
    }
    let Some(membership) = &observed.membership else {
        if !files.living() {
            return None;
        }
        return match observed.node {
            Known::Silent => {
                Some(Obstacle::Waits(format!("the API server to say whether {name} is a member: its note is lost")))
            }
            Known::NoCredentials => Some(Obstacle::Stuck {
                message: format!("{name} has static pods and etcd data, and neither a note nor credentials"),
                help: "put /etc/kubernetes/admin.conf back, or delete the machine: another is made in its place"
                    .to_owned(),
            }),
            Known::Absent | Known::Node(_) => None,
        };
    };
    (spec.control_planes == 1 && emptied(spec, membership, files)).then(|| Obstacle::Stuck {
        message: format!("etcd's data (/var/lib/etcd/member) is gone from {name}, the only control plane"),
        help: "put /var/lib/etcd back, or restore it from a snapshot; pods that run go on meanwhile".to_owned(),
    })
}

/// Whether a member lost etcd's data: its write-ahead log, for an etcd that ends for want of it makes the folder again. It has
/// the others' once it joined anew; started without it, etcd might begin a cluster of its own behind the load balancer.
fn emptied(spec: &ClusterMemberSpec, membership: &Membership, files: &Files) -> bool {
    membership.stage == Stage::Member && spec.role == MemberRole::ControlPlane && !files.etcd_log
}

/// What has to change; none for a member with its labels and static pods.
pub fn diff(spec: &ClusterMemberSpec, observed: &Observed) -> Option<Change> {
    match spec.start {
        Start::Leave => {
            let outside = observed.membership.is_none() && !observed.files.any();
            let known = observed.node.node().is_some();
            return (!outside).then_some(Change::Leave { role: spec.role, known });
        }
        Start::Join | Start::Init => {}
    }
    let Some(membership) = &observed.membership else { return Some(unnoted(spec, observed)) };
    if membership.stage != Stage::Member || !(observed.files.kubelet_conf || makes_credentials(spec, &observed.files)) {
        return Some(go_on(spec, membership));
    }
    if emptied(spec, membership, &observed.files) {
        return Some(Change::Become { role: spec.role, start: Start::Join, way: Way::Rejoin });
    }
    let mut repairs = repairs(spec, &observed.files);
    if !repairs.is_empty() {
        return if repairs.len() > 1 { Some(Change::Several(repairs)) } else { repairs.pop() };
    }
    if !observed.remains.is_empty() {
        // The dead first, alone and without a turn: their votes count against every turn and every join.
        return Some(Change::Bury { nodes: observed.remains.clone() });
    }
    let configure = observed.kubelet.as_ref().filter(|seen| membership.kubelet.as_ref() != Some(&seen.now));
    let proxy = observed.proxy.as_ref().filter(|(wanted, has)| has.as_ref() != Some(wanted));
    let refused = observed.refused.as_ref().filter(|(wanted, has)| has.as_ref() != Some(wanted));
    let dns = observed.dns.as_ref().filter(|(wanted, has)| has.as_ref() != Some(wanted));
    // Alone it would take the whole cluster's etcd away for a moment, while others may be on their way in.
    let secure = observed.loose_etcd.is_some_and(|votes| votes >= spec.control_planes);
    let mut changes: Vec<Change> = [
        configure.map(|seen| Change::Configure { differences: seen.differences.clone() }),
        (observed.node == Known::Absent).then_some(Change::Register),
        proxy.map(|(wanted, _)| Change::Proxy { wanted: wanted.clone() }),
        refused.map(|_| Change::Refuse { names: spec.refused.clone() }),
        dns.map(|(wanted, _)| Change::Dns { wanted: wanted.clone() }),
        observed.node.node().and_then(|node| mark(spec, membership, node)),
        mark_workers(spec, &observed.workers),
        secure.then_some(Change::SecureEtcd),
    ]
    .into_iter()
    .flatten()
    .collect();
    if changes.len() > 1 { Some(Change::Several(changes)) } else { changes.pop() }
}

/// A control plane has the CA, and makes kubelet's credentials itself.
fn makes_credentials(spec: &ClusterMemberSpec, files: &Files) -> bool {
    spec.role == MemberRole::ControlPlane && (!files.manifests.is_empty() || files.etcd_data)
}

/// What a member's files lack.
fn repairs(spec: &ClusterMemberSpec, files: &Files) -> Vec<Change> {
    let gone = missing_manifests(spec, files);
    let credentials = (!files.kubelet_conf).then_some(Change::Credentials);
    let manifests = (!gone.is_empty()).then_some(Change::Restore { manifests: gone });
    credentials.into_iter().chain(manifests).collect()
}

/// Nothing was noted: a blank node, a member whose note was lost, or the remains of something unknown.
fn unnoted(spec: &ClusterMemberSpec, observed: &Observed) -> Change {
    let files = &observed.files;
    let adopt = match spec.role {
        MemberRole::Worker => files.kubelet_conf && !files.bootstrap_conf,
        // Known by its last step's label: what its files lack is put back.
        MemberRole::ControlPlane => {
            let labelled = |node: &NodeSeen| node.labels.contains_key(CONTROL_PLANE_LABEL);
            files.living() && observed.node.node().is_some_and(labelled)
        }
    };
    if adopt {
        let mut changes = vec![Change::Adopt];
        changes.extend(repairs(spec, files));
        return if changes.len() > 1 { Change::Several(changes) } else { Change::Adopt };
    }
    Change::Become { role: spec.role, start: spec.start, way: if files.any() { Way::StartOver } else { Way::Fresh } }
}

fn go_on(spec: &ClusterMemberSpec, membership: &Membership) -> Change {
    // What began as an init goes on as one, also when the catalog says join by now.
    let settled = membership.stage >= Stage::Member;
    let start = if settled { spec.start } else { membership.start };
    let others_may_depend = start == Start::Init && membership.stage >= Stage::Published;
    let way = if settled {
        // kubelet's credentials were lost, or it was leaving and may stay: it has to join again.
        Way::Rejoin
    } else if membership.resumed < 2 || others_may_depend {
        Way::Continue { from: membership.stage }
    } else {
        Way::StartOver
    };
    Change::Become { role: spec.role, start, way }
}

/// Whether others in etcd may count on the vote of a node that starts over. Data is reason enough: the vote is given a
/// moment before that is noted, and a note can be lost.
pub fn may_vote(start: Start, noted: Option<&Membership>, files: &Files) -> bool {
    let answered = noted.is_some_and(|note| note.stage >= Stage::Answering);
    start == Start::Join && (files.etcd_data || answered)
}

fn missing_manifests(spec: &ClusterMemberSpec, files: &Files) -> BTreeSet<String> {
    match spec.role {
        MemberRole::Worker => BTreeSet::new(),
        MemberRole::ControlPlane => {
            STATIC_PODS.iter().filter(|pod| !files.manifests.contains(**pod)).map(|pod| (*pod).to_owned()).collect()
        }
    }
}

fn mark(spec: &ClusterMemberSpec, membership: &Membership, node: &NodeSeen) -> Option<Change> {
    let wanted = wanted_labels(spec);
    let set: BTreeMap<_, _> = wanted
        .iter()
        .filter(|(key, value)| node.labels.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let remove: BTreeSet<_> = membership
        .labels
        .iter()
        .filter(|key| !wanted.contains_key(*key) && node.labels.contains_key(*key))
        .cloned()
        .collect();
    // A kubelet may not change its own node's taints: a worker's are the leader's to change.
    let taints = match spec.role {
        MemberRole::Worker => None,
        MemberRole::ControlPlane => {
            let wanted: BTreeSet<_> = spec.taints.iter().cloned().collect();
            (wanted != node.taints).then(|| spec.taints.clone())
        }
    };
    (!set.is_empty() || !remove.is_empty() || taints.is_some()).then_some(Change::Mark { set, remove, taints })
}

fn mark_workers(spec: &ClusterMemberSpec, seen: &BTreeMap<String, WorkerSeen>) -> Option<Change> {
    let one = |worker: &Worker| Some((worker.name.clone(), marking(worker, seen.get(&worker.name)?)?));
    let nodes: BTreeMap<_, _> = spec.workers.iter().filter_map(one).collect();
    (!nodes.is_empty()).then_some(Change::MarkWorkers { nodes })
}

/// The labels that this node's own credentials may set.
pub fn wanted_labels(spec: &ClusterMemberSpec) -> BTreeMap<String, String> {
    match spec.role {
        MemberRole::Worker => spec
            .labels
            .iter()
            .filter(|(key, _)| kubelet_may_set(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        MemberRole::ControlPlane => {
            let mut labels = spec.labels.clone();
            labels.insert(CONTROL_PLANE_LABEL.to_owned(), String::new());
            labels.insert("node.kubernetes.io/exclude-from-external-load-balancers".to_owned(), String::new());
            labels
        }
    }
}

/// Whether a kubelet may label its own node so (the rule of the NodeRestriction admission plugin).
pub fn kubelet_may_set(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |zone: &str| domain == zone || domain.ends_with(&format!(".{zone}"));
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    within("node.kubernetes.io") || within("kubelet.kubernetes.io")
}
