//! What is made from the types and checked in: the schemas for editors and the reference. `MUSTER_BLESS=1` writes
//! them anew.

mod common;

use std::path::Path;

use common::holds;
use muster_catalog::{load, reference, schema};

#[test]
fn the_schemas_are_checked_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    for (name, text) in schema::files() {
        holds(&folder.join(name), &text);
    }
}

#[test]
fn the_reference_is_checked_in() {
    holds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/language.md"), &reference::reference());
}

#[test]
fn every_kind_has_an_example_and_it_is_right() {
    let kinds: Vec<&str> = reference::EXAMPLES.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, muster_catalog::Spec::KINDS);
    let mut site = common::shipped();
    // The shipped roles have one of each of these already.
    let there = ["apt_source", "cluster_member", "kernel_module", "pod_network"];
    // And their nodes are members of a cluster, which keep their names.
    let there = [&there[..], &["hostname"]].concat();
    for (kind, example) in reference::EXAMPLES.iter().filter(|(kind, _)| !there.contains(kind)) {
        let role = if *kind == "manifest" { "control-plane" } else { "worker" };
        site.texts.entry(format!("roles/{role}.toml")).or_default().push_str(&format!("\n{example}\n"));
    }
    site.texts.insert("roles/files/internal-ca.crt".to_owned(), include_str!("ca.crt").to_owned());
    site.texts.insert("roles/files/orders.conf.j2".to_owned(), "pool = {{ node.pool }}\n".to_owned());
    site.texts.insert(
        "roles/files/quota.yaml".to_owned(),
        "{ apiVersion: v1, kind: ResourceQuota, metadata: { name: quota, namespace: shop } }\n".to_owned(),
    );
    load(&site, &"local".parse().unwrap()).unwrap_or_else(|errors| panic!("{errors}"));
}
