//! Checks a tree against a JSON Schema and says everything that is wrong with it, each at its place.
//!
//! The schemas are those that editors get (made by schemars from the types), so that what an editor underlines and
//! what `validate` reports is the same. Only the keywords that those schemas use are known; a test holds that.

use serde_json::{Map, Value as Json};

use crate::{
    diagnostic::{Diagnostic, brief},
    formats,
    tree::{At, Node, Sources, Value},
};

/// How to check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Missing keys are no error: another file may add them.
    pub(crate) partial: bool,
    /// A text with `{{` or `{%` may stand for any scalar: it is checked again once rendered.
    pub(crate) templates: bool,
}

/// True when the text is to be rendered.
pub(crate) fn is_template(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'{', bytes).any(|at| matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// The schema of a type.
pub(crate) fn schema_of<T: schemars::JsonSchema>() -> Json {
    schemars::schema_for!(T).to_value()
}

/// Checks `node` against `schema`; returns true when nothing was wrong.
pub(crate) fn check(schema: &Json, node: &Node, rules: Rules, sources: &Sources, errors: &mut Vec<Diagnostic>) -> bool {
    let before = errors.len();
    let mut checker = Checker { root: schema, rules, sources, errors };
    let title = schema.get("title").and_then(Json::as_str).unwrap_or("this table").to_owned();
    checker.node(schema, node, &Context { table: &title, key: None });
    errors.len() == before
}

/// Where in the tables a value stands, for messages.
#[derive(Clone, Copy)]
struct Context<'a> {
    /// "a file"
    table: &'a str,
    /// "mode"
    key: Option<&'a str>,
}

impl Context<'_> {
    fn subject(&self) -> String {
        match self.key {
            Some(key) => format!("`{}` of {}", brief(key), self.table),
            None => self.table.to_owned(),
        }
    }
}

