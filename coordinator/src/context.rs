//! What the API and the tasks share: the state, the provider, the agents that are connected.
//!
//! Everything in here can be asked from many tasks at once. Only the root record decides; the rest is memory that a
//! restart may lose.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use muster_catalog::{Catalog, Diagnostics, Facts};
use muster_ids::{EndpointName, Generation, NodeName};
use muster_plan::Row;
use muster_planner::{
    Blueprint, Inventory, Policy, Seen, blueprint::NodeState, inventory::ClusterSeen, policy::PolicyError,
};
use muster_proto::{Clock, Realm};
use tokio::sync::{Notify, watch};

use crate::{
    api::Hub,
    ca::Authority,
    cloud::{Cloud, CloudError, Served},
    cluster::{Cluster, Says},
    events::{Event, Events, Level},
    library::{Library, LibraryError, Published, compile},
    secrets::MasterKey,
    state::{Local, LocalError, NodeView, Root, State},
    tickets::{Questions, Ticket, Tickets},
    turns::Turns,
};

/// A node that was not heard of for so many seconds is silent.
pub const SILENT: i64 = 60;
/// What an endpoint said so many seconds ago says nothing of now.
const SERVED: i64 = 15;
/// Without an open stream a node counts as heard for so many seconds: its agent may be starting anew.
const HEARD: i64 = 4;

/// The shared parts.
pub struct Context {
    pub realm: Realm,
    pub state: State,
    pub local: Arc<Local>,
    pub events: Events,
    pub library: Library,
    pub authority: Arc<Authority>,
    pub master: MasterKey,
    pub cloud: Arc<dyn Cloud>,
    pub clock: Arc<dyn Clock>,
    pub hub: Hub,
    pub cluster: Cluster,
    pub turns: Mutex<Turns>,
    pub tickets: Tickets,
    pub mints: Questions<Ticket>,
    pub signatures: Questions<Signature>,
    pub drafts: Questions<Vec<Row>>,
    /// Wakes the reconcile task.
    pub wake: Notify,
    /// Held while a publication is planned and written, so that two do not race.
    pub publishing: tokio::sync::Mutex<()>,
    pub readings: Mutex<Readings>,
    /// What endpoints are to their clients, and when they were asked, in seconds since the epoch.
    pub served: Mutex<(i64, BTreeMap<EndpointName, Served>)>,
    /// What the reconcile task saw and did last; status shows it.
    pub progress: watch::Sender<Progress>,
    pub node_image: String,
    /// Seconds since the epoch.
    pub started: i64,
}

/// A certificate for the Kubernetes API, as a control plane signed it.
pub struct Signature {
    pub certificate_pem: String,
    pub ca_pem: String,
}

/// The last two readings of the provider.
#[derive(Debug, Default)]
pub struct Readings {
    pub latest: Inventory,
    pub earlier: Option<Inventory>,
}

/// Where the reconcile task stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What the planner waits for, for people.
    pub waits: Vec<String>,
    /// Steps at the provider that did not succeed, for people: what, error, help.
    pub failing: Vec<(String, String, String)>,
    /// Whether the provider's side is as the blueprint says.
    pub settled: bool,
}

/// Nothing was applied yet, or it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    #[error("nothing has been applied yet")]
    Nothing,
    #[error("what was applied cannot be read")]
    Library(#[from] LibraryError),
}

impl Context {
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    pub fn event(&self, level: Level, node: Option<&NodeName>, what: &str, text: impl Into<String>) {
        self.events.add(Event::new(self.now(), level, node, what, text));
    }

    pub fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all nodes follow now.
    pub fn current(&self) -> Result<Published, PublishedError> {
        let root = self.state.snapshot();
        let current = root.current.as_ref().ok_or(PublishedError::Nothing)?;
        Ok(self.library.open(current)?)
    }

    /// What this node follows now: another publication than the others' while it tries one.
    pub fn published_for(&self, root: &Root, node: &NodeName) -> Result<Published, PublishedError> {
        let publication = root.publication_for(node).ok_or(PublishedError::Nothing)?;
        Ok(self.library.open(publication)?)
    }

