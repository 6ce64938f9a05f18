//! Makes a plan: planner for the cloud, a signed draft to every agent for the rest. Nothing is changed by it, the store's
//! content-addressed objects apart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt as _};
use muster_catalog::{Catalog, Diagnostic, Diagnostics, Facts, Site, SiteFiles};
use muster_ids::NodeName;
use muster_plan::Row;
use muster_planner::{
    Blueprint, Input, Policy, Seen,
    blueprint::{NodePlan, NodeState},
    policy::PolicyError,
};
use muster_proto::v1::{Draft, push};

use super::{
    fixed::{refuse_disks, refuse_fixed, refuse_taken},
    input::assumed_facts,
    leaves::leaves,
    saved::{Counts, NodePart, NodeSection, SavedPlan},
};
use crate::{
    ca::CaError,
    cloud::CloudError,
    context::{Context, PublishedError},
    library::{LibraryError, Published, compile},
    state::{LocalError, NodeView, RolloutState},
};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The site is wrong.
    #[error("{} errors in the site", .0.0.len())]
    Site(Diagnostics),
    #[error("the site cannot be planned for")]
    Policy(#[from] PolicyError),
    #[error("the provider cannot be read")]
    Cloud(#[from] CloudError),
    /// Nothing was ever applied by this state, and yet the cluster is there: the state was lost.
    #[error(
        "this coordinator's state is empty, and {0} of this cluster are there: the state was lost, and an apply would take their load balancers away"
    )]
    Lost(String),
    #[error("the local state cannot be read")]
    Local(#[from] LocalError),
    #[error("what was applied before cannot be read")]
    Library(#[from] LibraryError),
    #[error("a draft cannot be signed")]
    Sign(#[from] CaError),
}

/// A plan and what an apply of it needs.
pub struct Planned {
    pub saved: SavedPlan,
    pub site: Arc<Site>,
    pub blueprint: Blueprint,
    /// What the plan starts from; absent before the first apply.
    pub before: Option<Published>,
}

/// Plans an apply of `files`. Waits for agents as long as `wait`.
pub async fn plan(
    ctx: &Context,
    files: &SiteFiles,
    wait: Duration,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Planned, PlanError> {
    let site = ctx.library.load(files).map_err(PlanError::Site)?;
    let root = ctx.state.snapshot();
    let before = match ctx.current() {
        Ok(published) => Some(published),
        Err(PublishedError::Nothing) => None,
        Err(PublishedError::Library(error)) => return Err(error.into()),
    };
    refuse_foreign(ctx, &site)?;
    if let Some(before) = before.as_ref().filter(|_| root.born) {
        refuse_fixed(files, &site, &before.site).map_err(PlanError::Site)?;
    }
    let site_object = ctx.library.keep_files(files)?;
    let digest = files.digest();

    progress("reading the provider".to_owned());
    ctx.read_provider().await?;
    let seen = ctx.seen()?;
    if before.is_none() {
        refuse_lost(&seen)?;
    }
    let policy = Policy::of(&site, digest, &ctx.node_image)?;
    let parent = before.as_ref().map(|published| &*published.blueprint);
    if let Some(parent) = parent {
        refuse_taken(files, &policy, parent).map_err(PlanError::Site)?;
        refuse_disks(files, &site, parent).map_err(PlanError::Site)?;
    }
    let revoked = &root.identities.revocations.nodes;
    let input = Input { policy: &policy, seen: &seen, parent, revoked, seed: root.seed };
    let (blueprint, report) = muster_planner::plan(input);
    let cloud = muster_planner::rows(input, &blueprint);

    let known = known_facts(ctx)?;
    let (sections, questions) = drafts(ctx, &site, &blueprint, parent, &known)?;
    let (nodes, cluster_rows) = collect(sections, questions, wait, progress).await;

    let counts = Counts::of(&cloud, &nodes, &cluster_rows);
    let saved = SavedPlan {
        id: SavedPlan::id_of(root.highest.counter, &digest, &cloud, &nodes, &cluster_rows),
        cluster: site.cluster.clone(),
        environment: site.environment.clone(),
        made: ctx.now(),
        state: root.highest.counter,
        site: digest,
        site_object,
        parent: root.current.clone(),
        stopped: root.rollout.as_ref().filter(|rollout| stopped(&rollout.state)).map(|rollout| rollout.only.clone()),
        cloud,
        nodes,
        cluster_rows,
        waits: report.waits().map(ToString::to_string).collect(),
        warnings: site.warnings.iter().map(warning).collect(),
        counts,
    };
    Ok(Planned { saved, site: Arc::new(site), blueprint, before })
}

/// With its way out; its place is in the message.
fn warning(warning: &Diagnostic) -> String {
    let help = warning.help.iter().map(|help| format!("\n    help: {help}"));
    std::iter::once(warning.message.clone()).chain(help).collect()
}

fn stopped(state: &RolloutState) -> bool {
    match state {
        RolloutState::Stopped { .. } => true,
        RolloutState::Trying => false,
    }
}

/// The coordinator's identities are this cluster's: it serves no other.
fn refuse_foreign(ctx: &Context, site: &Site) -> Result<(), PlanError> {
    if site.cluster == ctx.realm.cluster {
        return Ok(());
    }
    Err(PlanError::Site(Diagnostics(vec![Diagnostic {
        message: format!("this coordinator serves {}, and the site is {}'s", ctx.realm, site.cluster),
        places: vec![],
        help: Some("use the coordinator of that cluster, or put the cluster's name back".to_owned()),
    }])))
}

/// A cluster is made by what was published: one that is there without is another state's.
fn refuse_lost(seen: &Seen) -> Result<(), PlanError> {
    let (nodes, balancers) = (seen.latest.instances.keys(), seen.latest.load_balancers.keys());
    let there: Vec<String> =
        nodes.map(ToString::to_string).chain(balancers.map(|name| format!("endpoint {name}"))).collect();
    if there.is_empty() { Ok(()) } else { Err(PlanError::Lost(there.join(", "))) }
}

fn known_facts(ctx: &Context) -> Result<BTreeMap<NodeName, Facts>, LocalError> {
    let nodes = ctx.local.nodes()?.into_iter();
    Ok(nodes.filter_map(|(name, view)| Some((name, view.facts?))).collect())
}

type Asked = (NodeName, tokio::sync::oneshot::Receiver<Result<Vec<Row>, String>>);

/// Every node's catalog as a draft: asked of the agents that are connected, summed up for the others.
fn drafts(
    ctx: &Context,
    site: &Site,
    blueprint: &Blueprint,
    parent: Option<&Blueprint>,
    known: &BTreeMap<NodeName, Facts>,
) -> Result<(BTreeMap<NodeName, NodeSection>, Vec<Asked>), PlanError> {
    let root = ctx.state.snapshot();
    let generation = root.highest.next();
    let (mut sections, mut asked, mut errors) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (name, node) in &blueprint.nodes {
        let view = ctx.local.node(name)?;
        let alive = lives(parent, name, node) && view.seen > 0;
        let facts = match view.facts.clone().filter(|_| alive) {
            Some(facts) => facts,
            None => assumed_facts(blueprint, name, known),
        };
        let catalog = match compile(site, blueprint, name, facts, generation) {
            Some(Ok(catalog)) => catalog,
            Some(Err(Diagnostics(more))) => {
                errors.extend(more.into_iter().filter(|error| !errors.contains(error)).collect::<Vec<_>>());
                continue;
            }
            // Retired: it has no catalog and its instance goes; the cloud's rows say so.
            None => continue,
        };
        let mut left = Vec::new();
        if let Some(facts) = view.facts.clone().filter(|_| alive)
            && let Ok(Some(Ok(old))) = ctx.catalog(&root, name, facts)
        {
            left = leaves(&old, &catalog);
        }
        let part = if alive {
            ask(ctx, name, catalog, &view, &mut asked)?
        } else {
            NodePart::Unborn { resources: kinds(&catalog) }
        };
        sections.insert(name.clone(), NodeSection { pool: node.pool.clone(), part, leaves: left });
    }
    if errors.is_empty() { Ok((sections, asked)) } else { Err(PlanError::Site(Diagnostics(errors))) }
}

/// Whether the node that spoke is the one that is planned: not one of an instance that is replaced.
fn lives(parent: Option<&Blueprint>, name: &NodeName, node: &NodePlan) -> bool {
    let same = parent.and_then(|parent| parent.nodes.get(name)).is_some_and(|old| old.incarnation == node.incarnation);
    same && match node.state {
        NodeState::InService | NodeState::Draining => true,
        NodeState::Lost | NodeState::Revoked | NodeState::Retired => false,
    }
}

fn ask(
    ctx: &Context,
    name: &NodeName,
    catalog: Catalog,
    view: &NodeView,
    asked: &mut Vec<Asked>,
) -> Result<NodePart, PlanError> {
    let silent = NodePart::NotAnswering { last_seen: view.seen };
    if !ctx.hub.connected(name) {
        return Ok(silent);
    }
    let draft = Catalog { draft: true, ..catalog };
    let signed = ctx.authority.sign_catalog(draft.to_toml())?;
    let id = ctx.drafts.fresh_id();
    let answer = ctx.drafts.open(&id, name);
    if ctx.hub.push(name, push::Push::Draft(Draft { id, catalog: Some(signed) })) {
        asked.push((name.clone(), answer));
    }
    Ok(silent)
}

/// Waits for the answers, and parts Kubernetes objects from the rest. All control planes may plan the same objects.
async fn collect(
    mut sections: BTreeMap<NodeName, NodeSection>,
    asked: Vec<Asked>,
    wait: Duration,
    progress: &(dyn Fn(String) + Send + Sync),
) -> (BTreeMap<NodeName, NodeSection>, Vec<Row>) {
    let of = asked.len();
    let mut cluster_rows: Vec<Row> = Vec::new();
    if of > 0 {
        progress(format!("asked {of} agents what they would change"));
    }
    let mut waiting: FuturesUnordered<_> =
        asked.into_iter().map(|(name, answer)| async move { (name, answer.await) }).collect();
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    let mut answered = 0;
    loop {
        let (name, answer) = tokio::select! {
            next = waiting.next() => match next {
                Some(next) => next,
                None => break,
            },
            () = &mut deadline => break,
        };
        let part = match answer {
            Ok(Ok(rows)) => {
                let (of_cluster, rows): (Vec<_>, Vec<_>) =
                    rows.into_iter().partition(|row| row.resource.kind() == "manifest");
                for row in of_cluster {
                    if !cluster_rows
                        .iter()
                        .any(|other| (&other.resource, &other.detail) == (&row.resource, &row.detail))
                    {
                        cluster_rows.push(row);
                    }
                }
                NodePart::Rows { rows }
            }
            Ok(Err(error)) => NodePart::Failed { error },
            // The question was dropped: a newer plan asked again under the same id, or the agent went.
            Err(_) => continue,
        };
        answered += 1;
        progress(format!("{answered} of {of} agents answered"));
        if let Some(section) = sections.get_mut(&name) {
            section.part = part;
        }
    }
    cluster_rows.sort_by(|one, other| one.resource.cmp(&other.resource));
    (sections, cluster_rows)
}

fn kinds(catalog: &Catalog) -> BTreeMap<String, u32> {
    let mut kinds = BTreeMap::new();
    for resource in &catalog.resource {
        *kinds.entry(resource.spec.kind().to_owned()).or_default() += 1;
    }
    kinds
}
