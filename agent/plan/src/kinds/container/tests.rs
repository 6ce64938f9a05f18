//! What differs, what goes along, and what is refused.

use super::*;

fn spec() -> ContainerSpec {
    ContainerSpec {
        name: "web".into(),
        image: "web:1".into(),
        command: vec![],
        environment: Default::default(),
        ports: vec![],
        volumes: vec![],
        network: None,
        adopt: false,
        absent: false,
    }
}

fn ours(spec: &ContainerSpec) -> Current {
    Current { running: true, digest: Some(digest(spec)), image: spec.image.clone(), volumes: vec![] }
}

fn seen(current: Option<Current>, aside: Option<Current>) -> Observed {
    Observed { current, aside, users: vec![] }
}

fn replaces(change: Option<Change>) -> Replace {
    match change {
        Some(Change::Replace(replace)) => replace,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_specification_replaces() {
    let as_written = seen(Some(ours(&spec())), None);
    assert_eq!(diff(&spec(), &as_written), None);
    assert_eq!(diff(&ContainerSpec { adopt: true, ..spec() }, &as_written), None, "adopt makes no other container");
    let newer = ContainerSpec { image: "web:2".into(), ..spec() };
    let change = diff(&newer, &as_written);
    assert_eq!(change.as_ref().map(Describe::disrupts), Some(Disrupts::Service));
    let detail = ["replace: its specification changed", "image web:1 → web:2"];
    assert_eq!(replaces(change).detail, detail);
    let stopped = Current { running: false, ..ours(&spec()) };
    assert_eq!(diff(&spec(), &seen(Some(stopped), None)), Some(Change::Start));
}

#[test]
fn volumes_without_a_name_go_along_unless_the_place_is_written() {
    let volume =
        |name: &str, anonymous, at: &str| Volume { name: name.into(), anonymous, at: at.into(), read_only: false };
    let volumes = vec![volume("aa", true, "/data"), volume("bb", true, "/logs"), volume("cache", false, "/cache")];
    let old = Current { volumes, ..ours(&spec()) };
    let newer = ContainerSpec { volumes: vec!["/srv/logs:/logs:ro".into()], ..spec() };
    let replace = replaces(diff(&newer, &seen(Some(old.clone()), None)));
    assert_eq!(replace.volumes, [volume("aa", true, "/data")]);
    assert_eq!(
        replace.detail[1..],
        [
            "the volume at /data goes along",
            "the volume bb of /logs stays, and is not mounted any more",
            "the volume cache of /cache stays, and is not mounted any more"
        ]
    );
    let gone = diff(&ContainerSpec { absent: true, ..spec() }, &seen(Some(old), None)).unwrap();
    assert_eq!(gone.detail()[1], "the volume aa of /data stays");
}

#[test]
fn what_muster_did_not_make_is_adopted_only_where_it_is_written_and_nobody_uses_it() {
    let strangers = seen(Some(Current { digest: None, ..ours(&spec()) }), None);
    for absent in [false, true] {
        let refused = diff(&ContainerSpec { absent, ..spec() }, &strangers);
        assert!(matches!(refused, Some(Change::Refuse { help, .. }) if help.contains("adopt = true")));
        let adopt = ContainerSpec { absent, adopt: true, ..spec() };
        assert!(matches!(diff(&adopt, &strangers), Some(Change::Replace(_) | Change::Remove { .. })));
        let used = Observed { users: vec!["Docker Compose (project shop)".into()], ..strangers.clone() };
        assert!(matches!(diff(&adopt, &used), Some(Change::Refuse { why, .. }) if why.contains("project shop")));
    }
    assert_eq!(on_notify(&spec(), &strangers), None, "and it is not restarted either");
}

#[test]
fn a_replacement_that_was_cut_off_is_brought_to_its_end() {
    let newer = ContainerSpec { image: "web:2".into(), ..spec() };
    let old = Current { running: false, ..ours(&spec()) };
    // The old one is set aside; there is no new one.
    assert!(replaces(diff(&newer, &seen(None, Some(old.clone())))).aside);
    // The new one does not run.
    let made = Current { running: false, ..ours(&newer) };
    assert!(replaces(diff(&newer, &seen(Some(made), Some(old.clone())))).aside);
    // The new one runs.
    assert_eq!(diff(&newer, &seen(Some(ours(&newer)), Some(old.clone()))), Some(Change::Clear));
    // And was overtaken by the site.
    let newest = ContainerSpec { image: "web:3".into(), ..spec() };
    assert!(!replaces(diff(&newest, &seen(Some(ours(&newer)), Some(old.clone())))).aside);
    let gone = ContainerSpec { absent: true, ..spec() };
    assert!(matches!(diff(&gone, &seen(None, Some(old))), Some(Change::Remove { .. })));
    assert_eq!(diff(&gone, &seen(None, None)), None);
}
