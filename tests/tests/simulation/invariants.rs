//! What holds at every step, and at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_coordinator::{context::Context, enrol::Identities, state::Root, status, turns::Turn};
use muster_ids::{Digest, Generation, NodeName};
use muster_planner::{
    Blueprint,
    blueprint::{NodePlan, NodeState},
    check, check_change,
};

use crate::{hosts::Hosts, site::Site, stage::Stage, told::Told};

/// What was seen before.
#[derive(Default)]
pub struct Invariants {
    root: Option<Arc<Root>>,
    highest: Generation,
    identities: Identities,
    blueprints: BTreeMap<Digest, Arc<Blueprint>>,
    restored: u32,
    /// Instances, and whether each lived.
    instances: BTreeMap<String, bool>,
    /// Nodes that a blueprint retired.
    retired: BTreeSet<NodeName>,
    looked: Duration,
    given: Given,
    told: Told,
    resting: Option<Rest>,
    pub revoked: Option<Revoked>,
}

/// How things were when everything was as written.
struct Rest {
    highest: Generation,
    instances: usize,
    changes: usize,
}

/// A node that was revoked, and when that was known.
#[derive(Debug, Clone)]
pub struct Revoked {
    pub node: NodeName,
    pub since: i64,
}

impl Invariants {
    /// `cut` are the addresses that have no way to the coordinator just now.
    pub fn hold(&mut self, hosts: &Hosts, cut: &BTreeSet<IpAddr>) {
        let stage = &*hosts.stage;
        // The record first: what it retires may be gone within the same step.
        if let Some(ctx) = stage.coordinator() {
            self.record(stage, &ctx);
            self.given.hold(stage, &ctx);
            self.refused(stage, &ctx);
            self.told.hold(hosts, &ctx, cut);
        }
        self.provider(stage);
    }

    /// Nothing is made twice, and nothing that lives is removed unless it was retired.
    fn provider(&mut self, stage: &Stage) {
        let world = stage.cloud.fake.world();
        let mut living: BTreeMap<&NodeName, &str> = BTreeMap::new();
        let mut disks = BTreeMap::new();
        let mut tokens = BTreeMap::new();
        for instance in &world.instances {
            if let Some(other) = tokens.insert(&instance.token, &instance.id) {
                stage.breaks("a token makes one instance", format!("{other} and {}", instance.id));
            }
            let lived = self.instances.insert(instance.id.clone(), instance.gone.is_none());
            if instance.gone.is_none() {
                if let Some(other) = living.insert(&instance.node, &instance.id) {
                    let text = format!("{} is {other} and {}", instance.node, instance.id);
                    stage.breaks("a node has one instance", text);
                }
                for disk in &instance.disks {
                    if let Some(other) = disks.insert(disk, &instance.id) {
                        stage.breaks("a disk is in one place", format!("{disk} is in {other} and {}", instance.id));
                    }
                }
            } else if lived == Some(true)
                && !stage.lost.lock().unwrap().contains(&instance.id)
                && !self.retired.contains(&instance.node)
            {
                stage.breaks(
                    "only what is retired or revoked is removed",
                    format!("{} of {}", instance.id, instance.node),
                );
            }
        }
    }

