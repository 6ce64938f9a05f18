//! What templates name and the context does not have.

use std::{collections::BTreeMap, ops::Range};

use serde_json::Value as Json;

use super::{Engine, Spot};
use crate::{diagnostic::Diagnostic, shape::nearest};

impl Engine<'_> {
    /// Names that the context does not have, in branches that are not taken as well.
    pub(super) fn names(&self, text: &str, used: &[String], spot: Spot<'_>, errors: &mut Vec<Diagnostic>) {
        let unknown: Vec<(&String, Option<usize>)> = used
            .iter()
            .filter(|name| {
                let root = name.split('.').next().unwrap_or_default();
                !self.is_known(name)
                    && !self.templates.environment().globals().any(|(g, _)| g == root)
                    && !may_be_missing(text, name)
            })
            .map(|name| {
                let found = find_word(text, name);
                (name, found)
            })
            .collect();
        for (name, found) in &unknown {
            // The second half of a name with a dash is no name.
            let half = unknown.iter().any(|(first, start)| {
                let end = start.map(|start| start + first.len());
                let dashed = |end: usize| found.is_some_and(|found| found == end + 1 && text[end..].starts_with('-'));
                end.is_some_and(|end| dashed(end) && self.with_a_dash(&text[end - first.len()..], first).is_some())
            });
            if half {
                continue;
            }
            let place = match *found {
                Some(start) => self.part(spot, start..start + name.len()),
                None => spot.at,
            };
            let dashed = found.and_then(|start| self.with_a_dash(&text[start..], name));
            // Each costs a look at all that there is: whoever has so many sees from the first what is wrong.
            let more = errors.len() < MOST_EXPLAINED;
            let help = dashed.or_else(|| if more { self.way_out(name) } else { None });
            let siblings = if more { self.siblings(name) } else { "not defined".to_owned() };
            errors.push(
                Diagnostic::new(format!("`{name}` is not defined"))
                    .at(self.sources.place(place, siblings))
                    .help_if(help),
            );
        }
    }

    /// What showed to be not defined when it was rendered for this node.
    pub(super) fn undefined(
        &self,
        text: &str,
        name: Option<&str>,
        range: Option<Range<usize>>,
        spot: Spot<'_>,
        errors: &mut Vec<Diagnostic>,
    ) {
        let name = name.unwrap_or_else(|| text.trim());
        if !is_path(name) {
            let place = range.map_or(spot.at, |range| self.part(spot, range));
            let place = self.sources.place(place, self.on_this_node(true));
            let help = "where a value may be missing, write | default(…, true)";
            errors.push(Diagnostic::new("this has a value that is not defined").at(place).help(help));
            return;
        }
        let end = range.as_ref().map_or(text.len(), |range| range.end.min(text.len()));
        let found = text.get(..end).and_then(|text| text.rfind(name)).or_else(|| find_word(text, name));
        let place = match (found, range) {
            (Some(start), _) => self.part(spot, start..start + name.len()),
            (None, Some(range)) => self.part(spot, range),
            (None, None) => spot.at,
        };
        let help = match name.split(['.', '[']).take(2).collect::<Vec<_>>().as_slice() {
            ["node", "disks"] => "a disk is held by one node of its pool: ask with {% if node.disks %}".to_owned(),
            _ => format!("where it may be missing, ask with {{% if {name} is defined %}}, or write | default(…)"),
        };
        let label = self.on_this_node(true);
        let place = self.sources.place(place, label);
        errors.push(Diagnostic::new(format!("`{name}` is not defined")).at(place).help(help));
    }

    /// What to write for a name that there is not.
    fn way_out(&self, name: &str) -> Option<String> {
        if let Some((table, "items" | "keys" | "values" | "get")) = name.rsplit_once('.') {
            return Some(format!(
                "a table has no methods: `{table} | items` are its pairs, `{table}[\"key\"]` is one of its values"
            ));
        }
        if name.starts_with("local.") {
            let help = "the coordinator of a local environment provides it; give it in [variables] elsewhere";
            return Some(help.to_owned());
        }
        let near = nearest(name, self.paths.keys().map(String::as_str));
        near.map(|near| format!("did you mean `{near}`?")).or_else(|| self.in_variables(name))
    }

    /// A table of variables that lacks it, in this environment.
    fn in_variables(&self, name: &str) -> Option<String> {
        let (parent, key) = name.rsplit_once('.')?;
        let root = parent.split('.').next().unwrap_or_default();
        let ours = self.paths.get(parent) == Some(&true) && !GIVEN.contains(&root);
        ours.then(|| format!("give `{key}` in [variables.{parent}], in muster.toml or in the environment"))
    }

    /// `packages.docker-ce.url` in a template is a difference of two values.
    fn with_a_dash(&self, text: &str, name: &str) -> Option<String> {
        let rest = text.strip_prefix(name)?;
        if !rest.starts_with('-') {
            return None;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let last = &text[name.rfind('.').map_or(0, |dot| dot + 1)..];
        let key = &last[..last.find(|c: char| !word(c)).unwrap_or(last.len())];
        let (parent, _) = name.rsplit_once('.')?;
        let known = self.paths.contains_key(&format!("{parent}.{key}"));
        known.then(|| format!("`-` is minus in templates: write {parent}[\"{key}\"]"))
    }

    /// True for what the context has, and for methods and parts of what is no table.
    fn is_known(&self, name: &str) -> bool {
        if self.paths.contains_key(name) {
            return true;
        }
        // A name below a scalar or a list is a method of it: `pods.split`.
        let mut end = name.len();
        while let Some(dot) = name[..end].rfind('.') {
            if let Some(is_table) = self.paths.get(&name[..dot]) {
                return !is_table;
            }
            end = dot;
        }
        false
    }

    /// What there is beside an unknown name.
    fn siblings(&self, name: &str) -> String {
        let mut parent = name;
        while let Some((above, _)) = parent.rsplit_once('.') {
            if self.paths.contains_key(above) {
                let prefix = format!("{above}.");
                let names: Vec<&str> = self
                    .paths
                    .keys()
                    .filter_map(|p| p.strip_prefix(&prefix))
                    .filter(|p| !p.contains('.'))
                    .take(20)
                    .collect();
                return match names.as_slice() {
                    [] => format!("`{above}` is empty"),
                    names => format!("`{above}` has: {}", names.join(", ")),
                };
            }
            parent = above;
        }
        let names: Vec<&str> = self.paths.keys().map(String::as_str).filter(|p| !p.contains('.')).collect();
        format!("templates know: {}", names.join(", "))
    }
}

