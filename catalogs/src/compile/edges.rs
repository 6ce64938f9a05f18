//! Edges that are written and edges that follow from needs, and the order that they give.

use std::collections::{BTreeSet, HashMap, HashSet};

use muster_ids::ResourceId;

use super::Draft;
use crate::{catalog::Resource, diagnostic::Diagnostic, graph, kinds::Need, shape::nearest, site::Site, tree::At};

/// `after` and `notify` must name something; what this node does not have is left out.
pub(super) fn targets(
    mut drafts: Vec<Draft>,
    elsewhere: &BTreeSet<ResourceId>,
    site: &Site,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Draft> {
    let ids: HashSet<ResourceId> = drafts.iter().map(|d| d.resource.id()).collect();
    let mut alike = Alike::new(ids.iter().chain(elsewhere));
    for draft in &mut drafts {
        let Draft { resource, after, notify, .. } = draft;
        for (key, written, list) in [("after", after, &mut resource.after), ("notify", notify, &mut resource.notify)] {
            for (id, at) in written.iter() {
                if ids.contains(id) {
                    list.push(id.clone());
                } else if !elsewhere.contains(id) {
                    errors.push(
                        Diagnostic::new(format!("`{key}` names {id}, which no role of this pool has"))
                            .at(site.sources.place(*at, "expected a resource of this node"))
                            .help_if(alike.to(id).map(|n| format!("did you mean `{n}`?"))),
                    );
                }
            }
            list.sort();
            list.dedup();
        }
    }
    drafts
}

/// Names that a mistyped one may stand for.
struct Alike {
    names: HashMap<String, Vec<String>>,
    found: HashMap<ResourceId, Option<String>>,
}

impl Alike {
    /// Each costs a look at all others of its kind: whoever mistyped so many sees from these what is wrong.
    const MOST: usize = 50;

    fn new<'a>(known: impl Iterator<Item = &'a ResourceId>) -> Self {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for id in known {
            names.entry(id.kind().to_owned()).or_default().push(id.name().to_owned());
        }
        names.values_mut().for_each(|names| names.sort());
        Self { names, found: HashMap::new() }
    }

    fn to(&mut self, id: &ResourceId) -> Option<String> {
        if let Some(found) = self.found.get(id) {
            return found.clone();
        }
        if self.found.len() >= Self::MOST {
            return None;
        }
        let names = self.names.get(id.kind()).map(Vec::as_slice).unwrap_or_default();
        // A unit by another of its names.
        let short = |name: &str| crate::unit::short(name).to_owned();
        let same = |name: &&str| id.kind() == "service" && *name != id.name() && short(name) == short(id.name());
        let same = names.iter().map(String::as_str).find(|name| same(name));
        let near = same.or_else(|| nearest(id.name(), names.iter().map(String::as_str)));
        // What is right but for its kind.
        let other = || {
            let mut kinds: Vec<&String> = self.names.keys().collect();
            kinds.sort();
            kinds.into_iter().find(|kind| self.names[*kind].iter().any(|name| name == id.name()))
        };
        let near = near.map(|name| format!("{}.{name}", id.kind()));
        let near = near.or_else(|| Some(format!("{}.{}", other()?, id.name())));
        self.found.insert(id.clone(), near.clone());
        near
    }
}

/// Adds the edges from claims and needs, and sorts.
pub(super) fn ordered(drafts: Vec<Draft>, site: &Site, errors: &mut Vec<Diagnostic>) -> Vec<Resource> {
    let ids: Vec<ResourceId> = drafts.iter().map(|d| d.resource.id()).collect();
    let index: HashMap<&ResourceId, usize> = ids.iter().enumerate().map(|(i, id)| (id, i)).collect();
    let mut edges = vec![BTreeSet::new(); drafts.len()];
    for (i, draft) in drafts.iter().enumerate() {
        edges[i].extend(draft.resource.after.iter().filter_map(|id| index.get(id).copied()));
        // Who is told comes after who tells.
        for told in draft.resource.notify.iter().filter_map(|id| index.get(id)) {
            edges[*told].insert(i);
        }
    }
    let resources: Vec<&Resource> = drafts.iter().map(|d| &d.resource).collect();
    let given_up = graph::needed(&resources, &mut edges);
    match graph::order_with(&mut edges, &given_up) {
        Ok(order) => {
            let mut resources: Vec<Option<Resource>> = drafts.into_iter().map(|d| Some(d.resource)).collect();
            let take = |i: usize| {
                let mut resource = resources[i].take()?;
                let after: BTreeSet<&ResourceId> = edges[i].iter().map(|b| &ids[*b]).collect();
                resource.after = after.into_iter().cloned().collect();
                Some(resource)
            };
            order.into_iter().filter_map(take).collect()
        }
        Err(circle) => {
            errors.push(circular(&drafts, &resources, &circle, site));
            Vec::new()
        }
    }
}

