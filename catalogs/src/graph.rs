//! The order of resources: explicit edges, edges from claims and needs, and circles found as a path.
//!
//! Ties keep the order in which resources were written, so that the same site always gives the same catalog.

use std::{
    cell::OnceCell,
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet},
};

use crate::{
    catalog::Resource,
    kinds::{Need, Place},
    unit,
};

/// For each resource, the indexes of those before it.
pub(crate) type Edges = Vec<BTreeSet<usize>>;

/// Edges that are given up where they are a part of a circle: who comes first, and who next.
pub(crate) type GivenUp = HashSet<(usize, usize)>;

/// Edges from what resources need. What is not there is not needed.
pub(crate) fn needed(resources: &[&Resource], edges: &mut Edges) -> GivenUp {
    let index = Index::new(resources);
    let mut given_up = GivenUp::new();
    for (i, resource) in resources.iter().enumerate() {
        for need in resource.spec.needs() {
            for before in index.find(resources, resource, &need) {
                let new = before != i && edges[i].insert(before);
                // A mount hides what was made below it before: only for a folder it does not matter.
                if new && matches!(need, Need::AboveHome(_)) && resources[before].spec.kind() == "directory" {
                    given_up.insert((before, i));
                }
            }
        }
    }
    // What is removed goes in the other direction: a folder after what is in it, a group after its users.
    // All are found before any is turned: what was turned to a later one would be turned back there.
    let gone = |i: usize| resources[i].spec.absent();
    let both = |(i, before): (usize, &BTreeSet<usize>)| {
        before.iter().filter(|before| gone(i) && gone(**before)).map(|before| (i, *before)).collect::<Vec<_>>()
    };
    let turned: Vec<(usize, usize)> = edges.iter().enumerate().flat_map(both).collect();
    for (i, before) in turned {
        edges[i].remove(&before);
        edges[before].insert(i);
    }
    given_up
}

/// Why resources come before others, where nobody wrote it.
pub(crate) struct Reasons<'a> {
    resources: &'a [&'a Resource],
    index: Index<'a>,
}

impl<'a> Reasons<'a> {
    pub(crate) fn new(resources: &'a [&'a Resource]) -> Self {
        Self { resources, index: Index::new(resources) }
    }

    /// The need that makes one resource come before the next.
    pub(crate) fn why(&self, before: usize, next: usize) -> Option<Need> {
        let resource = self.resources[next];
        let finds = |need: &Need| self.index.find(self.resources, resource, need).contains(&before);
        resource.spec.needs().into_iter().find(finds)
    }
}

/// The order, where edges that may be given up are taken away as far as they are in circles.
pub(crate) fn order_with(edges: &mut Edges, given_up: &GivenUp) -> Result<Vec<usize>, Vec<usize>> {
    loop {
        let circle = match order(edges) {
            Ok(order) => return Ok(order),
            Err(circle) => circle,
        };
        let next = circle.iter().cycle().skip(1);
        let Some((before, next)) = circle.iter().zip(next).find(|(b, n)| given_up.contains(&(**b, **n))) else {
            return Err(circle);
        };
        edges[*next].remove(before);
    }
}

/// Hashed maps: they are asked and never walked, so that their order cannot show.
struct Index<'a> {
    ids: HashMap<(&'static str, &'a str), usize>,
    kinds: HashMap<&'static str, Vec<usize>>,
    /// Folders and mounts by path.
    folders: HashMap<&'a str, Vec<usize>>,
    /// Files, folders and mounts, sorted by path. Few needs ask for it.
    paths: OnceCell<Vec<(&'a str, usize)>>,
}

impl<'a> Index<'a> {
    fn new(resources: &'a [&'a Resource]) -> Self {
        let mut index =
            Self { ids: HashMap::new(), kinds: HashMap::new(), folders: HashMap::new(), paths: OnceCell::new() };
        for (i, resource) in resources.iter().enumerate() {
            let kind = resource.spec.kind();
            let name = resource.spec.name();
            let name = if kind == "service" { unit::short(name) } else { name };
            index.ids.insert((kind, name), i);
            index.kinds.entry(kind).or_default().push(i);
            if let Some(Place { path, holds: true }) = resource.spec.place() {
                index.folders.entry(path).or_default().push(i);
            }
        }
        index
    }

    fn paths(&self, resources: &'a [&'a Resource]) -> &[(&'a str, usize)] {
        self.paths.get_or_init(|| {
            let all = resources.iter().enumerate();
            let mut all: Vec<_> = all.filter_map(|(i, r)| Some((r.spec.place()?.path, i))).collect();
            all.sort_unstable();
            all
        })
    }

    fn find(&self, resources: &'a [&'a Resource], of: &Resource, need: &Need) -> Vec<usize> {
        match need {
            Need::Kind(kind) => self.kinds.get(kind).cloned().unwrap_or_default(),
            Need::Those(kind, presence) => {
                let all = self.kinds.get(kind).into_iter().flatten();
                all.filter(|&&i| resources[i].spec.presence() == *presence).copied().collect()
            }
            Need::Named(kind, name) => self.ids.get(&(*kind, name.as_str())).copied().into_iter().collect(),
            Need::Above(path) | Need::AboveHome(path) => {
                let mut found = Vec::new();
                let mut end = path.len();
                while let Some(slash) = path[..end].rfind('/') {
                    end = slash;
                    let above = if slash == 0 { "/" } else { &path[..slash] };
                    found.extend(self.folders.get(above).into_iter().flatten().filter(|_| above != path));
                }
                found
            }
            Need::Within(path) => {
                let below = format!("{}/", path.trim_end_matches('/'));
                let paths = self.paths(resources);
                let from = |start: &str| &paths[paths.partition_point(|(p, _)| *p < start)..];
                let exact = from(path).iter().take_while(|(p, _)| p == path);
                let under = from(&below).iter().take_while(|(p, _)| p.starts_with(&below));
                exact.chain(under).map(|(_, i)| *i).collect()
            }
            Need::Unit(whole) => {
                if let Some(package) = self.ids.get(&("package", unit::base(whole))) {
                    return vec![*package];
                }
                let told = of.after.iter().any(|id| id.kind() == "package");
                let is_file = |path: String| self.ids.contains_key(&("file", path.as_str()));
                let written = || {
                    is_file(format!("/etc/init.d/{}", unit::base(whole))) || unit::files(whole).into_iter().any(is_file)
                };
                if told || written() {
                    return Vec::new();
                }
                self.kinds.get("package").cloned().unwrap_or_default()
            }
        }
    }
}

