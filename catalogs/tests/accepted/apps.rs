//! Applications on pools, endpoints without addresses, names of files that were meant.

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

/// Where there is none written a free one is chosen, which needs a blueprint.
#[test]
fn an_endpoint_needs_no_address() {
    let text = "\n[endpoint.shop]\nto = \"workers\"\nlisten = 80\nport = 30081\n";
    let site = site(&[("muster.toml", text)]);
    let address = |name: &str| site.endpoints[&name.parse().unwrap()].address;
    assert_eq!((address("shop"), address("api")), (None, None));
    assert_eq!(address("web"), Some("10.89.0.11".parse().unwrap()));
}

/// What nothing reads and was meant to be read is said; what is another format, or old, is somebody's own.
#[test]
fn a_name_that_nearly_ends_in_toml_is_warned_of() {
    let meant =
        ["apps/shop.tml", "roles/extra.TOML", "environments/eu.tolm", "apps/inner/cart.tom", "roles/more.toml1"];
    let others =
        ["apps/shop.toml.bak", "apps/README.md", "roles/x.yml", "roles/files/a.tml", "apps/motd.tmpl", "apps/tml"];
    let named = ("roles/worker.toml", "\n[[file]]\npath = \"/etc/named\"\nsource = \"named.tml\"\n");
    let mut all: Vec<(&str, &str)> = meant.iter().chain(&others).map(|path| (*path, "a = 1\n")).collect();
    all.extend([named, ("roles/named.tml", "x")]);
    let said: Vec<String> = site(&all).warnings.iter().map(ToString::to_string).collect();
    let of = |path: &str| said.iter().find(|warning| warning.starts_with(path));
    for path in meant {
        let warning = of(path).unwrap_or_else(|| panic!("{path}: {said:?}"));
        let right = path.rsplit_once('.').unwrap().0;
        assert!(
            warning.contains(&format!("{path}:1:1")) && warning.contains(&format!("call it {right}.toml")),
            "{warning}"
        );
    }
    assert_eq!(said.len(), meant.len(), "{said:?}");
}