    /// The record goes forward, and its blueprints are clean.
    fn record(&mut self, stage: &Stage, ctx: &Context) {
        let root = ctx.state.snapshot();
        if self.root.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &root)) {
            return;
        }
        if root.highest < self.highest {
            stage.breaks("the highest generation never falls", format!("{} after {}", root.highest, self.highest));
        }
        self.highest = root.highest;
        if root.current.as_ref().is_some_and(|current| current.generation > root.highest) {
            stage.breaks("what is published was counted", root.highest.to_string());
        }
        let restored = *stage.restored.lock().unwrap();
        if restored == self.restored {
            self.goes_on(stage, &root);
        }
        self.restored = restored;
        self.identities = root.identities.clone();
        if let Ok(published) = ctx.current() {
            self.blueprint(stage, ctx, &published.blueprint, published.publication.blueprint);
            if published.blueprint.born {
                let now = stage.clock.elapsed();
                stage.cluster.lock().unwrap().known_born.get_or_insert(now);
            }
        }
        self.root = Some(root);
    }

    fn goes_on(&self, stage: &Stage, root: &Root) {
        for (token, before) in &self.identities.tokens {
            let Some(now) = root.identities.tokens.get(token) else { continue };
            if before.used.is_some() && before.used != now.used {
                stage.breaks("an enrolment token is used once", format!("{}'s was used again", now.node));
            }
        }
        let revoked = &root.identities.revocations;
        if !self.identities.revocations.nodes.is_subset(&revoked.nodes)
            || !self.identities.revocations.serials.is_subset(&revoked.serials)
        {
            stage.breaks("a revocation is for good", format!("{revoked:?}"));
        }
    }

    fn blueprint(&mut self, stage: &Stage, ctx: &Context, blueprint: &Arc<Blueprint>, digest: Digest) {
        if self.blueprints.contains_key(&digest) {
            return;
        }
        let findings = check(blueprint);
        if !findings.is_empty() {
            stage.breaks("blueprints are clean", format!("{findings:?}"));
        }
        if let Some(parent) = blueprint.parent.and_then(|parent| self.blueprints.get(&parent)) {
            let findings = ctx.seen().map(|seen| check_change(parent, blueprint, &seen)).unwrap_or_default();
            if !findings.is_empty() {
                stage.breaks("blueprints follow from their parents", format!("{findings:?}"));
            }
        }
        // A worker's machine goes as soon as nobody trusts it.
        let goes = |plan: &NodePlan| match plan.state {
            NodeState::Retired => true,
            NodeState::Revoked => plan.member == MemberRole::Worker,
            NodeState::InService | NodeState::Draining | NodeState::Lost => false,
        };
        let retired = blueprint.nodes.iter().filter(|(_, plan)| goes(plan));
        self.retired.extend(retired.map(|(name, _)| name.clone()));
        self.blueprints.insert(digest, blueprint.clone());
    }

    /// A revoked node gets no answer any more.
    fn refused(&self, stage: &Stage, ctx: &Context) {
        let Some(Revoked { node, since }) = &self.revoked else { return };
        if ctx.hub.connected(node) && ctx.now() > since + 1 {
            stage.breaks("a revoked node gets no answer", format!("{node} has a stream of pushes"));
        }
        let seen = ctx.local.node(node).map_or(0, |view| view.seen);
        if seen > since + 1 {
            stage.breaks("a revoked node gets no answer", format!("{node} was heard at {seen}, revoked at {since}"));
        }
    }

    /// Why the revoked node is not replaced by one that is as written yet.
    pub fn replaced(&mut self, hosts: &Hosts) -> Option<String> {
        let Revoked { node, .. } = self.revoked.as_ref()?;
        let stage = &*hosts.stage;
        let ctx = stage.coordinator()?;
        let Ok(status) = status::of(&ctx) else { return Some("no status".to_owned()) };
        let runs = hosts.machines().iter().any(|machine| machine.node == *node);
        let cluster = stage.cluster.lock().unwrap();
        let known = cluster.etcd.contains(node) || cluster.members.contains_key(node);
        (runs || known || !status.written())
            .then(|| format!("its machine runs: {runs}, the cluster knows it: {known}\n{}", status.text()))
    }

    /// Why not everything is as written yet.
    pub fn lacks(&mut self, hosts: &Hosts, last: Site) -> Option<String> {
        let stage = &*hosts.stage;
        let now = stage.clock.elapsed();
        if now < self.looked + Duration::from_millis(500) {
            return Some("not looked at".to_owned());
        }
        self.looked = now;
        let Some(ctx) = stage.coordinator() else { return Some("the coordinator is away".to_owned()) };
        let current = ctx.state.snapshot().current.clone()?;
        if current.site != last.files().digest() {
            return Some("the last site is not applied".to_owned());
        }
        let status = match status::of(&ctx) {
            Ok(status) => status,
            Err(error) => return Some(format!("no status: {error}")),
        };
        if !status.written() {
            return Some(status.text());
        }
        self.differs(hosts, &ctx, last)
    }

    /// What the coordinator believes to be as written, and is not.
    fn differs(&self, hosts: &Hosts, ctx: &Context, last: Site) -> Option<String> {
        let stage = &*hosts.stage;
        let published = ctx.current().ok()?;
        let nodes = &published.blueprint.nodes;
        let machines = hosts.machines();
        let names: Vec<&NodeName> = machines.iter().map(|machine| &machine.node).collect();
        if names.len() != nodes.len() || !nodes.keys().all(|name| names.contains(&name)) {
            return Some(format!("machines {names:?} for {:?}", nodes.keys().collect::<Vec<_>>()));
        }
        for machine in &machines {
            let file = |path: &str| machine.fake.files.text(path).unwrap_or_default();
            let facts = machine.facts();
            if file("/etc/engine.conf") != format!("{}\n", last.engine)
                || file("/etc/motd") != format!("{} {}\n", last.motd, facts.kernel)
            {
                return Some(format!("{} says to be as written, and is not", machine.node));
            }
            let wanted = ctx.state.snapshot().generation_for(&machine.node);
            if machine.generation() != Some(wanted) {
                return Some(format!("{} converged {:?}, not {wanted}", machine.node, machine.generation()));
            }
        }
        let keys: BTreeSet<Option<String>> = machines
            .iter()
            .filter(|machine| !machine.control_plane())
            .map(|machine| machine.fake.files.text("/etc/database.key"))
            .collect();
        if keys.len() != 1 || keys.contains(&None) {
            return Some("the workers do not have one and the same secret".to_owned());
        }
        let cluster = stage.cluster.lock().unwrap();
        let control = nodes.iter().filter(|(_, plan)| plan.member == MemberRole::ControlPlane).map(|(name, _)| name);
        if !cluster.etcd.iter().eq(control) || !cluster.members.keys().eq(nodes.keys()) {
            return Some(format!("members {:?}, etcd {:?}", cluster.members, cluster.etcd));
        }
        None
    }

    /// From now on nothing moves any more.
    pub fn rest(&mut self, hosts: &Hosts) {
        self.resting = Some(self.rest_now(hosts));
    }

    fn rest_now(&self, hosts: &Hosts) -> Rest {
        Rest {
            highest: self.highest,
            instances: hosts.stage.cloud.fake.world().instances.len(),
            changes: hosts.machines().iter().map(|machine| machine.changes()).sum(),
        }
    }

    /// Nothing moved.
    pub fn rested(&self, hosts: &Hosts) {
        let Some(before) = &self.resting else { return };
        let now = self.rest_now(hosts);
        if (before.highest, before.instances, before.changes) != (now.highest, now.instances, now.changes) {
            let text = format!(
                "generation {} → {}, instances {} → {}, changes {} → {}",
                before.highest, now.highest, before.instances, now.instances, before.changes, now.changes
            );
            hosts.stage.breaks("what is as written stays as it is", text);
        }
    }
}

