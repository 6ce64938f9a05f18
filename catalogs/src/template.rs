//! Templates and `when`: Jinja, strict about what is not defined, with the place of every error.

use std::collections::BTreeSet;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, syntax::SyntaxConfig};
use serde_json::Value as Json;

use crate::{
    diagnostic::Diagnostic,
    shape::{is_template, nearest},
    tree::{At, Entry, Node, Sources, Value},
};

/// Renders with one node's values.
pub(crate) struct Engine<'a> {
    environment: Environment<'static>,
    context: minijinja::Value,
    /// Every path that the context has, "packages.kubernetes.url".
    paths: BTreeSet<String>,
    sources: &'a Sources,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(context: &Json, sources: &'a Sources) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // Lines that hold only a statement leave nothing behind, and a file keeps its last line end.
        if let Ok(syntax) =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()
        {
            environment.set_syntax(syntax);
        }
        environment.set_fuel(Some(10_000_000));
        let mut paths = BTreeSet::new();
        collect_paths("", context, &mut paths);
        Self { environment, context: minijinja::value::Serde(context).into(), paths, sources }
    }

    /// An image's full name: the variable `images.registry` in front of a name without a registry's host.
    pub(crate) fn image(&self, name: &str) -> String {
        let first = name.split('/').next().unwrap_or_default();
        let has_host = name.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost");
        let registry = self.context.get_attr("images").and_then(|i| i.get_attr("registry")).ok();
        match registry.as_ref().and_then(minijinja::Value::as_str) {
            Some(registry) if !has_host && !registry.is_empty() => format!("{registry}/{name}"),
            Some(_) | None => name.to_owned(),
        }
    }

    /// Renders every text below `node`. Places are kept.
    pub(crate) fn tree(&self, node: &Node, errors: &mut Vec<Diagnostic>) -> Node {
        let value = match &node.value {
            Value::String(text) if is_template(text) => {
                Value::String(self.text(text, self.within(node.at, text), errors).unwrap_or_default())
            }
            Value::Array(all) => Value::Array(all.iter().map(|n| self.tree(n, errors)).collect()),
            Value::Table(table) => Value::Table(
                table
                    .iter()
                    .map(|(key, e)| (key.clone(), Entry { key: e.key, node: self.tree(&e.node, errors) }))
                    .collect(),
            ),
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => {
                node.value.clone()
            }
        };
        Node { at: node.at, value }
    }

    /// The place of a text within its quotes, and whether bytes of it can be counted from there.
    fn within(&self, at: At, text: &str) -> (At, bool) {
        let raw = self.sources.slice(at);
        for quote in ["\"", "'", "\"\"\"", "'''", "\"\"\"\n", "'''\n"] {
            let inner = raw.strip_prefix(quote).and_then(|r| r.strip_suffix(quote.trim_end()));
            if inner == Some(text) {
                return (at.part(quote.len(), quote.len() + text.len()), true);
            }
        }
        (at, false)
    }

    /// Renders one text that stands at a place.
    pub(crate) fn text(&self, text: &str, at: (At, bool), errors: &mut Vec<Diagnostic>) -> Option<String> {
        let before = errors.len();
        match self.environment.template_from_str(text) {
            Ok(template) => {
                self.names(text, template.undeclared_variables(true), at, errors);
                if errors.len() > before {
                    return None;
                }
                match template.render(&self.context) {
                    Ok(rendered) => return Some(rendered),
                    Err(error) => self.fault("template", &error, at, errors),
                }
            }
            Err(error) => self.fault("template", &error, at, errors),
        }
        None
    }

    /// A text that is one expression, `{{ … }}`, as the value that it has.
    pub(crate) fn value(&self, text: &str, at: At, errors: &mut Vec<Diagnostic>) -> Option<Node> {
        let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
        let (within, exact) = self.within(at, text);
        let place = match (exact, text.find(inner)) {
            (true, Some(start)) => (within.part(start, start + inner.len()), true),
            (true | false, _) => (at, false),
        };
        let before = errors.len();
        let expression = match self.environment.compile_expression(inner) {
            Ok(expression) => expression,
            Err(error) => {
                self.fault("template", &error, place, errors);
                return None;
            }
        };
        self.names(inner, expression.undeclared_variables(true), place, errors);
        if errors.len() > before {
            return None;
        }
        match expression.eval(&self.context) {
            Ok(value) => match serde_json::to_value(&value) {
                Ok(json) => Some(Node::from_json(&json, at)),
                Err(_) => None,
            },
            Err(error) => {
                self.fault("template", &error, place, errors);
                None
            }
        }
    }

    /// A file of the site as a template.
    pub(crate) fn file(&self, path: &str, errors: &mut Vec<Diagnostic>) -> Option<String> {
        let text = self.sources.text(path)?;
        let at = self.sources.file(path)?.part(0, text.len());
        self.text(text, (at, true), errors)
    }

    /// Whether a `when` holds.
    pub(crate) fn holds(&self, expression: &str, at: At, errors: &mut Vec<Diagnostic>) -> bool {
        let within = self.within(at, expression);
        let compiled = match self.environment.compile_expression(expression) {
            Ok(compiled) => compiled,
            Err(error) => {
                self.fault("`when`", &error, within, errors);
                return false;
            }
        };
        let before = errors.len();
        self.names(expression, compiled.undeclared_variables(true), within, errors);
        if errors.len() > before {
            return false;
        }
        match compiled.eval(&self.context) {
            Ok(value) if value.kind() == minijinja::value::ValueKind::Bool => value.is_true(),
            Ok(value) => {
                errors.push(
                    Diagnostic::new(format!("`when` is {value}, neither true nor false"))
                        .at(self.sources.place(at, "expected a comparison"))
                        .help("as in: when = 'facts.virtualization == \"container\"'"),
                );
                false
            }
            Err(error) => {
                self.fault("`when`", &error, within, errors);
                false
            }
        }
    }

    /// Names that the context does not have, in branches that are not taken as well.
    fn names(
        &self,
        text: &str,
        used: std::collections::HashSet<String>,
        (at, exact): (At, bool),
        errors: &mut Vec<Diagnostic>,
    ) {
        let used: BTreeSet<String> = used.into_iter().collect();
        for name in used {
            let root = name.split('.').next().unwrap_or_default();
            if self.is_known(&name) || self.environment.globals().any(|(g, _)| g == root) {
                continue;
            }
            if text.contains(&format!("{name} is defined")) || text.contains(&format!("{name} is not defined")) {
                continue;
            }
            let place = match (exact, find_word(text, &name)) {
                (true, Some(start)) => at.part(start, start + name.len()),
                (true | false, _) => at,
            };
            let help = if name.starts_with("local.") {
                Some("the coordinator of a local environment provides it; give it in [variables] elsewhere".to_owned())
            } else {
                nearest(&name, self.paths.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"))
            };
            let siblings = self.siblings(&name);
            errors.push(
                Diagnostic::new(format!("`{name}` is not defined"))
                    .at(self.sources.place(place, siblings))
                    .help_if(help),
            );
        }
    }

    /// True for what the context has, and for methods and parts of what is no table.
    fn is_known(&self, name: &str) -> bool {
        if self.paths.contains(name) {
            return true;
        }
        // A name below a scalar or a list is a method of it: `pods.split`.
        let mut end = name.len();
        while let Some(dot) = name[..end].rfind('.') {
            let parent = &name[..dot];
            if self.paths.contains(parent) {
                let prefix = format!("{parent}.");
                let is_leaf = !self.paths.range(prefix.clone()..).next().is_some_and(|p| p.starts_with(&prefix));
                return is_leaf || ["items", "keys", "values", "get"].contains(&&name[dot + 1..]);
            }
            end = dot;
        }
        false
    }

    /// What there is beside an unknown name.
    fn siblings(&self, name: &str) -> String {
        let mut parent = name;
        while let Some((above, _)) = parent.rsplit_once('.') {
            if self.paths.contains(above) {
                let prefix = format!("{above}.");
                let names: Vec<&str> = self
                    .paths
                    .iter()
                    .filter_map(|p| p.strip_prefix(&prefix))
                    .filter(|p| !p.contains('.'))
                    .take(20)
                    .collect();
                return format!("`{above}` has: {}", names.join(", "));
            }
            parent = above;
        }
        let names: Vec<&str> = self.paths.iter().map(String::as_str).filter(|p| !p.contains('.')).collect();
        format!("templates know: {}", names.join(", "))
    }

    fn fault(&self, what: &str, error: &minijinja::Error, (at, exact): (At, bool), errors: &mut Vec<Diagnostic>) {
        let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let place = match error.range() {
            Some(range) if exact => at.part(range.start, range.end.max(range.start + 1)),
            Some(_) | None => at,
        };
        let message = match error.kind() {
            ErrorKind::SyntaxError => format!("this is no {what}: {detail}"),
            ErrorKind::UndefinedError => "a value is not defined".to_owned(),
            ErrorKind::OutOfFuel => format!("the {what} does not end"),
            _ => format!("the {what} cannot be rendered: {detail}"),
        };
        errors.push(Diagnostic::new(message).at(self.sources.place(place, "here")));
    }
}

fn collect_paths(prefix: &str, value: &Json, into: &mut BTreeSet<String>) {
    if let Json::Object(map) = value {
        for (key, value) in map {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            collect_paths(&path, value, into);
            into.insert(path);
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
