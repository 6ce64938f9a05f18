//! What agents call. Each acts for its own node alone: the node is its certificate's, never a request's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use muster_catalog::{Catalog, Facts, kinds::cluster_member::MemberRole};
use muster_ids::{Generation, NodeName};
use muster_plan::{Report, Row, cluster::ClusterReport};
use muster_planner::{blueprint::NodeState, may_disrupt, turns::sound};
use muster_proto::v1::{self, agent_server};
use tonic::{Request, Response, Status};

use super::{
    diagnostics, join, local, node_of, published,
    report::{hopeless, is_member, news},
    state, watch,
};
use crate::{
    authz,
    cluster::{self, Told},
    context::{Context, Signature},
    events::Level,
    publish,
    state::{Issued, RolloutState, Usage},
    tickets::Ticket,
    turns::{Turn, alone, lease},
};

/// The service.
pub struct AgentApi {
    ctx: Arc<Context>,
    /// What was told of catalogs that do not compile, so that asking again is no news.
    told: Mutex<BTreeMap<NodeName, String>>,
}

impl AgentApi {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx, told: Mutex::default() }
    }

    /// The node's catalog of now, under a generation that never had another content for this node.
    fn catalog(&self, node: &NodeName, facts: &Facts) -> Result<Catalog, Status> {
        let ctx = &self.ctx;
        // Twice: the second time under a generation of its own, where the content changed within one.
        for _ in 0..2 {
            let root = ctx.state.snapshot();
            let compiled = ctx.catalog(&root, node, facts.clone()).map_err(published)?;
            let Some(compiled) = compiled else {
                return Err(Status::permission_denied(format!("{node} is not in the blueprint")));
            };
            let catalog = compiled.map_err(|errors| {
                let text = diagnostics(&errors);
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.insert(node.clone(), text.clone()).as_ref() != Some(&text) {
                    let text = format!("cannot be compiled with this node's facts: {text}");
                    ctx.event(Level::Error, Some(node), "catalog", text);
                }
                Status::failed_precondition(format!("the site cannot be compiled for this node: {text}"))
            })?;
            let issued = Issued { generation: catalog.generation, content: catalog.content_digest() };
            let before = ctx.local.node(node).map_err(local)?.issued;
            if before.is_none_or(|before| before.generation != issued.generation || before.content == issued.content) {
                ctx.local.set_issued(node, &issued).map_err(local)?;
                return Ok(catalog);
            }
            let seen = issued.generation;
            ctx.state
                .change(|root| {
                    // Another node's pull may have done it meanwhile.
                    if root.generation_for(node) == seen {
                        root.republish();
                    }
                })
                .map_err(state)?;
        }
        Err(Status::unavailable("the catalog changes faster than it can be given; try again"))
    }

    /// Names of secrets that this node's present catalog refers to.
    fn secrets_of(&self, node: &NodeName) -> Result<BTreeSet<String>, Status> {
        let facts = self.ctx.local.node(node).map_err(local)?.facts;
        let facts = facts.ok_or_else(|| Status::failed_precondition("pull a catalog first"))?;
        let catalog = self.catalog(node, &facts)?;
        let names = catalog.resource.iter().flat_map(|resource| resource.spec.secrets());
        Ok(names.map(|secret| secret.name.to_owned()).collect())
    }

    fn take_turn(&self, node: &NodeName, request: &v1::TurnRequest) -> Result<Result<(), String>, Status> {
        let ctx = &self.ctx;
        let turn: Turn = request
            .turn
            .parse()
            .map_err(|error: crate::turns::UnknownTurn| Status::invalid_argument(error.to_string()))?;
        let published = ctx.current().map_err(published)?;
        let Some(plan) = published.blueprint.nodes.get(node) else {
            return Err(Status::permission_denied(format!("{node} is not in the blueprint")));
        };
        if turn == Turn::Etcd && plan.member != MemberRole::ControlPlane {
            return Err(Status::permission_denied(format!(
                "the turn `{turn}` is for control planes, and {node} is none"
            )));
        }
        let policy = ctx.policy(&published).map_err(|error| Status::failed_precondition(error.to_string()))?;
        let mut blueprint = published.blueprint;
        if ctx.state.snapshot().restored().is_some() {
            // The backup may be older than the cluster's birth: nodes disrupt each other all the same.
            Arc::make_mut(&mut blueprint).born = true;
        }
        // Who asks is there: after a restart of ours it may be the first that is heard of it, and whether it serves counts.
        ctx.local.saw(node, ctx.now()).map_err(local)?;
        let failing = ctx.failing().map_err(local)?;
        let ready = sound(node, &blueprint, ctx.ready().map_err(local)?, &failing);
        let lasts = lease(request.seconds);
        let now = ctx.instant();
        let mut turns = ctx.turns();
        let told = ctx.cluster.fresh(ctx.now());
        let holds_the_quorum = told.is_some_and(|told| told.report.holds_the_quorum(node.as_str()));
        let judge = |holders: &BTreeSet<NodeName>| match turn {
            Turn::Disrupt if holds_the_quorum => Err("etcd has no vote to spare: its other members first".to_owned()),
            Turn::Etcd => alone(holders),
            Turn::Disrupt => match may_disrupt(node, &blueprint, &policy, holders, &ready) {
                muster_planner::Turn::Granted => Ok(()),
                no @ (muster_planner::Turn::Held { .. }
                | muster_planner::Turn::Quorum { .. }
                | muster_planner::Turn::Unknown) => Err(no.to_string()),
            },
        };
        let answer = turns.take(turn, node, &request.reason, lasts, now, judge);
        drop(turns);
        if answer.is_ok() {
            let kept = ctx.local.keep_turn(&turn.to_string(), node, lasts.as_secs(), &request.reason);
            kept.map_err(local)?;
        }
        Ok(answer)
    }

    fn reported(&self, node: &NodeName, generation: Generation, report: &Report) -> Result<(), Status> {
        let ctx = &self.ctx;
        let view = ctx.local.node(node).map_err(local)?;
        // Reports of one agent come in order; one from before a restart of it may still come late.
        if generation < view.generation {
            return Ok(());
        }
        let speaks = ctx.cluster.fresh(ctx.now()).is_none();
        for (level, what, text) in news(view.report.as_ref(), report, speaks) {
            ctx.event(level, Some(node), what, text);
        }
        ctx.local.set_report(node, generation, report).map_err(local)?;
        let root = ctx.state.snapshot();
        if is_member(report) {
            ctx.tickets.forget(node);
            if !root.born && self.may_prove_birth(node)? {
                let born = ctx.state.change(|root| !std::mem::replace(&mut root.born, true)).map_err(state)?;
                if born {
                    ctx.event(Level::Info, Some(node), "born", "the cluster lives");
                }
            }
        }
        self.follow_rollout(node, generation, report)?;
        let differs = view
            .report
            .as_ref()
            .is_none_or(|before| (before.converged, before.node_ready) != (report.converged, report.node_ready));
        if differs || generation != view.generation {
            ctx.wake.notify_one();
        }
        Ok(())
    }

    fn cluster_is(&self, node: &NodeName, report: ClusterReport) -> Result<(), Status> {
        let ctx = &self.ctx;
        let now = ctx.now();
        ctx.local.saw(node, now).map_err(local)?;
        let before = ctx.cluster.hear(Told { from: node.clone(), at: now, report: report.clone() });
        let published = ctx.current().map_err(published)?;
        for (name, plan) in &published.blueprint.nodes {
            let member = ctx.local.node(name).map_err(local)?.report.is_some_and(|report| report.node_ready.is_some());
            let was_there = before.as_ref().is_none_or(|before| before.report.nodes.contains_key(name.as_str()));
            let gone = was_there && !report.nodes.contains_key(name.as_str());
            if plan.state == NodeState::InService && member && gone {
                // Its agent registers it again, and may not have heard.
                ctx.hub.push(name, v1::push::Push::Converge(v1::Empty {}));
            }
        }
        let Some(before) = before else { return Ok(()) };
        if before.report != report {
            ctx.wake.notify_one();
        }
        for (level, of, what, text) in cluster::news(&before.report, &report) {
            let ours = of.filter(|of| published.blueprint.nodes.contains_key(of));
            ctx.event(level, ours.as_ref(), what, text);
        }
        Ok(())
    }

    /// Only the node that was to start the cluster proves its birth; or any control plane, after a recovery.
    fn may_prove_birth(&self, node: &NodeName) -> Result<bool, Status> {
        let published = self.ctx.current().map_err(published)?;
        Ok(published.blueprint.control_planes().any(|(name, _)| name == node))
    }

    fn follow_rollout(&self, node: &NodeName, generation: Generation, report: &Report) -> Result<(), Status> {
        let root = self.ctx.state.snapshot();
        let Some(rollout) = &root.rollout else { return Ok(()) };
        if rollout.only != *node || rollout.state != RolloutState::Trying || generation != rollout.next.generation {
            return Ok(());
        }
        // The cluster's objects are those of the others until then, and none of what is tried.
        if report.node_converged() {
            publish::widen(&self.ctx, node, generation).map_err(state)?;
        } else if let Some(why) = hopeless(report) {
            publish::stop(&self.ctx, &why).map_err(state)?;
        }
        Ok(())
    }
}

