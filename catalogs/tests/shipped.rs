//! The site that is shipped: every environment of it is valid, and only containers get what only containers need.

mod common;

use std::path::Path;

use common::{facts, holds, node, shipped};
use muster_catalog::{Spec, compile, load, site::Provider};
use muster_ids::Generation;

#[test]
fn every_environment_is_valid() {
    for environment in ["local", "dev", "qa", "prod"] {
        let site = load(&shipped(), &environment.parse().unwrap()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(site.cluster.as_str(), "easypay");
        assert_eq!(site.provider.not_offered().is_some(), environment != "local");
        assert_eq!(site.warnings.is_empty(), matches!(site.provider, Provider::Docker { .. }));
    }
}

#[test]
fn the_local_cluster_has_three_control_planes_and_two_workers() {
    let site = load(&shipped(), &"local".parse().unwrap()).unwrap();
    let counts: Vec<(&str, u32)> = site.pools.iter().map(|(name, pool)| (name.as_str(), pool.min)).collect();
    assert_eq!(counts, [("control-plane", 3), ("workers", 2)]);
}

#[test]
fn a_local_control_plane_gets_what_the_recipe_says() {
    let mut site = load(&shipped(), &"local".parse().unwrap()).unwrap();
    site.provide("local", serde_json::json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----\nlocal\n" }));
    let catalog = compile(&site, &node(&site, "control-plane", facts("container")), Generation::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    holds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/local-control-plane.toml"), &catalog.to_toml());
    assert_eq!(muster_catalog::Catalog::from_toml(&catalog.to_toml()).unwrap(), catalog);
}

#[test]
fn the_coordinator_provides_the_local_key() {
    let site = load(&shipped(), &"local".parse().unwrap()).unwrap();
    let errors = compile(&site, &node(&site, "workers", facts("container")), Generation::default()).unwrap_err();
    assert!(errors.to_string().contains("`local.apt_key` is not defined"), "{errors}");
}

#[test]
fn only_containers_get_what_only_containers_need() {
    let only_containers = [
        "KubeletInUserNamespace",
        "failSwapOn",
        "restrict_oom_score_adj",
        "maxPerCore",
        "muster-container",
        "kmsg",
        "resolvConf",
        "SystemVerification",
        "10.89.",
        "http://",
    ];
    let local = {
        let mut site = load(&shipped(), &"local".parse().unwrap()).unwrap();
        site.provide("local", serde_json::json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----" }));
        compile(&site, &node(&site, "workers", facts("container")), Generation::default()).unwrap().to_toml()
    };
    for word in only_containers {
        assert!(local.contains(word), "the list is stale: {word} is in no container's catalog");
    }
    for environment in ["dev", "qa", "prod"] {
        let site = load(&shipped(), &environment.parse().unwrap()).unwrap();
        for pool in site.pools.keys() {
            let catalog = compile(&site, &node(&site, pool.as_str(), facts("vm")), Generation::default())
                .unwrap_or_else(|errors| panic!("{errors}"));
            let text = catalog.to_toml();
            for word in only_containers {
                assert!(!text.contains(word), "{environment}, {pool}: {word}");
            }
            assert!(text.contains("https://pkgs.k8s.io/"), "{environment}, {pool}");
            let roles = catalog.resource.iter().filter(|r| matches!(r.spec, Spec::ClusterMember(_))).count();
            assert_eq!(roles, 1);
        }
    }
}
