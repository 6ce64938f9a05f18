//! How things are: what `muster status`, `nodes` and `node why` show, as one value that programs can read as JSON.

#[cfg(test)]
pub(crate) mod fixture;
mod gather;
mod outlook;
#[cfg(test)]
mod tests;
mod text;

use muster_ids::{AppName, ClusterName, EndpointName, EnvName, Generation, NodeName, PoolName};
use muster_plan::{
    Workload,
    cluster::{Dns, Member, MemberState},
};
use serde::{Deserialize, Serialize};

use crate::state::{Pause, RolloutState, Usage};

pub use gather::{StatusError, of};
pub use outlook::{Outlook, Stuck};

/// The whole environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// Seconds since the epoch, when this was read.
    pub time: i64,
    /// Absent before the first apply.
    pub kubernetes: Option<String>,
    /// The first digits of the site's digest.
    pub catalog: Option<String>,
    pub generation: Option<Generation>,
    /// Who applied it, where that is on record.
    #[serde(default)]
    pub applied_by: Option<String>,
    /// Every node is as written and ready, what the site runs is rolled out, and nothing waits or fails.
    #[serde(default)]
    pub as_written: bool,
    /// Whether a cluster lives.
    pub born: bool,
    pub pools: Vec<PoolStatus>,
    pub nodes: Vec<NodeStatus>,
    pub endpoints: Vec<EndpointStatus>,
    pub apps: Vec<AppStatus>,
    /// `https://host:port` of the Kubernetes API.
    pub api: Option<String>,
    /// What the control plane that leads sees just now; absent while none was heard of lately.
    #[serde(default)]
    pub control_plane: Option<ControlPlaneStatus>,
    /// What the planner waits for, for people.
    pub waits: Vec<String>,
    /// The site's workloads that are not rolled out, as the control plane that leads saw them last.
    pub workloads: Vec<Workload>,
    /// What fails outside the nodes: steps at the provider.
    pub failing: Vec<Problem>,
    /// Whether the provider's side is as the blueprint says.
    pub settled: bool,
    pub rollout: Option<RolloutStatus>,
    /// Who has a turn to disrupt.
    pub turns: Vec<TurnStatus>,
}

/// The cluster's own parts, apart from its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlaneStatus {
    /// The control plane that leads.
    pub leader: NodeName,
    /// etcd's members; absent while no quorum answers.
    pub members: Option<Vec<Member>>,
    /// Control planes that are members of the cluster and not of etcd.
    pub missing: Vec<NodeName>,
    pub dns: Option<Dns>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub name: PoolName,
    pub wanted: u32,
    pub ready: u32,
    /// Of those that are ready: how many take new pods.
    #[serde(default)]
    pub takes_pods: u32,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: NodeName,
    pub pool: PoolName,
    pub address: String,
    pub state: NodeLife,
    /// Serves in the cluster, as Kubernetes says now, and was heard of lately.
    pub ready: bool,
    /// Why it does not serve, where that is known.
    #[serde(default)]
    pub unready: Option<String>,
    /// Since when its certificate can no longer be renewed, in seconds since the epoch: it was off for more than 30 days, and
    /// has to be readmitted.
    #[serde(default)]
    pub locked_out: Option<i64>,
    /// It takes no new pods.
    #[serde(default)]
    pub cordoned: bool,
    /// Every resource is as written at the newest generation.
    pub converged: bool,
    pub connected: bool,
    /// The generation that it should have.
    pub wanted: Generation,
    /// The generation of its last report.
    pub generation: Option<Generation>,
    /// Seconds since the epoch.
    pub last_seen: Option<i64>,
    /// Seconds since the epoch, when its last converge began.
    pub last_converge: Option<i64>,
    pub already_right: u32,
    pub changed: u32,
    pub usage: Option<Usage>,
    /// Steps that are not done: failed first, then waiting.
    pub problems: Vec<Problem>,
    /// What was changed on the node and put back in the last converge.
    pub drift: Vec<String>,
    pub paused: Option<Pause>,
}

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeLife {
    /// Its instance is not there yet.
    Planned,
    /// Its instance runs; its agent was not heard of yet.
    Booting,
    Converging,
    /// Everything is as written.
    Written,
    /// Its resources are as written, and it does not serve, or its etcd does not.
    Unready,
    /// A step fails.
    Failing,
    Paused,
    /// It was heard of before, and is not now.
    Silent,
    Draining,
    /// Nobody trusts it any more; it is taken out of the cluster and its machine stopped.
    Revoked,
    Retired,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A resource, or a step at the provider.
    pub what: String,
    pub text: String,
    /// What to do, where it is known.
    pub help: Option<String>,
    /// It fails; else it waits.
    pub fails: bool,
    /// It fails and will not pass by itself: somebody must change the site or the node.
    #[serde(default)]
    pub lasting: bool,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    pub name: EndpointName,
    /// `https://host:port` of the API, `http://host/` of applications.
    pub url: String,
    /// The load balancer runs, sends to a node, and answers a request well.
    pub ok: bool,
    /// How many nodes it sends to, as it says itself; before it was asked: how many of them are ready.
    pub ready: u32,
    pub targets: u32,
    /// Why its clients are not served, where the API or an application is behind it.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// One application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    pub name: AppName,
    /// Absent where no endpoint leads to it.
    pub url: Option<String>,
    /// The path that answers while it is ready.
    pub path: String,
}

/// A publication that is tried on one node first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    pub only: NodeName,
    /// The first digits of the new site's digest.
    pub catalog: String,
    pub state: RolloutState,
}

/// A turn that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnStatus {
    /// `disrupt` or `etcd`.
    pub turn: String,
    pub node: NodeName,
    pub reason: String,
}

impl ControlPlaneStatus {
    /// What is wrong with etcd and cluster DNS, a line each: whom it is of, and what.
    pub fn troubles(&self) -> Vec<(Option<NodeName>, String)> {
        let mut troubles = Vec::new();
        match &self.members {
            None => troubles.push((None, "etcd: no quorum of its members answers".to_owned())),
            Some(members) => {
                let bad = members.iter().filter(|member| member.state != MemberState::Voter);
                troubles.extend(bad.map(|member| (member.node.parse().ok(), member_says(member))));
            }
        }
        let missing = self.missing.iter();
        troubles.extend(missing.map(|node| (Some(node.clone()), "etcd: it is no member, and has no vote".to_owned())));
        match self.dns {
            None => troubles.push((None, "cluster DNS: the API server does not say how it is".to_owned())),
            Some(dns) if dns.ready < dns.wanted => {
                let text = format!("cluster DNS: {} of {} nodes have their server ready", dns.ready, dns.wanted);
                troubles.push((None, text));
            }
            Some(_) => {}
        }
        troubles
    }
}

fn member_says(member: &Member) -> String {
    match member.node.parse::<NodeName>() {
        Ok(_) => format!("etcd: it {}", member.state.text()),
        Err(_) => format!("etcd: {} {}", member.node, member.state.text()),
    }
}
