//! An environment laid over the site: tables are merged, anything else is replaced.
//!
//! Every value keeps the place where it was written, so an error in a merged table points to the right file.

use crate::tree::{Node, Value};

/// `over` laid over `base`.
pub fn merge(base: &Node, over: &Node) -> Node {
    match (&base.value, &over.value) {
        (Value::Table(below), Value::Table(above)) => {
            let mut table = below.clone();
            for (key, entry) in above {
                match table.get_mut(key) {
                    Some(old) => old.node = merge(&old.node, &entry.node),
                    None => {
                        table.insert(key.clone(), entry.clone());
                    }
                }
            }
            Node { at: base.at, value: Value::Table(table) }
        }
        (
            Value::Table(_)
            | Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date(_)
            | Value::Array(_),
            _,
        ) => over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::{At, Entry};

    fn tree() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<bool>().prop_map(Value::Boolean),
            "[a-z]{0,4}".prop_map(Value::String),
            prop::collection::vec(any::<i64>().prop_map(|n| node(Value::Integer(n))), 0..3).prop_map(Value::Array),
        ];
        let value =
            leaf.prop_recursive(4, 32, 4, |inner| prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(table));
        // A file is always a table.
        prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|values| node(table(values)))
    }

    fn node(value: Value) -> Node {
        Node { at: At::start(), value }
    }

    fn table(values: BTreeMap<String, Value>) -> Value {
        let entry = |value| Entry { key: At::start(), node: node(value) };
        Value::Table(values.into_iter().map(|(key, value)| (key, entry(value))).collect())
    }

    /// The same tree with every top-level key begun by `prefix`.
    fn under(prefix: &str, tree: &Node) -> Node {
        let values = tree.table().into_iter().flatten();
        node(table(values.map(|(key, e)| (format!("{prefix}{key}"), e.node.value.clone())).collect()))
    }

    proptest! {
        #[test]
        fn laying_over_twice_is_laying_over_once(base in tree(), over in tree()) {
            let once = merge(&base, &over);
            prop_assert_eq!(merge(&once, &over), once);
            prop_assert_eq!(merge(&base, &base), base);
        }

        #[test]
        fn disjoint_keys_may_be_laid_in_any_order(a in tree(), b in tree(), c in tree()) {
            let (a, b, c) = (under("a", &a), under("b", &b), under("c", &c));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        }

        #[test]
        fn the_environment_wins_and_nothing_is_lost(base in tree(), over in tree()) {
            let merged = merge(&base, &over);
            for (key, entry) in over.table().into_iter().flatten() {
                if entry.node.table().is_none() {
                    prop_assert_eq!(&merged.table().unwrap()[key].node, &entry.node);
                }
            }
            for (key, entry) in base.table().into_iter().flatten() {
                if !over.table().unwrap().contains_key(key) {
                    prop_assert_eq!(&merged.table().unwrap()[key].node, &entry.node);
                }
            }
        }
    }
}