    /// The node's catalog as it is now; absent for one that the blueprint does not know. Who tries a publication before the
    /// others leaves the cluster's part as they have it.
    pub fn catalog(
        &self,
        root: &Root,
        node: &NodeName,
        facts: Facts,
    ) -> Result<Option<Result<Catalog, Diagnostics>>, PublishedError> {
        let published = self.published_for(root, node)?;
        let generation = published.publication.generation;
        let tries = root.rollout.as_ref().is_some_and(|rollout| rollout.only == *node);
        let Some(current) = root.current.as_ref().filter(|_| tries) else {
            return Ok(compile(&published.site, &published.blueprint, node, facts, generation));
        };
        let compiled = compile(&published.site, &published.blueprint, node, facts.clone(), generation);
        let others = self.library.open(current)?;
        let others = compile(&others.site, &others.blueprint, node, facts, current.generation);
        let tried = |catalog: Catalog| match others {
            Some(Ok(others)) => catalog.tried(&others),
            // Nothing of the cluster is to be had from there: all of it waits.
            Some(Err(_)) | None => {
                let nothing = Catalog { resource: vec![], generation: current.generation, ..catalog.clone() };
                catalog.tried(&nothing)
            }
        };
        Ok(compiled.map(|compiled| compiled.map(tried)))
    }

    /// The planner's policy of a site.
    pub fn policy(&self, published: &Published) -> Result<Policy, PolicyError> {
        Policy::of(&published.site, published.publication.site, &self.node_image)
    }

