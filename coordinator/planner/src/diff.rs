//! What a plan does in the cloud, as rows for people: its own step, what that comes to, and what is put right because the
//! world is not as it says. The cloud section of `muster plan`.

use std::fmt;

use muster_ids::{DiskName, NodeName, PoolName};
use serde::{Deserialize, Serialize};

use crate::{
    blueprint::{Blueprint, LoadBalancerPlan, NodePlan, NodeState},
    foresee::foresee,
    inventory::Seen,
    plan::Input,
    policy::Policy,
    steps::{Step, Why, steps},
};

/// After a recovery from an older state.
const UNKNOWN: &str = "it exists and the blueprint did not know it";

/// One change in the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudRow {
    pub action: CloudAction,
    /// As in `instance workers-4`.
    pub what: String,
    /// For people, one line each.
    pub detail: Vec<String>,
    /// As in `pool workers: 3 → 4`.
    pub reason: String,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloudAction {
    Create,
    Change,
    Destroy,
    /// Destroyed and made again: what it held is gone.
    Replace,
}

impl CloudAction {
    /// `+`, `~`, `-`, `±`.
    pub fn sign(self) -> char {
        match self {
            CloudAction::Create => '+',
            CloudAction::Change => '~',
            CloudAction::Destroy => '-',
            CloudAction::Replace => '±',
        }
    }
}

impl fmt::Display for CloudRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}  {}  {}", self.action.sign(), self.what, self.detail.join("; "), self.reason)
    }
}

/// What changes from the parent to `next`, which was planned from `input`; every machine that comes or goes by the time
/// that nothing moves any more; and what is put right because the world is not as `next` says.
pub fn rows(input: Input<'_>, next: &Blueprint) -> Vec<CloudRow> {
    let Input { policy, seen, parent, .. } = input;
    // Where the plan itself asks for nothing, what is still under way is no consequence of it.
    let last = if parent == Some(next) { next.clone() } else { foresee(input, next) };
    let mut rows = Vec::new();
    if parent.is_none() {
        let network = CloudAction::Create;
        rows.push(row(network, "network".to_owned(), vec![next.network.subnet.to_string()], "new environment".into()));
    }
    for (name, disk) in &next.disks {
        let what = format!("disk {name}");
        match parent.and_then(|parent| parent.disks.get(name)) {
            None if seen.latest.disks.contains_key(name) => {
                let detail = vec![format!("held by {}", disk.node)];
                rows.push(row(CloudAction::Change, what, detail, UNKNOWN.to_owned()));
            }
            None => {
                let detail = vec![bytes(disk.size), format!("held by {}", disk.node)];
                rows.push(row(CloudAction::Create, what, detail, "new in the site".into()));
            }
            Some(old) if old.size != disk.size => {
                // Docker's volumes have no size: what grows is what the cluster is told of it.
                let detail =
                    vec![format!("size {} → {}", bytes(old.size), bytes(disk.size)), "its data stays".to_owned()];
                rows.push(row(CloudAction::Change, what, detail, "changed in the site".into()));
            }
            Some(_) => {}
        }
    }
    node_rows(policy, parent, next, seen, &mut rows);
    balancer_rows(parent, &last, &mut rows);
    // A partial reading shows less than there is.
    if seen.latest.complete {
        repair_rows(next, seen, &mut rows);
    }
    later_rows(input, next, &last, &mut rows);
    rows
}

fn row(action: CloudAction, what: String, detail: Vec<String>, reason: String) -> CloudRow {
    CloudRow { action, what, detail, reason }
}

