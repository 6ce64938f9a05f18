//! The templates of a site's roles, compiled once for all its nodes and environments.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use minijinja::{
    AutoEscape, Environment, ErrorKind, Template, UndefinedBehavior, syntax::SyntaxConfig, value::ValueKind,
};
use muster_ids::RoleName;

use super::marks;
use crate::{
    compile::join,
    role::Role,
    shape::is_template,
    tree::{At, Node, Sources, Value},
};

/// How templates are read, and those that are compiled already. Cheap to clone. They follow from the roles, so that all of one
/// site are equal.
#[derive(Clone)]
pub(crate) struct Templates(Arc<Compiled>);

struct Compiled {
    environment: Environment<'static>,
    /// What each names, by its place.
    names: HashMap<At, Vec<String>>,
}

impl Templates {
    /// Those of roles. One with an error is left to whoever renders it, and says so.
    pub(crate) fn of(roles: &BTreeMap<RoleName, Role>, sources: &Sources) -> Self {
        let mut compiled = Compiled { environment: environment(), names: HashMap::new() };
        for role in roles.values() {
            let folder = role.file.rsplit_once('/').map_or("", |(folder, _)| folder);
            for written in &role.resources {
                compiled.add_all(&written.node);
                let named = written.node.get(&["template"]).and_then(Node::str);
                let path = named.filter(|name| !is_template(name)).map(|name| join(folder, name));
                if let Some((text, at)) = path.and_then(|path| Some((sources.text(&path)?, sources.whole(&path)?))) {
                    compiled.add(text, at);
                }
            }
        }
        Self(Arc::new(compiled))
    }

    /// None compiled: for what is rendered once.
    pub(crate) fn none() -> Self {
        Self(Arc::new(Compiled { environment: environment(), names: HashMap::new() }))
    }

    pub(super) fn environment(&self) -> &Environment<'static> {
        &self.0.environment
    }

    /// The template of this text at this place, and what it names.
    pub(super) fn get(&self, text: &str, at: At) -> Option<(Template<'_, '_>, &[String])> {
        let names = self.0.names.get(&at)?;
        let template = self.0.environment.get_template(&key(at)).ok()?;
        // Elsewhere a value may have been put in the place of an expression.
        (template.source() == text).then_some((template, names.as_slice()))
    }
}

impl Compiled {
    fn add_all(&mut self, node: &Node) {
        match &node.value {
            Value::String(text) if is_template(text) => self.add(text, node.at),
            Value::Array(all) => all.iter().for_each(|node| self.add_all(node)),
            Value::Table(table) => {
                table.iter().filter(|(key, _)| *key != "when").for_each(|(_, entry)| self.add_all(&entry.node));
            }
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => {}
        }
    }

    fn add(&mut self, text: &str, at: At) {
        let name = key(at);
        if !marks::stray(text).is_empty() || self.names.contains_key(&at) {
            return;
        }
        if self.environment.add_template_owned(name.clone(), text.to_owned()).is_ok()
            && let Ok(template) = self.environment.get_template(&name)
        {
            let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
            names.sort();
            self.names.insert(at, names);
        }
    }
}

fn key(at: At) -> String {
    format!("{at:?}")
}

/// What is said of `none` where a text is wanted.
pub(super) const NO_VALUE: &str =
    "this is `none`, which is no text: give it another value, or leave it out with `{% if … %}`";

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out, state, value| {
        // A function's name in a file would help nobody.
        if value.kind() == ValueKind::Plain {
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "this is a function and no value"));
        }
        // Nor would "None".
        if value.is_none() {
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, NO_VALUE));
        }
        minijinja::escape_formatter(out, state, value)
    });
    // Lines that hold only a statement leave nothing behind, and a file keeps its last line end.
    if let Ok(syntax) =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()
    {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(10_000_000));
    environment
}

impl PartialEq for Templates {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} templates", self.0.names.len())
    }
}
