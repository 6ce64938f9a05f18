//! The order of a node's resources: edges that are written, and those that come from needs.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{facts, node, shipped};
use muster_catalog::{Catalog, NodeInput, Site, Spec, compile, load, local};
use muster_ids::Generation;

fn site() -> Site {
    let mut site = load(&shipped(), &"local".parse().unwrap()).unwrap_or_else(|errors| panic!("{errors}"));
    site.provide("local", serde_json::json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----" }));
    site
}

fn control_plane() -> Catalog {
    let site = site();
    compile(&site, &node(&site, "control-plane", facts("container")), Generation::default()).unwrap()
}

fn alone(text: &str) -> Catalog {
    local("a.toml", text.to_owned(), &mut |_| Ok(None), &facts("vm")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What comes before a resource, near and far.
fn before(catalog: &Catalog, id: &str) -> BTreeSet<String> {
    let after: BTreeMap<String, Vec<String>> = catalog
        .resource
        .iter()
        .map(|r| (r.id().to_string(), r.after.iter().map(ToString::to_string).collect()))
        .collect();
    let mut found = BTreeSet::new();
    let mut open = vec![id.to_owned()];
    while let Some(next) = open.pop() {
        for b in &after[&next] {
            if found.insert(b.clone()) {
                open.push(b.clone());
            }
        }
    }
    found
}

fn pruning(catalog: &Catalog) -> Option<&muster_catalog::kinds::manifest::Prune> {
    catalog.resource.iter().find_map(|resource| match &resource.spec {
        Spec::Manifest(set) => set.prune.as_ref(),
        _other => None,
    })
}

/// Control planes delete what is left of a set; a set that is written stays, and what moved to another set moves first.
#[test]
fn what_left_sets_is_pruned_after_all_of_them_are_written() {
    let site = site();
    assert!(site.manifest_sets().contains("app-easypay"), "{:?}", site.manifest_sets());
    let node = |pool| NodeInput {
        left_sets: ["app-shop".to_owned(), "app-easypay".to_owned()].into(),
        ..node(&site, pool, facts("container"))
    };
    let catalog = compile(&site, &node("control-plane"), Generation::default()).unwrap();
    let prune = pruning(&catalog).unwrap();
    assert_eq!(prune.gone, ["app-shop".to_owned()].into());
    assert!(prune.sets.contains("app-easypay") && !prune.sets.contains("app-shop"), "{prune:?}");
    let before = before(&catalog, "manifest.what left");
    for set in &prune.sets {
        assert!(before.contains(&format!("manifest.{set}")), "{set}");
    }
    let worker = compile(&site, &node("workers"), Generation::default()).unwrap();
    assert_eq!(pruning(&worker), None);
}

/// The shipped site with more in the role of its control planes.
fn with_sets(text: &str) -> Result<Catalog, muster_catalog::Diagnostics> {
    let mut files = shipped();
    files.texts.get_mut("roles/control-plane.toml").unwrap().push_str(text);
    let mut site = load(&files, &"local".parse().unwrap())?;
    site.provide("local", serde_json::json!({ "apt_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----" }));
    compile(&site, &node(&site, "control-plane", facts("container")), Generation::default())
}

const SET: &str = "\ncontent = \"{apiVersion: v1, kind: Namespace, metadata: {name: NAME}}\"\n";

#[test]
fn a_set_that_is_absent_goes_after_all_others_but_those_that_come_after_it_by_hand() {
    let set = |name: &str| format!("[[manifest]]\nname = \"{name}\"{}", SET.replace("NAME", name));
    let old = "[[manifest]]\nname = \"old\"\nabsent = true\n";
    let catalog = with_sets(&format!("{}{old}", set("new"))).unwrap();
    assert!(before(&catalog, "manifest.old").contains("manifest.new"));
    let by_hand = format!(
        "{}after = [\"manifest.old\"]\n{}after = [\"manifest.new\"]\n{}{old}",
        set("new"),
        set("newer"),
        set("free")
    );
    let catalog = with_sets(&by_hand).unwrap();
    let of = before(&catalog, "manifest.old");
    assert!(of.contains("manifest.free") && !of.contains("manifest.new") && !of.contains("manifest.newer"), "{of:?}");
    assert!(before(&catalog, "manifest.newer").contains("manifest.old"));
}

/// While a control plane tries a catalog, what it does for the cluster is as the others have it.
#[test]
fn a_tried_catalog_has_the_clusters_part_of_the_others() {
    let with = |more: &str, generation: u64| {
        let set = format!("[[manifest]]\nname = \"{more}\"{}", SET.replace("NAME", more));
        let file = format!("[[file]]\npath = \"/etc/{more}\"\ncontent = \"\"\nafter = [\"manifest.{more}\"]\n");
        let catalog = with_sets(&(set + &file)).unwrap();
        Catalog { generation: Generation { epoch: 1, counter: generation }, ..catalog }
    };
    let (others, next) = (with("old", 7), with("new", 8));
    let tried = next.clone().tried(&others);
    let ids = |catalog: &Catalog| catalog.resource.iter().map(|r| r.id().to_string()).collect::<BTreeSet<_>>();
    assert!(ids(&tried).contains("manifest.old") && !ids(&tried).contains("manifest.new"));
    assert!(ids(&tried).contains("file./etc/new") && !ids(&tried).contains("file./etc/old"));
    assert!(before(&tried, "manifest.old").contains("cluster_member.control-plane-1"));
    assert!(before(&tried, "manifest.what left").contains("manifest.old"));
    assert_eq!(pruning(&tried).unwrap().of, Some(others.generation));
    assert!(tried.resource.iter().any(|r| matches!(&r.spec, Spec::ClusterMember(member) if member.tries)));
    assert_eq!((tried.generation, Catalog::from_toml(&tried.to_toml()).unwrap()), (next.generation, tried.clone()));
    let site = site();
    let worker = compile(&site, &node(&site, "workers", facts("container")), Generation::default()).unwrap();
    assert_eq!(worker.clone().tried(&others), worker);
}

#[test]
fn every_edge_points_backwards() {
    let catalog = control_plane();
    let mut seen = BTreeSet::new();
    for resource in &catalog.resource {
        for after in &resource.after {
            assert!(seen.contains(after), "{} is before {after}", resource.id());
        }
        seen.insert(resource.id());
    }
    for resource in &catalog.resource {
        assert!(resource.notify.iter().all(|n| seen.contains(n)));
    }
}

#[test]
fn the_same_site_gives_the_same_catalog() {
    assert_eq!(control_plane().to_toml(), control_plane().to_toml());
    let mut later = control_plane();
    later.generation = Generation { epoch: 2, counter: 9 };
    later.draft = true;
    assert_eq!(later.content_digest(), control_plane().content_digest());
    assert_ne!(later.to_toml(), control_plane().to_toml());
}

#[test]
fn a_node_joins_when_all_that_it_needs_is_there() {
    let before = before(&control_plane(), "cluster_member.control-plane-1");
    for needed in [
        "service.containerd",
        "service.muster-container",
        "package.kubelet",
        "package.kubeadm",
        "file./etc/containerd/config.toml",
        "file./etc/containerd/certs.d/_default/hosts.toml",
        "file./etc/kubernetes/muster/container-node.yaml",
        "sysctl.net.ipv4.ip_forward",
        "apt_source.kubernetes",
        "pod_network.10.244.0.0/16",
    ] {
        assert!(before.contains(needed), "{needed}");
    }
    assert!(!before.contains("service.kubelet"), "kubelet has no configuration before the node joins");
    assert!(!before.contains("package.docker.io"), "Docker is not needed to join");
}

#[test]
fn applications_come_after_the_cluster_and_only_on_control_planes() {
    assert!(before(&control_plane(), "manifest.app-easypay").contains("cluster_member.control-plane-1"));
    let site = site();
    let worker = compile(&site, &node(&site, "workers", facts("container")), Generation::default()).unwrap();
    assert!(!worker.to_toml().contains("manifest"));
    assert!(
        worker.to_toml().contains("\"muster.dev/disk-easypay\" = \"true\""),
        "the worker that holds the disk says so"
    );
}

#[test]
fn applications_stay_off_control_planes() {
    let taint = "taints = [\"node-role.kubernetes.io/control-plane:NoSchedule\"]";
    assert!(control_plane().to_toml().contains(taint));
    let site = site();
    let worker = compile(&site, &node(&site, "workers", facts("container")), Generation::default()).unwrap();
    assert!(!worker.to_toml().contains("NoSchedule"));
}

#[test]
fn containers_are_made_after_what_gives_them_a_machine() {
    for package in ["package.containerd", "package.docker.io"] {
        let before = before(&control_plane(), package);
        assert!(before.contains("service.muster-container"), "{package}");
    }
    assert!(before(&control_plane(), "package.docker.io").contains("sysctl.net.ipv4.ip_forward"));
}

#[test]
fn owners_and_folders_come_first() {
    let catalog = alone(
        r#"
[[file]]
path = "/srv/shop/data/page"
content = ""
owner = "shop"
group = "shops"

[[mount]]
path = "/srv/shop"
source = "tmpfs"
fstype = "tmpfs"

[[directory]]
path = "/srv/shop/data"

[[directory]]
path = "/srv/shop"

[[user]]
name = "shop"
groups = ["shops"]

[[group]]
name = "shops"
"#,
    );
    let before = before(&catalog, "file./srv/shop/data/page");
    for needed in ["mount./srv/shop", "directory./srv/shop", "directory./srv/shop/data", "user.shop", "group.shops"] {
        assert!(before.contains(needed), "{needed}");
    }
    let order: Vec<String> = catalog.resource.iter().map(|r| r.id().to_string()).collect();
    let position = |id: &str| order.iter().position(|o| o == id).unwrap();
    assert!(position("mount./srv/shop") < position("directory./srv/shop"), "its mode is that of what is mounted");
    assert!(position("mount./srv/shop") < position("directory./srv/shop/data"));
}

#[test]
fn what_is_removed_goes_the_other_way() {
    let catalog = alone(
        r#"
[[directory]]
path = "/srv/old"
absent = true

[[file]]
path = "/srv/old/page"
absent = true

[[group]]
name = "old"
absent = true

[[user]]
name = "old"
group = "old"
absent = true
"#,
    );
    assert!(before(&catalog, "directory./srv/old").contains("file./srv/old/page"));
    assert!(before(&catalog, "group.old").contains("user.old"));
    // In whichever order they are written.
    let catalog = alone(
        r#"
[[mount]]
path = "/srv/old"
source = "tmpfs"
fstype = "tmpfs"
absent = true

[[file]]
path = "/srv/older/page"
absent = true

[[directory]]
path = "/srv/old"
absent = true

[[directory]]
path = "/srv/older"
absent = true
"#,
    );
    assert!(before(&catalog, "directory./srv/old").contains("mount./srv/old"));
    assert!(!before(&catalog, "mount./srv/old").contains("directory./srv/old"));
    assert!(before(&catalog, "directory./srv/older").contains("file./srv/older/page"));
}

#[test]
fn a_service_needs_what_brings_its_unit() {
    let catalog = alone(
        r#"
[[service]]
name = "one.service"

[[service]]
name = "two"

[[service]]
name = "three"

[[service]]
name = "four"
after = ["package.bundle"]

[[package]]
name = "one"

[[package]]
name = "bundle"

[[file]]
path = "/etc/systemd/system/two.service"
content = "[Service]\nExecStart=/bin/true\n"

[[file]]
path = "/etc/systemd/system/one.service.d/10-more.conf"
content = "[Service]\nNice=5\n"

[[apt_source]]
name = "x"
url = "https://packages.example/"
suites = ["/"]
key = "https://packages.example/key.asc"
"#,
    );
    let list = |id: &str| before(&catalog, id).into_iter().collect::<Vec<_>>();
    assert_eq!(
        list("service.one.service"),
        ["apt_source.x", "file./etc/systemd/system/one.service.d/10-more.conf", "package.one"]
    );
    assert_eq!(list("service.two"), ["file./etc/systemd/system/two.service"]);
    assert_eq!(list("service.three"), ["apt_source.x", "package.bundle", "package.one"]);
    assert_eq!(list("service.four"), ["apt_source.x", "package.bundle"]);
}

#[test]
fn images_and_containers_need_their_runtime() {
    let catalog = alone(
        r#"
[[container]]
name = "cache"
image = "redis:7"
volumes = ["/srv/cache:/data", "named:/more"]

[[image]]
name = "redis:7"

[[image]]
name = "pause:3"
runtime = "kubernetes"

[[service]]
name = "docker"

[[service]]
name = "containerd"

[[directory]]
path = "/srv/cache"
"#,
    );
    let before = |id: &str| before(&catalog, id).into_iter().collect::<Vec<_>>();
    assert_eq!(before("container.cache"), ["directory./srv/cache", "image.redis:7", "service.docker"]);
    assert_eq!(before("image.pause:3"), ["service.containerd"]);
}

#[test]
fn an_edge_to_what_this_node_lacks_is_left_out() {
    let site = site();
    let catalog = compile(&site, &node(&site, "workers", facts("vm")), Generation::default()).unwrap();
    assert!(!catalog.to_toml().contains("muster-container"));
    assert!(catalog.to_toml().contains("package.containerd"));
}

#[test]
fn a_value_that_is_no_text_may_come_from_an_expression() {
    let catalog = alone(
        "[[command]]\nname = \"x\"\nrun = \"{{ ['echo', facts.arch] }}\"\ntimeout = \"{{ facts.cpus * 30 }}\"\non_notify = \"{{ facts.cpus > 1 }}\"\n",
    );
    let muster_catalog::Spec::Command(command) = &catalog.resource[0].spec else { panic!("a command") };
    assert_eq!(
        (command.run.as_slice(), command.timeout, command.on_notify),
        (&["echo".to_owned(), "amd64".to_owned()][..], 60, true)
    );
}

/// A unit's name leads to its files, by whatever name it is written.
#[test]
fn a_unit_comes_after_what_makes_it() {
    let catalog = alone(
        r#"
[[service]]
name = "tun@site.example"
[[service]]
name = "tick.timer"
[[service]]
name = "app8.2-fpm"
[[service]]
name = "legacyd"
[[timer]]
name = "nightly"
every = "1h"
service = "tick"

[[file]]
path = "/etc/systemd/system/tun@.service"
content = ""
[[file]]
path = "/etc/systemd/system/tun@site.example.service.d/more.conf"
content = ""
[[file]]
path = "/etc/systemd/system/tick.timer"
content = ""
[[file]]
path = "/etc/systemd/system/tick.service"
content = ""
[[file]]
path = "/etc/init.d/legacyd"
content = ""
[[package]]
name = "app8.2-fpm"
[[package]]
name = "other"
"#,
    );
    let comes_after = |id: &str, expected: &[&str]| {
        let expected: BTreeSet<String> = expected.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(before(&catalog, id), expected, "{id}");
    };
    let folder = "file./etc/systemd/system";
    comes_after(
        "service.tun@site.example",
        &[&format!("{folder}/tun@.service"), &format!("{folder}/tun@site.example.service.d/more.conf")],
    );
    comes_after("service.tick.timer", &[&format!("{folder}/tick.timer"), &format!("{folder}/tick.service")]);
    comes_after("timer.nightly", &[&format!("{folder}/tick.service")]);
    comes_after("service.app8.2-fpm", &["package.app8.2-fpm"]);
    comes_after("service.legacyd", &["file./etc/init.d/legacyd"]);
}

/// What neither runs nor starts at boot ends before its file goes, and to write that by hand is no circle.
#[test]
fn a_unit_that_is_off_goes_before_its_file() {
    for written in ["", "after = [\"service.old\"]"] {
        let catalog = alone(&format!(
            "[[file]]\npath = \"/etc/systemd/system/old.service\"\nabsent = true\n{written}\n
             [[service]]\nname = \"old\"\nrunning = false\nenabled = false\n"
        ));
        assert!(before(&catalog, "file./etc/systemd/system/old.service").contains("service.old"));
    }
}
