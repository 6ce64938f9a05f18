//! Applications on pools.

use muster_catalog::{Spec, compile};
use muster_ids::Generation;

use crate::{
    common::{facts, node},
    site,
};

#[test]
fn a_component_goes_to_its_pool_whatever_the_pools_taints() {
    let pool =
        "\n[pool.batch]\nrole = \"worker\"\ncount = 1\ntaints = [\"dedicated=batch:NoSchedule\", \"slow:NoExecute\"]\n";
    let reports = "\n[app.shop.reports]\nimage = \"reports:1\"\npool = \"batch\"\n";
    let site = site(&[("muster.toml", pool), ("apps/shop.toml", reports)]);
    let catalog = compile(&site, &node(&site, "control-plane", facts("vm")), Generation::default()).unwrap();
    let sets = catalog.resource.iter().filter_map(|resource| match &resource.spec {
        Spec::Manifest(set) if set.name == "app-shop" => set.content.clone(),
        _other => None,
    });
    let text = sets.collect::<String>();
    let of = |name: &str| -> serde_json::Value {
        let objects = serde_yaml_ng::Deserializer::from_str(&text);
        let mut objects = objects.map(|object| serde::Deserialize::deserialize(object).unwrap());
        objects.find(|one: &serde_json::Value| one["kind"] == "Deployment" && one["metadata"]["name"] == name).unwrap()
    };
    let pod = of("reports")["spec"]["template"]["spec"].clone();
    assert_eq!(pod["nodeSelector"], serde_json::json!({ "muster.dev/pool": "batch" }));
    let tolerated = pod["tolerations"].as_array().unwrap();
    for taint in [
        serde_json::json!({ "key": "dedicated", "operator": "Equal", "value": "batch", "effect": "NoSchedule" }),
        serde_json::json!({ "key": "slow", "operator": "Exists", "effect": "NoExecute" }),
    ] {
        assert!(tolerated.contains(&taint), "{tolerated:?}");
    }
    // The others stay where they were.
    assert_eq!(of("web")["spec"]["template"]["spec"]["nodeSelector"], serde_json::Value::Null);
}
