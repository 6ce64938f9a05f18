//! No text makes the language panic: sites are torn at random, and either load or get diagnostics with places.

mod common;

use common::{facts, node, shipped};
use muster_catalog::{compile, load};
use muster_ids::Generation;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Tear {
    /// Puts a text somewhere.
    Insert(usize, usize, String),
    /// Takes characters away.
    Cut(usize, usize, usize),
    /// Doubles a line.
    Double(usize, usize),
    /// Takes a file away.
    Remove(usize),
}

fn tear() -> impl Strategy<Value = Tear> {
    let snippet = prop_oneof![
        Just("[".to_owned()),
        Just("\"".to_owned()),
        Just("'''".to_owned()),
        Just(" = ".to_owned()),
        Just("{{ ".to_owned()),
        Just("{% if %}".to_owned()),
        Just("\n[[file]]\n".to_owned()),
        Just("\nwhen = \"\"\n".to_owned()),
        Just("../".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("-1".to_owned()),
        Just("ä\u{301}\u{1F980}".to_owned()),
        "\\PC{0,6}",
    ];
    prop_oneof![
        4 => (any::<usize>(), any::<usize>(), snippet).prop_map(|(f, at, s)| Tear::Insert(f, at, s)),
        3 => (any::<usize>(), any::<usize>(), 1_usize..40).prop_map(|(f, at, n)| Tear::Cut(f, at, n)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(f, line)| Tear::Double(f, line)),
        1 => any::<usize>().prop_map(Tear::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_torn_site_loads_or_says_why(tears in prop::collection::vec(tear(), 1..5)) {
        let mut site = shipped();
        for tear in tears {
            let paths: Vec<String> = site.texts.keys().cloned().collect();
            let path = |index: usize| paths[index % paths.len()].clone();
            match tear {
                Tear::Insert(file, at, text) => edit(&mut site.texts, path(file), |c| {
                    let at = at % (c.len() + 1);
                    c.splice(at..at, text.chars());
                }),
                Tear::Cut(file, at, n) => edit(&mut site.texts, path(file), |c| {
                    let at = at % (c.len() + 1);
                    c.drain(at..(at + n).min(c.len()));
                }),
                Tear::Double(file, line) => {
                    let text = &site.texts[&path(file)];
                    let lines: Vec<&str> = text.lines().collect();
                    let line = if lines.is_empty() { "" } else { lines[line % lines.len()] }.to_owned();
                    let text = format!("{text}{line}\n");
                    site.texts.insert(path(file), text);
                }
                Tear::Remove(file) => {
                    site.texts.remove(&path(file));
                }
            }
        }
        match load(&site, &"local".parse().unwrap()) {
            Ok(mut site) => {
                site.provide("local", serde_json::json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----" }));
                for pool in site.pools.keys() {
                    // What loads for made-up nodes compiles for real ones.
                    let catalog = compile(&site, &node(&site, pool.as_str(), facts("container")), Generation::default());
                    prop_assert!(catalog.is_ok(), "{}", catalog.unwrap_err());
                }
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                prop_assert!(errors.to_string().ends_with("Nothing was changed."));
                for place in errors.0.iter().flat_map(|e| &e.places) {
                    prop_assert!(site.texts.contains_key(&place.file), "{place:?}");
                    prop_assert!(place.line > 0 && place.column > 0 && place.width > 0, "{place:?}");
                }
            }
        }
    }
}

fn edit(site: &mut std::collections::BTreeMap<String, String>, path: String, change: impl FnOnce(&mut Vec<char>)) {
    let mut characters: Vec<char> = site[&path].chars().collect();
    change(&mut characters);
    site.insert(path, characters.into_iter().collect());
}
