//! Templates and `when`: Jinja, strict about what is not defined, with the place of every error.

mod compiled;
mod limits;
mod marks;
mod names;

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use minijinja::{ErrorKind, value::ValueKind};
use serde_json::Value as Json;

use crate::{
    diagnostic::Diagnostic,
    shape::is_template,
    tree::{At, Entry, Node, Sources, Value},
};
pub(crate) use compiled::Templates;

/// How text of other programs that looks like a template is kept as it is.
const AS_IT_IS: &str = "what is meant for another program stands between {% raw %} and {% endraw %}, or in a file that \
                        `source` names, which is copied as it is";

/// Renders with one node's values.
pub(crate) struct Engine<'a> {
    templates: Templates,
    context: minijinja::Value,
    /// Every path that the context has, "packages.kubernetes.url", and whether it is a table.
    paths: BTreeMap<String, bool>,
    sources: &'a Sources,
    /// The node that it renders for, for messages; nothing where there is but one.
    node: Option<String>,
}

/// Where a text stands.
#[derive(Clone, Copy)]
struct Spot<'t> {
    at: At,
    /// Its quotes are a part of the place, and characters may be escaped.
    quoted: bool,
    /// The whole text, and where in it the part begins that is rendered.
    whole: &'t str,
    from: usize,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(context: &Json, sources: &'a Sources, templates: Templates, node: Option<String>) -> Self {
        let mut paths = BTreeMap::new();
        names::collect("", context, &mut paths);
        Self { templates, context: minijinja::value::Serde(context).into(), paths, sources, node }
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
                Value::String(self.text(text, Spot::quoted(node.at, text), errors).unwrap_or_default())
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

    /// A text of a node as a template.
    pub(crate) fn text_of(&self, node: &Node, errors: &mut Vec<Diagnostic>) -> Option<String> {
        let text = node.str()?;
        self.text(text, Spot::quoted(node.at, text), errors)
    }

    /// A file of the site as a template.
    pub(crate) fn file(&self, path: &str, errors: &mut Vec<Diagnostic>) -> Option<String> {
        let text = self.sources.text(path)?;
        let at = self.sources.whole(path)?;
        self.text(text, Spot { at, quoted: false, whole: text, from: 0 }, errors)
    }

    /// Renders one text that stands at a place.
    fn text(&self, text: &str, spot: Spot<'_>, errors: &mut Vec<Diagnostic>) -> Option<String> {
        let before = errors.len();
        if let Some((template, names)) = self.templates.get(text, spot.at) {
            self.names(text, names, spot, errors);
            if errors.len() > before {
                return None;
            }
            return match limits::render(&template, &self.context) {
                Ok(rendered) => Some(rendered),
                Err(error) => {
                    self.fault("template", text, &error, spot, errors);
                    None
                }
            };
        }
        let stray = marks::stray(text);
        for mark in &stray {
            let place = self.sources.place(self.part(spot, mark.at.clone()), mark.why);
            errors.push(Diagnostic::new("`{#` begins a comment, and this is none").at(place).help(format!(
                "{AS_IT_IS}; a comment is `{{# … #}}` with blanks inside and a blank or a line's start before it"
            )));
        }
        match self.templates.environment().template_from_str(text) {
            Ok(template) => {
                self.names(text, &sorted(template.undeclared_variables(true)), spot, errors);
                if errors.len() > before {
                    return None;
                }
                match limits::render(&template, &self.context) {
                    Ok(rendered) => return Some(rendered),
                    Err(error) => self.fault("template", text, &error, spot, errors),
                }
            }
            // What follows a comment that is none is another error in the parser's eyes only.
            Err(error) if stray.first().is_some_and(|mark| error.range().is_none_or(|r| r.start >= mark.at.start)) => {}
            Err(error) => self.fault("template", text, &error, spot, errors),
        }
        None
    }

    /// A text that is one expression, `{{ … }}`, as the value that it has.
    pub(crate) fn value(&self, text: &str, at: At, errors: &mut Vec<Diagnostic>) -> Option<Node> {
        let trimmed = text.trim();
        let inner = trimmed.strip_prefix("{{")?.strip_suffix("}}")?;
        let from = text.len() - text.trim_start().len() + "{{".len();
        let spot = Spot { from, ..Spot::quoted(at, text) };
        let before = errors.len();
        let expression = match self.templates.environment().compile_expression(inner) {
            Ok(expression) => expression,
            Err(error) => {
                self.fault("template", inner, &error, spot, errors);
                return None;
            }
        };
        self.names(inner, &sorted(expression.undeclared_variables(true)), spot, errors);
        if errors.len() > before {
            return None;
        }
        match expression.eval(&self.context) {
            Ok(value) if value.is_undefined() => {
                self.undefined(inner, None, None, spot, errors);
                None
            }
            Ok(value) if value.is_none() => {
                let error = minijinja::Error::new(ErrorKind::InvalidOperation, limits::NO_VALUE);
                self.fault("template", inner, &error, spot, errors);
                None
            }
            Ok(value) => match serde_json::to_value(&value) {
                Ok(json) => Some(Node::from_json(&json, at)),
                Err(_) => None,
            },
            Err(error) => {
                self.fault("template", inner, &error, spot, errors);
                None
            }
        }
    }

    /// Whether a `when` holds.
    pub(crate) fn holds(&self, expression: &str, at: At, errors: &mut Vec<Diagnostic>) -> bool {
        let spot = Spot::quoted(at, expression);
        let compiled = match self.templates.environment().compile_expression(expression) {
            Ok(compiled) => compiled,
            Err(error) => {
                self.fault("`when`", expression, &error, spot, errors);
                return false;
            }
        };
        let before = errors.len();
        self.names(expression, &sorted(compiled.undeclared_variables(true)), spot, errors);
        if errors.len() > before {
            return false;
        }
        match compiled.eval(&self.context) {
            Ok(value) if value.kind() == ValueKind::Bool => value.is_true(),
            Ok(value) if value.is_undefined() => {
                self.undefined(expression, None, None, spot, errors);
                false
            }
            Ok(value) => {
                let label = format!("expected a comparison; it is {value}");
                errors.push(
                    Diagnostic::new("`when` is neither true nor false")
                        .at(self.sources.place(at, label))
                        .help("as in: when = 'facts.virtualization == \"container\"'"),
                );
                false
            }
            Err(error) => {
                self.fault("`when`", expression, &error, spot, errors);
                false
            }
        }
    }

    /// The place of a part of a text that is rendered.
    fn part(&self, spot: Spot<'_>, range: Range<usize>) -> At {
        let range = spot.from + range.start..spot.from + range.end;
        if spot.quoted { self.sources.part(spot.at, spot.whole, range) } else { spot.at.part(range.start, range.end) }
    }

    fn fault(&self, what: &str, text: &str, error: &minijinja::Error, spot: Spot<'_>, errors: &mut Vec<Diagnostic>) {
        let range = error.range();
        if error.kind() == ErrorKind::UndefinedError {
            let name = error.detail().and_then(|detail| detail.strip_prefix('`')?.strip_suffix("` is undefined"));
            self.undefined(text, name, range, spot, errors);
            return;
        }
        let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let place = match range {
            Some(range) => self.part(spot, range.start..range.end.max(range.start + 1)),
            None => spot.at,
        };
        let (message, help) = match error.kind() {
            ErrorKind::SyntaxError if what != "template" && text.contains("{{") => {
                let help = "`when` is an expression by itself: leave out `{{` and `}}`";
                (format!("this is no {what}: {detail}"), Some(help.to_owned()))
            }
            ErrorKind::SyntaxError => {
                let ends = detail.contains("end of input") || spot.from > 0 || what != "template";
                (format!("this is no {what}: {detail}"), (!ends).then(|| AS_IT_IS.to_owned()))
            }
            ErrorKind::OutOfFuel => (format!("the {what} does not end"), None),
            ErrorKind::TemplateNotFound => (
                "a template stands alone, and this names another".to_owned(),
                Some(
                    "what several files need belongs in [variables], and each file in a [[file]] of its own".to_owned(),
                ),
            ),
            _ => (format!("the {what} cannot be rendered: {detail}"), None),
        };
        let place = self.sources.place(place, self.on_this_node(error.kind() != ErrorKind::SyntaxError));
        errors.push(Diagnostic::new(message).at(place).help_if(help));
    }

    /// The label of an error that another node may not have.
    fn on_this_node(&self, differs: bool) -> String {
        match &self.node {
            Some(node) if differs => format!("on node {node}"),
            Some(_) | None => "here".to_owned(),
        }
    }
}

fn sorted(names: HashSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    names
}

impl<'t> Spot<'t> {
    fn quoted(at: At, whole: &'t str) -> Self {
        Self { at, quoted: true, whole, from: 0 }
    }
}
