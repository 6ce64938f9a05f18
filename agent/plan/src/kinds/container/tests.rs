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
    let digest = Some(digest(spec));
    Current { running: true, kept_up: true, down: 0, digest, image: spec.image.clone(), volumes: vec![] }
}

fn seen(current: Option<Current>, aside: Option<Current>) -> Observed {
    Observed { current, aside, ..Observed::default() }
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

#[test]
fn what_did_not_stay_up_is_tried_again_after_a_while_unless_nothing_else_runs() {
    let newer = ContainerSpec { image: "web:2".into(), ..spec() };
    let failed = |down| Some(Current { running: false, down, ..ours(&newer) });
    let seen = |running, down| {
        let current = Some(Current { running, ..ours(&spec()) });
        Observed { current, failed: failed(down), ..Observed::default() }
    };
    let Some(Change::Refuse { why, help }) = diff(&newer, &seen(true, 125)) else { panic!("it waits") };
    assert!(why.contains("2 minutes ago") && help.contains("docker rm web.muster-failed"), "{why} {help}");
    replaces(diff(&newer, &seen(true, 3600)));
    replaces(diff(&newer, &seen(false, 5)));
    let newest = ContainerSpec { image: "web:3".into(), ..spec() };
    replaces(diff(&newest, &seen(true, 5)));
    // Nobody asks for it any more.
    assert_eq!(diff(&spec(), &seen(true, 5)), Some(Change::Clear));
    let gone = ContainerSpec { absent: true, ..spec() };
    assert_eq!(diff(&gone, &Observed { failed: failed(5), ..Observed::default() }), Some(Change::Clear));
}

#[test]
fn what_docker_is_told_not_to_start_again_is_not_right() {
    let once = Current { kept_up: false, ..ours(&spec()) };
    assert_eq!(diff(&spec(), &seen(Some(once), None)), Some(Change::KeepUp));
}

#[test]
fn one_in_the_network_of_another_follows_it() {
    let lives = ContainerSpec { network: Some("container:web".into()), ..spec() };
    let seen = |host| Observed { host, ..seen(Some(ours(&lives)), None) };
    assert_eq!(diff(&lives, &seen(Host::Same)), None);
    assert_eq!(diff(&lives, &seen(Host::StartedLater)), Some(Change::Rejoin));
    let detail = replaces(diff(&lives, &seen(Host::Another))).detail;
    assert_eq!(detail, ["replace: the container whose network it shares is another one"]);
}