    /// Reads the provider and keeps the reading before.
    pub async fn read_provider(&self) -> Result<(), CloudError> {
        let latest = self.cloud.observe().await?;
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut readings.latest, latest);
        // Two readings of one second are one: the pair that destruction needs must be apart in time.
        if before.taken != 0 && before.taken < readings.latest.taken {
            readings.earlier = Some(before);
        }
        Ok(())
    }

    /// Keeps what endpoints are to their clients now.
    pub fn keep_served(&self, served: BTreeMap<EndpointName, Served>) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = (self.now(), served);
    }

    /// What an endpoint is to its clients; nothing where it was not asked lately.
    pub fn served(&self, endpoint: &EndpointName) -> Option<Served> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.1.get(endpoint).filter(|_| self.now() - served.0 < SERVED).cloned()
    }

    /// All that the planner knows of the world.
    pub fn seen(&self) -> Result<Seen, LocalError> {
        let root = self.state.snapshot();
        let (latest, earlier) = {
            let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
            (readings.latest.clone(), readings.earlier.clone())
        };
        Ok(Seen {
            latest,
            earlier,
            // What was under way when the last coordinator ended is not known: as if it ended now.
            last_step: root.last_step.max(self.started),
            made: root.made.clone(),
            disks: root.disks.clone(),
            cluster: ClusterSeen { born: root.born, ready: self.ready()?, left: self.left(&root)? },
        })
    }

    /// Nodes that serve in the cluster, as their agents say, and were heard of lately.
    pub fn ready(&self) -> Result<BTreeSet<NodeName>, LocalError> {
        let now = self.now();
        let nodes = self.local.nodes()?.into_iter();
        Ok(nodes.filter(|(name, view)| self.serves(name, view, now)).map(|(name, _)| name).collect())
    }

    /// Nodes that something of their own failed on, as their last reports say.
    pub fn failing(&self) -> Result<BTreeSet<NodeName>, LocalError> {
        let nodes = self.local.nodes()?.into_iter();
        Ok(nodes.filter(|(_, view)| view.report.as_ref().is_some_and(has_failed)).map(|(name, _)| name).collect())
    }

    /// Whether one node serves.
    pub fn serves(&self, name: &NodeName, view: &NodeView, now: i64) -> bool {
        let stopped = {
            let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
            readings.latest.instances.get(name).is_some_and(|instance| !instance.running)
        };
        if stopped {
            return false;
        }
        let says = match self.cluster.says(name, now) {
            Says::Node(node) => node.ready,
            Says::Absent => false,
            // Nobody leads, or has not told yet: then the node's own last word counts.
            Says::Unknown => view.report.as_ref().and_then(|report| report.node_ready) == Some(true),
        };
        says && self.silence(name, view, now).is_none_or(|silent| silent < HEARD)
    }

    /// For how many seconds a node has said nothing; none while its stream is open.
    pub fn silence(&self, name: &NodeName, view: &NodeView, now: i64) -> Option<i64> {
        if self.hub.connected(name) {
            return None;
        }
        // While its stream was open it was heard, whenever that was written down.
        Some(now - self.hub.lost(name).unwrap_or_default().max(view.seen))
    }

    /// Nodes that the blueprint takes out and that are gone from the cluster: a draining node's agent has done its step to
    /// leave and no longer sees a membership; of a lost or revoked one a control plane says so, whose catalog names it.
    fn left(&self, root: &Root) -> Result<BTreeSet<NodeName>, LocalError> {
        let Some(current) = &root.current else { return Ok(BTreeSet::new()) };
        let Ok(blueprint) = self.library.blueprint(&current.blueprint) else { return Ok(BTreeSet::new()) };
        let mut left = BTreeSet::new();
        for (name, node) in &blueprint.nodes {
            let answered = match node.state {
                NodeState::InService | NodeState::Retired => false,
                NodeState::Draining => {
                    let view = self.local.node(name)?;
                    view.generation >= current.generation && view.report.as_ref().is_some_and(has_left)
                }
                NodeState::Lost | NodeState::Revoked => self.buried(&blueprint, current.generation)?,
            };
            if answered {
                left.insert(name.clone());
            }
        }
        Ok(left)
    }

    /// Whether a control plane that follows `generation` found nothing left in the cluster of the nodes lost by then, or
    /// removed it.
    fn buried(&self, blueprint: &Blueprint, generation: Generation) -> Result<bool, LocalError> {
        for (name, _) in blueprint.control_planes() {
            let view = self.local.node(name)?;
            if view.generation >= generation && view.report.as_ref().is_some_and(member_is_right) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The control plane that leads, as it says itself, or as far as the others' reports say.
    pub fn leader(&self) -> Result<Option<NodeName>, LocalError> {
        if let Some(told) = self.cluster.fresh(self.now()) {
            return Ok(Some(told.from));
        }
        use muster_plan::{Outcome, Skip};
        let mut newest: Option<(i64, String)> = None;
        for view in self.local.nodes()?.into_values() {
            let Some(report) = &view.report else { continue };
            for step in &report.steps {
                if let Outcome::Skipped { why: Skip::NotTheLeader { leader } } = &step.outcome
                    && newest.as_ref().is_none_or(|(time, _)| *time < report.started)
                {
                    newest = Some((report.started, leader.clone()));
                }
            }
        }
        Ok(newest.and_then(|(_, leader)| leader.parse().ok()))
    }

    /// The generation that a node should have.
    pub fn wanted(&self, node: &NodeName) -> Generation {
        self.state.snapshot().generation_for(node)
    }

    /// For leases: one's own clock.
    pub fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Whether a report says that its node's membership, and what it owes the cluster with it, is as written.
fn member_is_right(report: &muster_plan::Report) -> bool {
    let mut steps = report.steps.iter().filter(|step| step.resource.kind() == "cluster_member").peekable();
    (report.converged || steps.peek().is_some()) && steps.all(|step| step.outcome == muster_plan::Outcome::Done)
}

/// Whether a report, of a catalog that asks for it, says that its node has left. Who is no member has not left by that:
/// on its way in it may vote in etcd already. A step that waits, is blocked or paused is in the report; one that was
/// right already is not.
fn has_left(report: &muster_plan::Report) -> bool {
    use muster_plan::Outcome;
    let mut member = report.steps.iter().filter(|step| step.resource.kind() == "cluster_member");
    report.node_ready.is_none() && member.all(|step| matches!(step.outcome, Outcome::Done | Outcome::AlreadyRight))
}

/// Whether a report tells of a failure on its node. The cluster's objects are nobody's own.
fn has_failed(report: &muster_plan::Report) -> bool {
    let mut own = report.steps.iter().filter(|step| step.resource.kind() != "manifest");
    own.any(|step| matches!(step.outcome, muster_plan::Outcome::Failed { .. }))
}

#[cfg(test)]
mod tests {
    use muster_ids::ResourceId;
    use muster_plan::{Outcome, Report, Skip, StepReport};

    use super::*;

    fn report(kind: &str, outcome: Outcome) -> Report {
        let resource = ResourceId::new(kind, "this");
        let step = StepReport { resource, outcome, detail: vec![], notes: vec![], took: 1 };
        Report { steps: vec![step], ..Report::default() }
    }

    fn failed() -> Outcome {
        Outcome::Failed { error: "no".to_owned(), help: None, retry: true }
    }

    #[test]
    fn a_draining_node_has_left_only_when_its_step_to_leave_is_done() {
        let waits = || Outcome::Skipped { why: Skip::Waits { what: "the API server to answer".to_owned() } };
        let paused = || Outcome::Skipped { why: Skip::Paused { until: 9 } };
        let blocked = || Outcome::Blocked { by: ResourceId::new("package", "kubeadm") };
        for open in [waits(), paused(), blocked(), failed()] {
            assert!(!has_left(&report("cluster_member", open.clone())), "{open:?}");
        }
        let done = report("cluster_member", Outcome::Done);
        assert!(has_left(&done));
        assert!(!has_left(&Report { node_ready: Some(false), ..done }));
        // It never was a member, or left before: already right. What else fails on it holds up nothing.
        assert!(has_left(&Report { converged: true, already_right: 3, ..Report::default() }));
        assert!(has_left(&report("file", failed())));
    }

    #[test]
    fn an_object_of_the_cluster_that_fails_is_no_failure_of_the_node_that_applies_it() {
        assert!(has_failed(&report("service", failed())));
        assert!(!has_failed(&report("manifest", failed())));
        assert!(!has_failed(&report("service", Outcome::Done)));
    }
}
