//! A role: resources as written, with their places, not yet resolved for a node.

use std::collections::{BTreeMap, BTreeSet};

use muster_ids::RoleName;

use crate::{
    diagnostic::{Diagnostic, brief},
    kinds::{self, Spec, Texts, cluster_member::MemberRole},
    shape::{self, Rules, nearest},
    tables::RoleHead,
    tree::{At, Node, Sources, Table, Value, Without},
};

/// A role file.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    pub name: RoleName,
    /// Its path in the site.
    pub file: String,
    pub(crate) include: Vec<(RoleName, At)>,
    pub(crate) member: Option<(MemberRole, At)>,
    /// In the order of the file.
    pub(crate) resources: Vec<Written>,
}

/// One resource as it stands in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    pub(crate) kind: &'static str,
    /// The whole table.
    pub(crate) node: Node,
    /// False when its shape is wrong: it was reported and cannot be compiled.
    pub(crate) sound: bool,
    /// True when a text of it is to be rendered.
    pub(crate) templates: bool,
    /// Decoded, where it is the same on every node, but for its `content` perhaps.
    pub(crate) spec: Option<Spec>,
    /// Only its `content` is rendered, which may be any text.
    pub(crate) content: bool,
}

/// Keys that every resource has, and no kind of its own.
pub(crate) const COMMON: &[&str] = &["after", "notify", "when"];

impl Written {
    fn new(kind: &'static str, mut node: Node, sound: bool) -> Self {
        let entries = node.table().into_iter().flatten().filter(|(key, _)| *key != "when");
        let rendered: Vec<&str> =
            entries.filter(|(_, e)| e.node.has_templates()).map(|(key, _)| key.as_str()).collect();
        let templates = !rendered.is_empty();
        let mut content = rendered == ["content"] && node.get(&["content"]).is_some_and(|text| text.str().is_some());
        // What these are to a node is added to them node by node.
        let same = sound && (!templates || content) && !["cluster_member", "pod_network"].contains(&kind);
        let mut spec = same.then(|| decoded(kind, &mut node)).flatten();
        if content {
            match (spec.as_mut().and_then(Spec::texts), node.text_mut("content")) {
                (Some(Texts { content: Some(text), .. }), Some(place)) => *place = std::mem::take(text),
                // A kind whose `content` is a key like all others: it is decoded when it is rendered.
                (..) => (spec, content) = (None, false),
            }
        }
        Self { kind, node, sound, templates, spec, content }
    }
}

/// A text may be long: it is moved, and only its place is left in the tree, where the kind has a place for it.
fn decoded(kind: &'static str, node: &mut Node) -> Option<Spec> {
    let decode = |node: &Node| Spec::decode(kind, Without(node, COMMON)).ok();
    let Some(text) = node.text_mut("content").map(std::mem::take) else { return decode(node) };
    let mut spec = decode(node);
    if let Some(Texts { content, .. }) = spec.as_mut().and_then(Spec::texts) {
        *content = Some(text);
        return spec;
    }
    if let Some(place) = node.text_mut("content") {
        *place = text;
    }
    decode(node)
}

impl Role {
    /// Its own keys that are given, and where.
    pub(crate) fn head_places(&self) -> impl Iterator<Item = (&'static str, At)> {
        let include = self.include.first().map(|(_, at)| ("include", *at));
        include.into_iter().chain(self.member.map(|(_, at)| ("member", at)))
    }
}

/// Reads a role from its file's tree.
pub(crate) fn read(
    name: RoleName,
    file: &str,
    root: Node,
    sources: &Sources,
    rules: Rules,
    errors: &mut Vec<Diagnostic>,
) -> Role {
    let mut head = Table::new();
    let mut resources = Vec::new();
    let at = root.at;
    for (key, entry) in root.into_table().unwrap_or_default() {
        if key == "include" || key == "member" {
            head.insert(key, entry);
            continue;
        }
        let Some(kind) = Spec::KINDS.iter().find(|k| **k == key) else {
            let known: Vec<&str> = ["include", "member"].iter().chain(Spec::KINDS).copied().collect();
            errors.push(
                Diagnostic::new(format!("unknown key `{}` for a role", brief(&key)))
                    .at(sources.place(entry.key, format!("a role has: {}", known.join(", "))))
                    .help_if(nearest(&key, known).map(|n| format!("did you mean `{n}`?"))),
            );
            continue;
        };
        let noun = entry.node.noun();
        match entry.node.value {
            Value::Array(all) if all.iter().all(|n| n.table().is_some()) => {
                resources.extend(written(kind, all, rules, sources, errors));
            }
            Value::Array(_)
            | Value::Table(_)
            | Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date(_) => errors.push(
                Diagnostic::new(format!("`{key}` of a role is {noun}"))
                    .at(sources.place(entry.key, "expected a list of resources"))
                    .help(format!("write [[{key}]], with two brackets: there may be many")),
            ),
        }
    }
    resources.sort_by_key(|r| r.node.at);
    let head = Node { at, value: Value::Table(head) };
    let schema = shape::schema_of::<RoleHead>();
    let sound = shape::check(&schema, &head, Rules { templates: false, ..rules }, sources, errors);
    let decoded = if sound { serde_json::from_value::<RoleHead>(head.to_json()).ok() } else { None };
    let includes = head.get(&["include"]).and_then(Node::array).unwrap_or_default();
    let (include, member) = match decoded {
        Some(decoded) => (
            decoded.include.into_iter().zip(includes.iter().map(|n| n.at)).collect(),
            decoded.member.map(|m| (m, head.at(&["member"]))),
        ),
        None => (Vec::new(), None),
    };
    Role { name, file: file.to_owned(), include, member, resources }
}