fn node_rows(policy: &Policy, parent: Option<&Blueprint>, next: &Blueprint, seen: &Seen, rows: &mut Vec<CloudRow>) {
    for (name, node) in &next.nodes {
        let what = format!("instance {name}");
        match parent.and_then(|parent| parent.nodes.get(name)) {
            None if seen.shows(name, &node.token) => {
                rows.push(row(CloudAction::Change, what, vec!["taken back".to_owned()], UNKNOWN.to_owned()));
            }
            None => {
                let surplus = next.in_pool(&node.pool, NodeState::InService).count() as u32
                    > policy.pools.get(&node.pool).map_or(0, |pool| pool.count);
                let reason = match node.disks.first().filter(|_| surplus) {
                    Some(disk) => format!("disk {disk} needs a node that is made with it"),
                    None => count(policy, parent, next, &node.pool),
                };
                let mut detail = describe(node);
                detail.extend(node.disks.iter().map(|disk| format!("disk {disk}")));
                rows.push(row(CloudAction::Create, what, detail, reason));
            }
            Some(old) if old.incarnation != node.incarnation && seen.shows(name, &node.token) => {
                let detail = vec![format!("incarnation {} taken back", node.incarnation)];
                rows.push(row(CloudAction::Change, what, detail, UNKNOWN.to_owned()));
            }
            Some(old) if old.incarnation != node.incarnation => {
                let reason = "two complete readings agree that it is gone".to_owned();
                let mut detail = describe(node);
                let kept = |disk: &DiskName| parent.is_some_and(|parent| parent.disks.contains_key(disk));
                detail.extend(node.disks.iter().map(|disk| match kept(disk) {
                    true => format!("disk {disk} moves to it with its data"),
                    false => format!("disk {disk}"),
                }));
                rows.push(row(CloudAction::Replace, what, detail, reason));
            }
            Some(old) if old.state == NodeState::InService && node.state != NodeState::InService => {
                let reason = count(policy, parent, next, &node.pool);
                rows.push(row(CloudAction::Destroy, what, leaves(node.state), reason));
            }
            Some(_) => {}
        }
    }
    let before = parent.iter().flat_map(|parent| &parent.nodes);
    let served = before.filter(|(name, old)| old.state == NodeState::InService && !next.nodes.contains_key(*name));
    for (name, old) in served {
        let reason = match seen.in_place_of(name, old) {
            Some(other) => format!("{other} is in its place"),
            None => count(policy, parent, next, &old.pool),
        };
        rows.push(row(CloudAction::Destroy, format!("instance {name}"), vec!["does not exist".to_owned()], reason));
    }
}

/// What the plan's next step does not do yet, and those after it do.
fn later_rows(input: Input<'_>, next: &Blueprint, last: &Blueprint, rows: &mut Vec<CloudRow>) {
    let Input { policy, parent, seen, .. } = input;
    let serves = |blueprint: &Blueprint, name: &NodeName| {
        blueprint.nodes.get(name).is_some_and(|node| node.state == NodeState::InService)
    };
    for (name, node) in last.nodes.iter().filter(|(name, _)| serves(last, name) && !next.nodes.contains_key(*name)) {
        let reason = count(policy, parent, last, &node.pool);
        // Its address is chosen when it comes: others may be free by then.
        rows.push(row(CloudAction::Create, format!("instance {name}"), size(node), reason));
    }
    for (name, node) in next.nodes.iter().filter(|(name, _)| serves(next, name) && !serves(last, name)) {
        let (detail, reason) = match (seen.in_place_of(name, node), comes(parent, next, &node.pool)) {
            (Some(other), _) => (vec!["does not exist".to_owned()], format!("{other} is in its place")),
            (None, Some((comer, disk))) => {
                (leaves(going(next)), format!("{comer} comes for disk {disk}: the pool keeps its number"))
            }
            (None, None) => (leaves(going(next)), count(policy, parent, last, &node.pool)),
        };
        rows.push(row(CloudAction::Destroy, format!("instance {name}"), detail, reason));
    }
}

/// What a node of too many becomes first.
fn going(blueprint: &Blueprint) -> NodeState {
    if blueprint.born { NodeState::Draining } else { NodeState::Retired }
}

/// How a node goes, by what it becomes first.
fn leaves(state: NodeState) -> Vec<String> {
    let how: &[&str] = match state {
        NodeState::InService | NodeState::Draining => &["drained first", "its pods move"],
        NodeState::Lost => &["it died"],
        NodeState::Revoked => &["it was revoked", "its pods end"],
        NodeState::Retired => &["no member yet"],
    };
    how.iter().map(ToString::to_string).collect()
}

/// A node that comes to a pool with a disk, though the pool has as many as it shall have.
fn comes<'a>(parent: Option<&Blueprint>, next: &'a Blueprint, pool: &PoolName) -> Option<(&'a NodeName, &'a DiskName)> {
    let new = |name: &NodeName| !parent.is_some_and(|parent| parent.nodes.contains_key(name));
    let mut comers = next.nodes.iter().filter(|(name, node)| node.pool == *pool && new(name));
    comers.find_map(|(name, node)| Some((name, node.disks.first()?)))
}

/// As in `pool workers: 4 → 3`, or `4 → 2, one at a time`: where it goes, and how.
fn count(policy: &Policy, parent: Option<&Blueprint>, next: &Blueprint, pool: &PoolName) -> String {
    let serving = |blueprint: &Blueprint| blueprint.in_pool(pool, NodeState::InService).count();
    let (before, after) = (parent.map_or(0, serving), serving(next));
    let wanted = policy.pools.get(pool).map_or(0, |pool| pool.count as usize);
    if after == wanted && before == after {
        format!("pool {pool} keeps its {after}")
    } else if after == wanted {
        format!("pool {pool}: {before} → {after}")
    } else {
        format!("pool {pool}: {before} → {wanted}, one at a time")
    }
}

