//! What is remembered of a catalog is that catalog: of every kind, by the examples of the reference and the shipped site.

mod common;

use std::{collections::BTreeSet, path::Path};

use common::{facts, node, shipped};
use muster_catalog::{Catalog, Facts, Spec, compile, load, local, packed};
use muster_ids::Generation;

fn comes_back(catalog: &Catalog) {
    let resources = packed::pack(catalog.resource.clone()).unwrap();
    let mut contents = resources.contents.clone().into_iter();
    let mut next = |length: u64| {
        let bytes = contents.next().expect("no more than there are");
        assert_eq!(bytes.len() as u64, length);
        Ok(bytes)
    };
    assert_eq!(packed::unpack(&resources.text, &mut next).unwrap(), catalog.resource);
    assert_eq!(contents.next(), None);
}

/// The examples of a kind in the reference.
fn examples(reference: &str) -> Vec<String> {
    let blocks = reference.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("\n```")?.0));
    // Whom they tell stands elsewhere in their site.
    let alone = |line: &&str| !line.starts_with("notify = ") && !line.starts_with("after = ");
    let whole = |block: &str| block.lines().filter(alone).map(|line| format!("{line}\n")).collect();
    blocks.filter(|block| block.starts_with("[[")).map(whole).collect()
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let mut seen = BTreeSet::new();
    let mut add = |catalog: &Catalog| {
        comes_back(catalog);
        seen.extend(catalog.resource.iter().map(|resource| resource.spec.kind()));
    };
    let mut site = load(&shipped(), &"local".parse().unwrap()).unwrap();
    site.provide("local", serde_json::json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----\nlocal\n" }));
    for pool in ["control-plane", "workers"] {
        add(&compile(&site, &node(&site, pool, facts("container")), Generation::default()).unwrap());
    }
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/language.md");
    let certificate = include_bytes!("ca.crt").to_vec();
    let mut read = |path: &str| Ok(Some(if path.ends_with(".crt") { certificate.clone() } else { vec![0xff, 0] }));
    let facts = Facts { virtualization: "vm".to_owned(), ..Facts::default() };
    for example in examples(&std::fs::read_to_string(reference).unwrap()) {
        // What needs a cluster is no catalog by itself.
        if let Ok(catalog) = local("example.toml", example, &mut read, &facts) {
            add(&catalog);
        }
    }
    let missing: Vec<_> = Spec::KINDS.iter().filter(|kind| !seen.contains(*kind)).collect();
    assert!(missing.is_empty(), "no example of these is a catalog: {missing:?}");
}