/// Facts and reports end here, in bytes of JSON: they are kept for each node and read often.
const LARGEST: usize = 1 << 20;

fn bounded<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, Status> {
    match text.len() {
        ..=LARGEST => json(what, text),
        bytes => Err(Status::invalid_argument(format!("{what}: {bytes} bytes, and they end at {LARGEST}"))),
    }
}

fn json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, Status> {
    serde_json::from_str(text).map_err(|error| Status::invalid_argument(format!("{what} cannot be read: {error}")))
}

#[tonic::async_trait]
impl agent_server::Agent for AgentApi {
    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<v1::PullReply>, Status> {
        let node = node_of(&request)?;
        let v1::PullRequest { facts_json, etag } = request.into_inner();
        let facts: Facts = bounded("the facts", &facts_json)?;
        let ctx = &self.ctx;
        ctx.local.saw(&node, ctx.now()).map_err(local)?;
        if ctx.local.node(&node).map_err(local)?.facts.as_ref() != Some(&facts) {
            ctx.local.set_facts(&node, &facts).map_err(local)?;
        }
        let catalog = self.catalog(&node, &facts)?;
        let signed = ctx.authority.sign_catalog(catalog.to_toml());
        let signed = signed.map_err(|error| super::broken("the catalog could not be signed", &error))?;
        let catalog = (signed.etag != etag).then_some(signed);
        Ok(Response::new(v1::PullReply { catalog }))
    }