/// So many edges of a circle are shown.
const MOST_EDGES: usize = 12;

/// A circle: its edges with their reasons, and what would open it.
fn circular(drafts: &[Draft], resources: &[&Resource], circle: &[usize], site: &Site) -> Diagnostic {
    let name = |i: &usize| resources[*i].id().to_string();
    let mut names: Vec<String> = circle.iter().take(MOST_EDGES).map(name).collect();
    if circle.len() > MOST_EDGES {
        names.push(format!("{} more", circle.len() - MOST_EDGES));
    }
    names.extend(circle.first().map(name));
    let mut error = Diagnostic::new(format!("resources wait for one another: {}", names.join(" → ")));
    let reasons = graph::Reasons::new(resources);
    let (mut written, mut ways) = (0, Vec::new());
    for (position, before) in circle.iter().enumerate() {
        let next = circle[(position + 1) % circle.len()];
        let edge = Edge::of(drafts, &reasons, *before, next);
        // One that is written opens the circle, however far behind it stands.
        if position < MOST_EDGES || (edge.way.is_none() && written == 0) {
            error = error.at(site.sources.place(edge.at, edge.label));
        }
        match edge.way {
            Some(way) => ways.push(way),
            None => written += 1,
        }
    }
    let count = ways.len();
    ways.truncate(MOST_EDGES);
    error.help(match (written, count) {
        (_, 0) => "take away one `after` or `notify`".to_owned(),
        (0, _) => format!("no `after` or `notify` makes this circle: {}", ways.join(", or ")),
        (..) => {
            "take away an `after` or `notify` that is marked: the other edges follow from what these resources need"
                .to_owned()
        }
    })
}

/// Why one resource comes before the next.
struct Edge {
    at: At,
    label: String,
    /// What to change where no `after` and no `notify` says so.
    way: Option<String>,
}

impl Edge {
    fn of(drafts: &[Draft], reasons: &graph::Reasons<'_>, before: usize, next: usize) -> Self {
        let (b, n) = (drafts[before].resource.id(), drafts[next].resource.id());
        if let Some((_, at)) = drafts[next].after.iter().find(|(id, _)| *id == b) {
            return Self { at: *at, label: format!("{n} comes after {b}"), way: None };
        }
        if let Some((_, at)) = drafts[before].notify.iter().find(|(id, _)| *id == n) {
            return Self { at: *at, label: format!("{b} notifies {n}"), way: None };
        }
        let at = drafts[next].named;
        let (label, way) = match reasons.why(before, next) {
            Some(Need::Above(_)) => (format!("{n} lies in {b}"), format!("put {n} elsewhere")),
            Some(Need::AboveHome(_)) => {
                (format!("the home of {n} lies in {b}"), format!("put the home of {n} elsewhere"))
            }
            Some(Need::Named(kind @ ("user" | "group"), _)) => (
                format!("{n} belongs to {b}"),
                format!("give {n} another {}", if kind == "user" { "owner" } else { "group" }),
            ),
            Some(Need::Kind(kind) | Need::Those(kind, _)) => {
                (format!("{n} comes after every {kind}"), format!("do without {b}"))
            }
            Some(Need::Unit(_)) => {
                (format!("{b} may bring the unit of {n}"), format!("name the package of {n} in its `after`"))
            }
            Some(Need::Named(..) | Need::Within(_)) => {
                (format!("{n} uses {b}"), format!("have {n} use something else than {b}"))
            }
            // Both are to go: what is in the way goes first.
            None => (format!("{b} goes before {n}"), format!("keep {n}")),
        };
        Self { at, label, way: Some(way) }
    }
}