struct Checker<'a> {
    root: &'a Json,
    rules: Rules,
    sources: &'a Sources,
    errors: &'a mut Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn resolve(&self, schema: &'a Json) -> &'a Json {
        match schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
            Some(pointer) => self.root.pointer(pointer).unwrap_or(schema),
            None => schema,
        }
    }

    fn error(&mut self, at: At, message: String, label: String, help: Option<String>) {
        self.errors.push(Diagnostic::new(message).at(self.sources.place(at, label)).help_if(help));
    }

    fn node(&mut self, schema: &'a Json, node: &Node, context: &Context<'_>) {
        let schema = self.resolve(schema);
        if let Value::String(text) = &node.value
            && self.rules.templates
            && is_template(text)
            && !accepts_only_tables(schema)
        {
            return;
        }
        if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            self.branches(branches, node, context);
            return;
        }
        if let Some(expected) = schema.get("const").and_then(Json::as_str) {
            self.choice(&[expected], node, context);
            return;
        }
        if let Some(all) = schema.get("enum").and_then(Json::as_array) {
            let all: Vec<&str> = all.iter().filter_map(Json::as_str).collect();
            self.choice(&all, node, context);
            return;
        }
        if !self.has_type(schema, node) {
            let expected = type_words(schema);
            let help = quoting_help(schema, node, self.sources);
            self.error(
                node.at,
                format!("{} is {}", context.subject(), node.noun()),
                format!("expected {expected}"),
                help,
            );
            return;
        }
        match &node.value {
            Value::Table(_) => self.table(schema, node, context),
            Value::Array(all) => {
                if let Some(least) = schema.get("minItems").and_then(Json::as_u64)
                    && (all.len() as u64) < least
                {
                    self.error(
                        node.at,
                        format!("{} is empty", context.subject()),
                        format!("expected at least {least}"),
                        None,
                    );
                }
                if let Some(items) = schema.get("items") {
                    for item in all {
                        self.node(items, item, context);
                    }
                }
            }
            Value::Integer(number) => self.range(schema, node.at, *number, context),
            Value::Float(number) => {
                let least = schema.get("minimum").and_then(Json::as_f64).unwrap_or(f64::NEG_INFINITY);
                if !number.is_finite() || *number < least {
                    self.error(
                        node.at,
                        format!("{} is out of range", context.subject()),
                        "expected a positive number".to_owned(),
                        None,
                    );
                }
            }
            Value::String(text) => self.text(schema, node.at, text, context),
            Value::Boolean(_) | Value::Date(_) => {}
        }
    }

    /// `anyOf` and `oneOf`: an enum of constants, an option, or a choice between types.
    fn branches(&mut self, branches: &'a [Json], node: &Node, context: &Context<'_>) {
        let branches: Vec<&Json> = branches
            .iter()
            .map(|b| self.resolve(b))
            .filter(|b| b.get("type").and_then(Json::as_str) != Some("null"))
            .collect();
        let constants: Vec<&str> = branches
            .iter()
            .flat_map(|b| {
                let one = b.get("const").and_then(Json::as_str);
                let many = b.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
                one.into_iter().chain(many)
            })
            .collect();
        if !constants.is_empty() && branches.iter().all(|b| b.get("const").or(b.get("enum")).is_some()) {
            self.choice(&constants, node, context);
            return;
        }
        if let Some(branch) = branches.iter().find(|b| b.get("oneOf").is_some() || self.has_type(b, node)) {
            self.node(branch, node, context);
            return;
        }
        let expected: Vec<String> = branches.iter().map(|b| type_words(b)).collect();
        self.error(
            node.at,
            format!("{} is {}", context.subject(), node.noun()),
            format!("expected {}", expected.join(" or ")),
            None,
        );
    }

    fn choice(&mut self, all: &[&str], node: &Node, context: &Context<'_>) {
        let label = format!("expected one of: {}", all.join(", "));
        match node.str() {
            Some(text) if all.contains(&text) => {}
            Some(text) => {
                let help = nearest(text, all.iter().copied()).map(|n| format!("did you mean `{n}`?"));
                self.error(node.at, format!("{} cannot be `{}`", context.subject(), brief(text)), label, help);
            }
            None => self.error(node.at, format!("{} is {}", context.subject(), node.noun()), label, None),
        }
    }

    fn has_type(&self, schema: &Json, node: &Node) -> bool {
        let fits = |name: &str| match &node.value {
            Value::String(_) | Value::Date(_) => name == "string",
            Value::Integer(_) => name == "integer" || name == "number",
            Value::Float(_) => name == "number",
            Value::Boolean(_) => name == "boolean",
            Value::Array(_) => name == "array",
            Value::Table(_) => name == "object",
        };
        match schema.get("type") {
            Some(Json::String(name)) => fits(name),
            Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).any(fits),
            Some(_) | None => true,
        }
    }

    fn table(&mut self, schema: &'a Json, node: &Node, outer: &Context<'_>) {
        let Some(table) = node.table() else { return };
        let title = match schema.get("title").and_then(Json::as_str) {
            Some(title) => title.to_owned(),
            None => outer.subject(),
        };
        let none = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        let patterns = schema.get("patternProperties").and_then(Json::as_object).unwrap_or(&none);
        let further = schema.get("additionalProperties");
        let key_format = schema.pointer("/propertyNames/format").and_then(Json::as_str);
        for (key, entry) in table {
            let context = Context { table: &title, key: Some(key) };
            if let Some(Err(fault)) = key_format.map(|format| formats::format(format, key)) {
                let message = format!("`{}` cannot be a name in {title}", brief(key));
                self.error(entry.key, message, format!("expected {}", fault.expected), fault.help);
            }
            if let Some(property) = schema.pointer("/properties").and_then(|p| p.get(key)) {
                self.node(property, &entry.node, &context);
            } else if !patterns.is_empty() {
                for (pattern, value) in schema.get("patternProperties").and_then(Json::as_object).into_iter().flatten()
                {
                    if let Err(expected) = formats::pattern(pattern, key) {
                        self.error(
                            entry.key,
                            format!("`{}` cannot be a name in {title}", brief(key)),
                            format!("expected {expected}"),
                            None,
                        );
                    }
                    self.node(value, &entry.node, &context);
                }
            } else if let Some(value) = further.filter(|f| f.is_object()) {
                self.node(value, &entry.node, &context);
            } else if further == Some(&Json::Bool(false)) {
                // Sorted here: another crate of the build may make the map keep its own order.
                let mut known: Vec<&str> = properties.keys().map(String::as_str).collect();
                known.sort_unstable();
                self.error(
                    entry.key,
                    format!("unknown key `{}` for {title}", brief(key)),
                    format!("{title} has: {}", known.join(", ")),
                    nearest(key, known).map(|n| format!("did you mean `{n}`?")),
                );
            }
        }
        if !self.rules.partial {
            for required in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
                let Some(required) = required.as_str() else { continue };
                if !table.contains_key(required) {
                    let expected = properties.get(required).map(|p| type_words(self.resolve_in(p)));
                    self.error(
                        node.at,
                        format!("{title} needs `{required}`"),
                        format!("`{required}` is missing: {}", expected.unwrap_or_default()),
                        None,
                    );
                }
            }
        }
    }

    fn resolve_in<'b>(&'b self, schema: &'b Json) -> &'b Json {
        match schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
            Some(pointer) => self.root.pointer(pointer).unwrap_or(schema),
            None => schema,
        }
    }

    fn range(&mut self, schema: &Json, at: At, number: i64, context: &Context<'_>) {
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        // 64-bit and smaller integers: the comparison is exact for every bound that the types state.
        #[expect(clippy::cast_precision_loss, reason = "bounds are small whole numbers")]
        let value = number as f64;
        let limit = match schema.get("format").and_then(Json::as_str) {
            Some("uint8") => Some(255.0),
            Some("uint16") => Some(65535.0),
            Some("uint32") => Some(4_294_967_295.0),
            Some(_) | None => None,
        };
        let least = bound("minimum");
        let most = bound("maximum").or(limit);
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            let label = match (least, most) {
                (Some(least), Some(most)) => format!("expected {least} to {most}"),
                (Some(least), None) => format!("expected at least {least}"),
                (None, Some(most)) => format!("expected at most {most}"),
                (None, None) => String::new(),
            };
            self.error(at, format!("{} is out of range", context.subject()), label, None);
        }
    }

    fn text(&mut self, schema: &Json, at: At, text: &str, context: &Context<'_>) {
        let format = schema.get("format").and_then(Json::as_str).map(|f| formats::format(f, text));
        let pattern = schema.get("pattern").and_then(Json::as_str).map(|p| formats::pattern(p, text));
        for fault in [format, pattern].into_iter().flatten().filter_map(Result::err) {
            self.error(
                at,
                format!("{} cannot be `{}`", context.subject(), brief(text)),
                format!("expected {}", fault.expected),
                fault.help,
            );
        }
    }
}