    type WatchStream = watch::Stream;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let node = node_of(&request)?;
        let peer = authz::peer(&request)?.clone();
        // From now on an older certificate of this node is not the newest.
        self.ctx.state.change(|root| root.identities.shown(&peer)).map_err(state)?;
        tracing::debug!(%node, session = request.get_ref().session, "an agent watches");
        Ok(Response::new(watch::open(self.ctx.clone(), node)))
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Result<Response<v1::ReportReply>, Status> {
        let node = node_of(&request)?;
        let v1::ReportRequest { generation, etag: _, report_json, metrics } = request.into_inner();
        let ctx = &self.ctx;
        ctx.local.saw(&node, ctx.now()).map_err(local)?;
        if let Some(v1::Metrics { cpu_used_milli, cpu_total_milli, memory_used, memory_total }) = metrics {
            let usage = Usage { cpu_used_milli, cpu_total_milli, memory_used, memory_total };
            ctx.local.set_metrics(&node, &usage).map_err(local)?;
        }
        // Metrics alone: no converge ended since the last report.
        if !report_json.is_empty() {
            let report: Report = bounded("the report", &report_json)?;
            self.reported(&node, generation.unwrap_or_default().into(), &report)?;
        }
        Ok(Response::new(v1::ReportReply {}))
    }

    async fn answer_draft(&self, request: Request<v1::DraftAnswer>) -> Result<Response<v1::Empty>, Status> {
        let node = node_of(&request)?;
        let v1::DraftAnswer { id, rows_json, error } = request.into_inner();
        let answer = if error.is_empty() { Ok(json::<Vec<Row>>("the rows", &rows_json)?) } else { Err(error) };
        answered(self.ctx.drafts.answer(&id, &node, answer))
    }