fn balancer_rows(parent: Option<&Blueprint>, next: &Blueprint, rows: &mut Vec<CloudRow>) {
    for (name, plan) in &next.load_balancers {
        let what = format!("load balancer {name}");
        match parent.and_then(|parent| parent.load_balancers.get(name)) {
            None => {
                let detail = vec![format!("{}:{}", plan.address, plan.listen), targets(plan)];
                rows.push(row(CloudAction::Create, what, detail, "new in the site".into()));
            }
            Some(old) if old != plan => rows.push(changed(what, old, plan)),
            Some(_) => {}
        }
    }
    let gone = parent.iter().flat_map(|parent| &parent.load_balancers);
    for (name, old) in gone.filter(|(name, _)| !next.load_balancers.contains_key(*name)) {
        let detail = vec![format!("{}:{}", old.address, old.listen)];
        rows.push(row(CloudAction::Destroy, format!("load balancer {name}"), detail, "left the site".into()));
    }
}

fn changed(what: String, old: &LoadBalancerPlan, new: &LoadBalancerPlan) -> CloudRow {
    let mut detail = Vec::new();
    let mut from_site = false;
    if old.address != new.address {
        detail.push(format!("address {} → {}", old.address, new.address));
        from_site = true;
    }
    if old.listen != new.listen {
        detail.push(format!("port {} → {}", old.listen, new.listen));
        from_site = true;
    }
    if (old.tls, &old.check) != (new.tls, &new.check) {
        detail.push(format!("check {} → {}", old.check, new.check));
        from_site = true;
    }
    let missing = |a: &LoadBalancerPlan, b: &LoadBalancerPlan| -> Vec<NodeName> {
        a.targets.iter().filter(|(node, target)| b.targets.get(*node) != Some(target)).map(|(n, _)| n.clone()).collect()
    };
    detail.extend(missing(new, old).iter().map(|node| format!("+ {node}")));
    detail.extend(missing(old, new).iter().map(|node| format!("- {node}")));
    let reason = if from_site { "changed in the site" } else { "its pool's nodes change" };
    // An address is fixed at creation.
    let action = if old.address == new.address { CloudAction::Change } else { CloudAction::Replace };
    row(action, what, detail, reason.to_owned())
}

/// What exists in the blueprint and not, or not so, in the world.
fn repair_rows(next: &Blueprint, seen: &Seen, rows: &mut Vec<CloudRow>) {
    for step in steps(next, seen) {
        let (what, action, reason) = match &step {
            Step::Network => ("network".to_owned(), CloudAction::Create, "it is not there"),
            Step::Disk { disk } => (format!("disk {disk}"), CloudAction::Create, "it is not there"),
            Step::LoadBalancer { endpoint, why } => (format!("load balancer {endpoint}"), made(*why), because(*why)),
            Step::Instance { node } => (format!("instance {node}"), CloudAction::Create, because(Why::Absent)),
            Step::StartInstance { node, .. } => {
                (format!("instance {node}"), CloudAction::Change, because(Why::Stopped))
            }
            Step::RemoveInstance { node, .. } => {
                (format!("instance {node}"), CloudAction::Destroy, "it has left the cluster")
            }
            Step::RemoveLoadBalancer { endpoint, .. } => {
                (format!("load balancer {endpoint}"), CloudAction::Destroy, "left the site")
            }
        };
        if !rows.iter().any(|row| row.what == what) {
            rows.push(row(action, what, vec![], reason.to_owned()));
        }
    }
}

fn made(why: Why) -> CloudAction {
    match why {
        Why::Absent => CloudAction::Create,
        Why::Stopped | Why::Differs => CloudAction::Change,
    }
}

fn because(why: Why) -> &'static str {
    match why {
        Why::Absent => "it is not there",
        Why::Stopped => "it is stopped",
        Why::Differs => "it is not as planned",
    }
}

fn describe(node: &NodePlan) -> Vec<String> {
    let mut detail = vec![node.address.to_string(), format!("pods {}", node.pods)];
    detail.extend(size(node));
    detail
}

fn size(node: &NodePlan) -> Vec<String> {
    let mut detail = Vec::new();
    if let Some(cpus) = node.cpus {
        detail.push(format!("{} CPUs", f64::from(cpus) / 1000.0));
    }
    if let Some(memory) = node.memory {
        detail.push(bytes(memory));
    }
    detail
}

fn targets(plan: &LoadBalancerPlan) -> String {
    format!("to {}", plan.targets.keys().map(NodeName::as_str).collect::<Vec<_>>().join(", "))
}

/// Bytes as people write them in a site.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}
