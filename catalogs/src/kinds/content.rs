//! What resources with a content have in common: it is given once, and by nobody who is to go.

use super::Fault;

/// The keys that may give a content, and which of them are there.
pub(super) struct Given<'a> {
    /// As messages call the resource: "the block hosts".
    pub subject: String,
    /// The key that names it, where nothing is given.
    pub named: &'static str,
    pub keys: &'a [(&'static str, bool)],
    pub absent: bool,
}

impl Given<'_> {
    /// What is wrong with it, or else with the content itself, where there is one.
    pub(super) fn faults(&self, of_content: impl FnOnce() -> Vec<Fault>) -> Vec<Fault> {
        let Self { subject, named, keys, absent } = self;
        let given: Vec<&'static str> = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        let known: Vec<String> = keys.iter().map(|(key, _)| (*key).to_owned()).collect();
        let expected = match known.as_slice() {
            [one] => format!("expected `{one}`"),
            all => format!("expected one of: {}", all.join(", ")),
        };
        match (given.as_slice(), absent) {
            ([], true) => Vec::new(),
            ([_], false) => of_content(),
            ([key, ..], true) => {
                vec![Fault::new(key, format!("{subject} is absent and has `{key}`"), "expected one of the two")]
            }
            ([], false) => vec![Fault::new(named, format!("{subject} has no content"), expected)],
            ([one, two, ..], false) => {
                vec![Fault::new(two, format!("{subject} has `{one}` and `{two}`"), expected)]
            }
        }
    }
}