fn accepts_only_tables(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str).is_some_and(|t| t == "object")
}

/// True when a text may stand at a property of `root`.
pub(crate) fn may_be_text(root: &Json, property: Option<&Json>) -> bool {
    let Some(property) = property else { return true };
    if let Some(pointer) = property.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
        return may_be_text(root, root.pointer(pointer));
    }
    if let Some(branches) = property.get("anyOf").or_else(|| property.get("oneOf")).and_then(Json::as_array) {
        return branches.iter().any(|b| may_be_text(root, Some(b)));
    }
    match property.get("type") {
        Some(Json::String(name)) => name == "string",
        Some(Json::Array(names)) => names.iter().any(|n| n == "string"),
        Some(_) | None => true,
    }
}

/// What a schema expects, in the words of messages.
pub(crate) fn type_words(schema: &Json) -> String {
    let word = |name: &str| match name {
        "string" => schema.get("format").and_then(Json::as_str).map_or("a text", formats::noun).to_owned(),
        "integer" => "a whole number".to_owned(),
        "number" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => match schema.get("items").and_then(|i| i.get("type")).and_then(Json::as_str) {
            Some("string") => "a list of texts".to_owned(),
            Some(_) | None => "a list".to_owned(),
        },
        "object" => "a table".to_owned(),
        _ => "nothing".to_owned(),
    };
    match schema.get("type") {
        Some(Json::String(name)) => word(name),
        Some(Json::Array(names)) => {
            names.iter().filter_map(Json::as_str).filter(|n| *n != "null").map(word).collect::<Vec<_>>().join(" or ")
        }
        Some(_) | None => "a text".to_owned(),
    }
}

