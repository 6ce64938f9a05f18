//! Names of variables that templates could not say.

use super::Loader;
use crate::tree::Node;

/// Names that templates know already.
const TAKEN: &[&str] = &["cluster", "endpoints", "facts", "local", "node", "peers", "pool"];
/// Words of Jinja's own.
const WORDS: &[&str] = &[
    "and", "else", "false", "False", "for", "if", "in", "is", "loop", "none", "None", "not", "or", "self", "super",
    "true", "True",
];

impl Loader {
    /// Below a variable's own name there may be any: `{{ hosts["db-1"] }}`.
    pub(super) fn check_variables(&mut self, tree: &Node) {
        for (name, entry) in tree.get(&["variables"]).and_then(Node::table).into_iter().flatten() {
            let refused = |loader: &mut Self, label: String, help| {
                // What it was meant for would be unknown wherever it is used.
                loader.whole = false;
                loader.error(entry.key, format!("a variable cannot be called `{name}`"), label, help);
            };
            if TAKEN.contains(&name.as_str()) {
                refused(self, format!("templates know already: {}", TAKEN.join(", ")), None);
            } else if WORDS.contains(&name.as_str()) {
                refused(self, "a word of the templates' own".to_owned(), None);
            } else if !is_identifier(name) {
                let better: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
                let help = is_identifier(&better).then(|| format!("call it `{better}`"));
                let dash = if name.contains('-') { "`-` is minus in templates: " } else { "" };
                refused(self, format!("{dash}expected letters, digits and `_`, and no digit first"), help);
            }
        }
    }
}

fn is_identifier(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_numeric())
        && !name.is_empty()
}