/// Names joined by dots, with numbers and keys in brackets: what can stand in a test of its own.
fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "_.[]-'\"".contains(c);
    text.chars().all(plain) && !text.starts_with(['[', '"', '\''])
}

/// So many errors say what there is instead.
const MOST_EXPLAINED: usize = 100;

/// Names that are no variables of the site's.
const GIVEN: &[&str] = &["cluster", "endpoints", "facts", "local", "node", "peers", "pool"];

/// Whether the template itself sees to it that there is none.
fn may_be_missing(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let rest = text[at + name.len()..].trim_start();
        let asks = ["is defined", "is not defined"].iter().any(|asks| rest.starts_with(asks));
        asks || rest.strip_prefix('|').is_some_and(|filter| filter.trim_start().starts_with("default"))
    })
}

/// Every path of a context, and whether it is a table.
pub(super) fn collect(prefix: &str, value: &Json, into: &mut BTreeMap<String, bool>) {
    if let Json::Object(map) = value {
        for (key, value) in map {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            collect(&path, value, into);
            into.insert(path, value.is_object());
        }
    }
}

/// The first place of `word` in `text` that is not a part of a longer name.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    while let Some(found) = text[from..].find(word) {
        let start = from + found;
        let before = text[..start].chars().next_back().is_some_and(|c| is_part(c) || c == '.');
        let after = text[start + word.len()..].chars().next().is_some_and(is_part);
        if !before && !after {
            return Some(start);
        }
        from = start + word.len();
    }
    None
}