    async fn take_turn(&self, request: Request<v1::TurnRequest>) -> Result<Response<v1::TurnReply>, Status> {
        let node = node_of(&request)?;
        let answer = self.take_turn(&node, request.get_ref())?;
        let (granted, held_by) = match answer {
            Ok(()) => (true, String::new()),
            Err(held_by) => (false, held_by),
        };
        Ok(Response::new(v1::TurnReply { granted, held_by }))
    }

    async fn give_turn(&self, request: Request<v1::TurnRequest>) -> Result<Response<v1::Empty>, Status> {
        let node = node_of(&request)?;
        let turn: Turn = request
            .get_ref()
            .turn
            .parse()
            .map_err(|error: crate::turns::UnknownTurn| Status::invalid_argument(error.to_string()))?;
        self.ctx.turns().give(turn, &node);
        self.ctx.local.drop_turn(&turn.to_string(), &node).map_err(local)?;
        Ok(Response::new(v1::Empty {}))
    }

    async fn request_join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinTicket>, Status> {
        let node = node_of(&request)?;
        let ticket = join::ticket(&self.ctx, &node, request.get_ref().control_plane).await?;
        self.ctx.event(Level::Info, Some(&node), "ticket", "has a ticket to join the cluster");
        Ok(Response::new(ticket))
    }

    async fn offer_join(&self, request: Request<v1::JoinOffer>) -> Result<Response<v1::Empty>, Status> {
        let node = node_of(&request)?;
        let v1::JoinOffer { id, ticket, error } = request.into_inner();
        let offer = match ticket {
            _ if !error.is_empty() => Err(error),
            Some(v1::JoinTicket { token, ca_hash, certificate_key, expires }) => {
                Ok(Ticket { token, ca_hash, certificate_key, expires })
            }
            None => return Err(Status::invalid_argument("an offer has a ticket or an error")),
        };
        answered(self.ctx.mints.answer(&id, &node, offer))
    }

    async fn get_secret(&self, request: Request<v1::SecretRequest>) -> Result<Response<v1::Secret>, Status> {
        let node = node_of(&request)?;
        let name = &request.get_ref().name;
        if !self.secrets_of(&node)?.contains(name) {
            tracing::warn!(%node, secret = name, "a secret was asked for that the node's catalog does not refer to");
            return Err(Status::permission_denied("this node's catalog does not refer to that secret"));
        }
        let mut root = self.ctx.state.snapshot();
        let generated = || -> Result<bool, Status> {
            let site = self.ctx.published_for(&self.ctx.state.snapshot(), &node).map_err(published)?.site;
            Ok(site.secrets.get(name).is_some_and(|secret| secret.generate))
        };
        if !root.secrets.contains_key(name) && generated()? {
            // A restored backup may be older than the secret's first use: a site that generates it gets one.
            publish::make_secret(&self.ctx, name).map_err(|e| super::broken("the secret could not be made", &e))?;
            root = self.ctx.state.snapshot();
        }
        let sealed = root.secrets.get(name);
        let sealed = sealed.ok_or_else(|| Status::failed_precondition(format!("secret {name} has no value")))?;
        let value = self.ctx.master.open(name, sealed);
        let value = value.map_err(|error| super::broken("the secret cannot be opened", &error))?;
        Ok(Response::new(v1::Secret { value }))
    }

    async fn offer_signed(&self, request: Request<v1::SignedOffer>) -> Result<Response<v1::Empty>, Status> {
        let node = node_of(&request)?;
        let v1::SignedOffer { id, certificate_pem, ca_pem, error } = request.into_inner();
        let offer = if error.is_empty() { Ok(Signature { certificate_pem, ca_pem }) } else { Err(error) };
        answered(self.ctx.signatures.answer(&id, &node, offer))
    }

    async fn report_cluster(&self, request: Request<v1::ClusterSeen>) -> Result<Response<v1::Empty>, Status> {
        let node = node_of(&request)?;
        self.cluster_is(&node, bounded("the report of the cluster", &request.get_ref().report_json)?)?;
        Ok(Response::new(v1::Empty {}))
    }
}

/// An answer to a question that was not asked of this node, or is over.
fn answered(taken: bool) -> Result<Response<v1::Empty>, Status> {
    if taken {
        return Ok(Response::new(v1::Empty {}));
    }
    Err(Status::not_found("nobody waits for this answer"))
}