/// The order, or one circle: each stands before the next, and the last before the first.
pub(crate) fn order(edges: &Edges) -> Result<Vec<usize>, Vec<usize>> {
    let mut waiting: Vec<usize> = edges.iter().map(BTreeSet::len).collect();
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (i, before) in edges.iter().enumerate() {
        for b in before {
            after[*b].push(i);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        waiting.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| Reverse(i)).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for a in &after[i] {
            waiting[*a] -= 1;
            if waiting[*a] == 0 {
                ready.push(Reverse(*a));
            }
        }
    }
    if order.len() == edges.len() { Ok(order) } else { Err(circle(edges, &waiting)) }
}

/// Walks backwards among what is left until something comes again.
fn circle(edges: &Edges, waiting: &[usize]) -> Vec<usize> {
    let stuck = |i: &usize| waiting[*i] > 0;
    let Some(mut at) = (0..edges.len()).find(stuck) else { return Vec::new() };
    let mut path: Vec<usize> = Vec::new();
    let mut seen = vec![false; edges.len()];
    while !std::mem::replace(&mut seen[at], true) {
        path.push(at);
        match edges[at].iter().copied().find(stuck) {
            Some(before) => at = before,
            None => return path,
        }
    }
    let start = path.iter().position(|i| *i == at).unwrap_or(0);
    let mut circle = path.split_off(start);
    circle.reverse();
    // Told from the one that was written first.
    let first = circle.iter().enumerate().min_by_key(|(_, i)| **i).map_or(0, |(position, _)| position);
    circle.rotate_left(first);
    circle
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Edges from lower to higher numbers only, so that there is no circle.
    fn acyclic() -> impl Strategy<Value = Edges> {
        (1_usize..40).prop_flat_map(|n| {
            let pairs = prop::collection::vec((0..n, 0..n), 0..(n * 3));
            pairs.prop_map(move |pairs| {
                let mut edges = vec![BTreeSet::new(); n];
                for (a, b) in pairs.into_iter().filter(|(a, b)| a != b) {
                    edges[a.max(b)].insert(a.min(b));
                }
                edges
            })
        })
    }

    proptest! {
        #[test]
        fn the_order_respects_every_edge(edges in acyclic(), numbers in prop::collection::vec(any::<u32>(), 40)) {
            // Names are mixed, so that the order of numbers helps nobody.
            let mut names: Vec<usize> = (0..edges.len()).collect();
            names.sort_by_key(|i| numbers[*i]);
            let mut mixed = vec![BTreeSet::new(); edges.len()];
            for (i, before) in edges.iter().enumerate() {
                mixed[names[i]] = before.iter().map(|b| names[*b]).collect();
            }
            let order = order(&mixed).expect("no circle");
            let position: BTreeMap<usize, usize> = order.iter().enumerate().map(|(p, i)| (*i, p)).collect();
            prop_assert_eq!(position.len(), mixed.len());
            for (i, before) in mixed.iter().enumerate() {
                for b in before {
                    prop_assert!(position[b] < position[&i]);
                }
            }
        }

        #[test]
        fn a_circle_is_found_and_is_one(
            edges in acyclic(),
            numbers in prop::collection::btree_set(0_usize..40, 2..8),
        ) {
            let mut edges = edges;
            let n = edges.len().max(40);
            edges.resize(n, BTreeSet::new());
            let circle: Vec<usize> = numbers.into_iter().collect();
            for (i, at) in circle.iter().enumerate() {
                edges[circle[(i + 1) % circle.len()]].insert(*at);
            }
            let found = order(&edges).expect_err("there is a circle");
            prop_assert!(!found.is_empty());
            for (i, at) in found.iter().enumerate() {
                prop_assert!(edges[found[(i + 1) % found.len()]].contains(at), "{:?} is no circle", found);
            }
        }
    }

    #[test]
    fn ties_keep_the_order_of_the_files() {
        let mut edges = vec![BTreeSet::new(); 4];
        edges[0].insert(3);
        assert_eq!(order(&edges), Ok(vec![1, 2, 3, 0]));
    }
}
