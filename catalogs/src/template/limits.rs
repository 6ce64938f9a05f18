//! What a template may cost, and values that would be nothing in a file without anybody noticing.
//!
//! Steps are counted by the engine itself; what it makes of one step is bounded here: the text that comes out, and the filters
//! that make much of a little. Only a text that is doubled again and again (`{% set a = a ~ a %}`) is bounded by nothing.

use std::io;

use minijinja::{
    Environment, Error, ErrorKind, State, Template, Value, filters,
    functions::Function,
    value::{FunctionArgs, FunctionResult, Rest, ValueKind, ValueOrKwargs},
};

/// The most bytes that a template may become: each node's catalog has them.
const MOST_RENDERED: usize = 4 << 20;
/// The most blanks that `indent` puts before a line, and the most digits of a width in `format`.
const MOST_INDENT: i64 = 1000;
const MOST_DIGITS: usize = 4;
/// Values in values, as deep as these are looked into.
const MOST_DEPTH: usize = 64;

/// Renders, and not more than a node could take.
pub(super) fn render(template: &Template<'_, '_>, context: &Value) -> Result<String, Error> {
    let mut text = Bounded(Vec::new());
    let rendered = template.render_captured_to(context, &mut text).map(drop);
    if text.0.len() > MOST_RENDERED {
        return Err(too_much());
    }
    rendered?;
    String::from_utf8(text.0).map_err(|_| Error::new(ErrorKind::InvalidOperation, "it makes no text"))
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(part);
        if self.0.len() > MOST_RENDERED { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(part.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_much() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("it becomes more than {MOST_RENDERED} bytes"))
}

/// What is said of `none` where a text is wanted.
pub(super) const NO_VALUE: &str =
    "this is `none`, which is no text: give it another value, or leave it out with `{% if … %}`";

/// A value that is written into a file by itself.
pub(super) fn written(value: &Value) -> Result<(), Error> {
    // The word None in a file would help nobody.
    if value.is_none() { Err(Error::new(ErrorKind::InvalidOperation, NO_VALUE)) } else { check(value) }
}

fn check(value: &Value) -> Result<(), Error> {
    // A function's name in a file would help nobody.
    if value.kind() == ValueKind::Plain {
        return Err(Error::new(ErrorKind::InvalidOperation, "this is a function and no value"));
    }
    if value.as_str().is_some_and(|text| text.len() > MOST_RENDERED) {
        return Err(too_much());
    }
    holds_values(value, MOST_DEPTH)
}

/// What is not defined in a list or table is as little as nothing by itself.
fn holds_values(value: &Value, depth: usize) -> Result<(), Error> {
    let undefined = || Error::new(ErrorKind::UndefinedError, "a value in it is not defined");
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) || depth == 0 {
        return Ok(());
    }
    for item in value.try_iter()? {
        let inner = if value.kind() == ValueKind::Map { value.get_item(&item)? } else { item };
        if inner.is_undefined() {
            return Err(undefined());
        }
        holds_values(&inner, depth - 1)?;
    }
    Ok(())
}

/// Puts the filters that need a limit in front of those of their name.
pub(super) fn of_filters(environment: &mut Environment<'_>) {
    before(environment, "join", filters::join, |arguments| arguments.first().map_or(Ok(()), check));
    before(environment, "tojson", filters::tojson, |arguments| {
        let undefined = arguments.first().is_some_and(Value::is_undefined);
        if undefined { Err(ErrorKind::UndefinedError.into()) } else { arguments.first().map_or(Ok(()), check) }
    });
    before(environment, "indent", filters::indent, |arguments| {
        let wide = arguments.get(1).and_then(Value::as_i64).is_some_and(|width| width > MOST_INDENT);
        let by_name = arguments.last().and_then(|last| last.get_attr("width").ok()?.as_i64());
        match wide || by_name.is_some_and(|width| width > MOST_INDENT) {
            true => Err(Error::new(ErrorKind::InvalidOperation, format!("`indent` goes up to {MOST_INDENT}"))),
            false => Ok(()),
        }
    });
    before(environment, "format", filters::format, |arguments| {
        let text = arguments.first().and_then(Value::as_str).unwrap_or_default();
        let mut widths = text.split(|c: char| !c.is_ascii_digit() && c != '*');
        // A width of `*` is an argument's.
        match widths.any(|width| width.len() > MOST_DIGITS || width.contains('*')) {
            true => Err(Error::new(ErrorKind::InvalidOperation, format!("a width has at most {MOST_DIGITS} digits"))),
            false => Ok(()),
        }
    });
    before(environment, "replace", filters::replace, |arguments| {
        let [text, from, to, ..] = arguments else { return Ok(()) };
        let (Some(text), Some(from), Some(to)) = (text.as_str(), from.as_str(), to.as_str()) else { return Ok(()) };
        let found = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
        if text.len().saturating_add(found.saturating_mul(to.len())) > MOST_RENDERED { Err(too_much()) } else { Ok(()) }
    });
}

/// A filter that is called when nothing speaks against its arguments.
fn before<F, Rv, Args>(
    environment: &mut Environment<'_>,
    name: &'static str,
    filter: F,
    speaks: impl Fn(&[Value]) -> Result<(), Error> + Send + Sync + 'static,
) where
    F: Function<Rv, Args>,
    Rv: FunctionResult,
    Args: for<'a> FunctionArgs<'a>,
{
    let inner = format!("{name} itself");
    environment.add_filter(inner.clone(), filter);
    environment.add_filter(name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
        let arguments = arguments.into_values();
        speaks(&arguments)?;
        state.apply_filter(&inner, &arguments)
    });
}