type Holders = BTreeSet<(Turn, NodeName)>;

/// As the coordinator has given them: one node of a pool, and one change of etcd.
#[derive(Default)]
struct Given {
    /// Not held itself: a coordinator that crashes is gone.
    by: Weak<Context>,
    held: Holders,
}

impl Given {
    fn hold(&mut self, stage: &Stage, ctx: &Arc<Context>) {
        let held: Holders = {
            let turns = ctx.turns();
            turns.held(ctx.instant()).map(|(turn, node, _)| (turn, node.clone())).collect()
        };
        let same = std::ptr::eq(self.by.as_ptr(), Arc::as_ptr(ctx));
        let born = stage.cluster.lock().unwrap().known_born;
        // Those of the step in which the birth became known were judged before it.
        let judged = |turn| turn == Turn::Etcd || born.is_some_and(|born| stage.clock.elapsed() > born);
        // A coordinator that starts believes in every lease it remembers, the ended ones too: late is safe.
        if same {
            for (turn, node) in held.difference(&self.held).filter(|(turn, _)| judged(*turn)) {
                let with = |other: &&(Turn, NodeName)| other.0 == *turn && other.1 != *node;
                let near = |other: &&(Turn, NodeName)| *turn == Turn::Etcd || pool(&other.1) == pool(node);
                if let Some((_, other)) = held.iter().filter(with).find(near) {
                    stage.breaks("turns are given one by one", format!("{turn}: {other} and {node}"));
                }
            }
        }
        (self.by, self.held) = (Arc::downgrade(ctx), held);
    }
}

fn pool(node: &NodeName) -> &str {
    node.as_str().rsplit_once('-').map_or("", |(pool, _)| pool)
}