/// A number where a text belongs mostly lacks its quotes.
fn quoting_help(schema: &Json, node: &Node, sources: &Sources) -> Option<String> {
    let wants_text = type_words(schema) != "a list of texts"
        && match schema.get("type") {
            Some(Json::String(name)) => name == "string",
            Some(Json::Array(names)) => names.iter().any(|n| n == "string"),
            Some(_) | None => false,
        };
    match &node.value {
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) if wants_text => {
            let text = sources.slice(node.at);
            if text.starts_with(['"', '\'']) {
                // A value that a template gave.
                return None;
            }
            match schema.get("format").and_then(Json::as_str).map_or(Ok(()), |f| formats::format(f, text)) {
                Ok(()) => Some(format!("put it in quotes: \"{}\"", brief(text))),
                Err(fault) => fault.help,
            }
        }
        Value::String(text) if type_words(schema) == "a list of texts" => {
            Some(format!("make it a list: [\"{}\"]", brief(text)))
        }
        Value::String(text) if text.parse::<i64>().is_ok() || text == "true" || text == "false" => {
            Some(format!("leave out the quotes: {text}"))
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Date(_)
        | Value::Array(_)
        | Value::Table(_) => None,
    }
}

/// Longer words are like none.
const LONGEST_WORD: usize = 256;

/// The known word that is most like `word`, if one is like it.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes so long a word, and it costs its length for each that is known.
    if word.len() > LONGEST_WORD {
        return None;
    }
    let length = word.chars().count();
    let most = |other: usize| 1 + other.max(length) / 4;
    known
        .into_iter()
        .filter(|k| *k != word)
        .map(|k| (k, k.chars().count()))
        .filter(|(_, other)| other.abs_diff(length) <= most(*other))
        .map(|(k, other)| (strsim::damerau_levenshtein(word, k), k, other))
        .filter(|(distance, _, other)| *distance <= most(*other))
        .map(|(distance, k, _)| (distance, k))
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keyword that nobody checks would be a promise to editors alone.
    #[test]
    fn schemas_use_only_what_is_checked() {
        let known = [
            "$defs",
            "$ref",
            "$schema",
            "additionalProperties",
            "anyOf",
            "const",
            "default",
            "description",
            "enum",
            "format",
            "items",
            "maxLength",
            "maximum",
            "minItems",
            "minimum",
            "oneOf",
            "pattern",
            "patternProperties",
            "properties",
            "propertyNames",
            "required",
            "title",
            "type",
        ];
        let numbers = ["double", "float", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64"];
        fn walk(schema: &Json, see: &mut dyn FnMut(&str, &Json)) {
            for (key, value) in schema.as_object().into_iter().flatten() {
                see(key, value);
                match key.as_str() {
                    "properties" | "patternProperties" | "$defs" => {
                        value.as_object().into_iter().flatten().for_each(|(_, s)| walk(s, see));
                    }
                    "anyOf" | "oneOf" => value.as_array().into_iter().flatten().for_each(|s| walk(s, see)),
                    "items" | "additionalProperties" | "propertyNames" => walk(value, see),
                    _ => {}
                }
            }
        }
        let schemas = [&*crate::schema::SITE, &*crate::schema::APP_FILE, &*crate::schema::APP];
        for schema in schemas.into_iter().chain(crate::kinds::SCHEMAS.values()) {
            walk(schema, &mut |key, value| {
                assert!(known.contains(&key), "{key} is not checked");
                if let ("format", Some(format)) = (key, value.as_str()) {
                    let text = formats::FORMATS.iter().any(|(name, _)| *name == format);
                    assert!(text || numbers.contains(&format), "format {format}");
                }
                if let ("pattern", Some(pattern)) = (key, value.as_str()) {
                    assert!(formats::PATTERNS.contains(&pattern), "pattern {pattern}");
                }
                if let ("patternProperties", Some(map)) = (key, value.as_object()) {
                    assert!(map.keys().all(|p| formats::PATTERNS.contains(&p.as_str())));
                }
            });
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("contents", ["content", "source"]), Some("content"));
        assert_eq!(nearest("pakage", ["package", "image"]), Some("package"));
        assert_eq!(nearest("xyz", ["package", "image"]), None);
    }
}