/// Fewer resources than this are not worth another thread.
const CHUNK: usize = 256;

/// The resources of one kind, each checked by itself: many of them on all processors.
fn written(
    kind: &'static str,
    mut nodes: Vec<Node>,
    rules: Rules,
    sources: &Sources,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Written> {
    let check = |nodes: Vec<Node>| {
        let mut errors = Vec::new();
        let one = |node: Node| {
            let sound = shape::check(&kinds::SCHEMAS[kind], &node, rules, sources, &mut errors);
            Written::new(kind, node, sound)
        };
        (nodes.into_iter().map(one).collect::<Vec<_>>(), errors)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk = nodes.len().div_ceil(threads).max(CHUNK);
    let mut parts = Vec::new();
    while nodes.len() > chunk {
        parts.push(nodes.split_off(nodes.len() - chunk));
    }
    let parts = std::thread::scope(|scope| {
        let others: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| check(part))).collect();
        let own = check(nodes);
        let others = others.into_iter().rev().map(|thread| match thread.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(own).chain(others).collect::<Vec<_>>()
    });
    let mut all = Vec::new();
    for (resources, faults) in parts {
        all.extend(resources);
        errors.extend(faults);
    }
    all
}

/// The role and all that it includes, the included first, each once.
pub(crate) fn with_included<'a>(roles: &'a BTreeMap<RoleName, Role>, name: &RoleName) -> Vec<&'a Role> {
    fn visit<'a>(
        roles: &'a BTreeMap<RoleName, Role>,
        name: &RoleName,
        seen: &mut BTreeSet<RoleName>,
        into: &mut Vec<&'a Role>,
    ) {
        if !seen.insert(name.clone()) {
            return;
        }
        let Some(role) = roles.get(name) else { return };
        for (included, _) in &role.include {
            visit(roles, included, seen, into);
        }
        into.push(role);
    }
    let mut into = Vec::new();
    visit(roles, name, &mut BTreeSet::new(), &mut into);
    into
}

/// Includes that do not exist, and circles of includes.
pub(crate) fn check_includes(roles: &BTreeMap<RoleName, Role>, sources: &Sources, errors: &mut Vec<Diagnostic>) {
    for role in roles.values() {
        for (included, at) in &role.include {
            if !roles.contains_key(included) {
                errors.push(
                    Diagnostic::new(format!("there is no role `{included}`"))
                        .at(sources.place(*at, format!("expected a file roles/{included}.toml")))
                        .help_if(
                            nearest(included.as_str(), roles.keys().map(RoleName::as_str))
                                .map(|n| format!("did you mean `{n}`?")),
                        ),
                );
            }
        }
    }
    // Each circle is reported once, from its alphabetically first role.
    let open = in_circles(roles);
    for start in &open {
        let Some(circle) = circle_from(roles, &open, start) else { continue };
        let names: Vec<&str> = circle.iter().map(|(role, _)| role.as_str()).collect();
        let mut error =
            Diagnostic::new(format!("roles include one another in a circle: {} → {start}", names.join(" → ")));
        for (i, (_, at)) in circle.iter().enumerate() {
            let next = circle.get(i + 1).map_or(*start, |(role, _)| *role);
            error = error.at(sources.place(*at, format!("includes {next}")));
        }
        errors.push(error.help("put what both need into a role of its own"));
    }
}

/// Roles that are in a circle or lead into one: what is left when all that lead to an end are taken away.
fn in_circles(roles: &BTreeMap<RoleName, Role>) -> BTreeSet<&RoleName> {
    let known = |role: &'_ Role| role.include.iter().filter(|(name, _)| roles.contains_key(name)).count();
    let mut waits: BTreeMap<&RoleName, usize> = roles.iter().map(|(name, role)| (name, known(role))).collect();
    let mut included_by: BTreeMap<&RoleName, Vec<&RoleName>> = BTreeMap::new();
    for (name, role) in roles {
        for (included, _) in &role.include {
            included_by.entry(included).or_default().push(name);
        }
    }
    let mut ends: Vec<&RoleName> = waits.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(end) = ends.pop() {
        for above in included_by.get(end).into_iter().flatten() {
            if let Some(count) = waits.get_mut(above) {
                *count -= 1;
                if *count == 0 {
                    ends.push(above);
                }
            }
        }
    }
    waits.into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect()
}

/// The shortest way from a role back to itself over none that comes before it in the alphabet, each with the place that leads on.
fn circle_from<'a>(
    roles: &'a BTreeMap<RoleName, Role>,
    open: &BTreeSet<&'a RoleName>,
    start: &'a RoleName,
) -> Option<Vec<(&'a RoleName, At)>> {
    let mut from: BTreeMap<&RoleName, (&RoleName, At)> = BTreeMap::new();
    let mut next = std::collections::VecDeque::from([start]);
    while let Some(role) = next.pop_front() {
        for (included, at) in &roles.get(role)?.include {
            if included == start {
                let mut circle = vec![(role, *at)];
                let mut last = role;
                while last != start {
                    let (before, at) = *from.get(last)?;
                    circle.push((before, at));
                    last = before;
                }
                circle.reverse();
                return Some(circle);
            }
            if included > start && open.contains(included) && !from.contains_key(included) {
                from.insert(included, (role, *at));
                next.push_back(included);
            }
        }
    }
    None
}
