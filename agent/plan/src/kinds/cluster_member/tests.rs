//! What follows from what was seen of a node: its way in, its marks, its way out.

use super::*;

fn spec(role: MemberRole, start: Start) -> ClusterMemberSpec {
    ClusterMemberSpec {
        name: "n-1".into(),
        role,
        start,
        address: "10.0.0.1".into(),
        api_endpoint: "10.0.0.9:6443".into(),
        kubernetes: "1.34.4".into(),
        pods: "10.244.0.0/16".into(),
        services: "10.96.0.0/12".into(),
        image_repository: "registry.k8s.io".into(),
        labels: [("pool".to_owned(), "a".to_owned()), ("node-role.kubernetes.io/x".to_owned(), String::new())].into(),
        taints: vec![],
        api_names: vec![],
        settings: None,
        ignore_preflight: vec![],
        control_planes: 3,
        gone: vec![],
        refused: vec![],
        workers: vec![],
        tries: false,
    }
}

fn note(role: MemberRole, start: Start, stage: Stage, resumed: u32) -> Membership {
    Membership {
        version: 1,
        name: "n-1".into(),
        role,
        start,
        stage,
        resumed,
        labels: ["old".to_owned()].into(),
        kubelet: None,
    }
}

fn all_files() -> Files {
    Files {
        kubelet_conf: true,
        bootstrap_conf: false,
        manifests: STATIC_PODS.iter().map(|p| (*p).to_owned()).collect(),
        etcd_data: true,
        etcd_log: true,
    }
}

fn way(change: Option<Change>) -> (Start, Way) {
    match change {
        Some(Change::Become { start, way, .. }) => (start, way),
        other => panic!("{other:?}"),
    }
}

use MemberRole::{ControlPlane, Worker};

#[test]
fn a_blank_node_begins_and_remains_are_cleared() {
    let blank = Observed::default();
    assert_eq!(way(diff(&spec(ControlPlane, Start::Init), &blank)), (Start::Init, Way::Fresh));
    let remains = Observed { files: Files { bootstrap_conf: true, ..Files::default() }, ..blank };
    assert_eq!(way(diff(&spec(Worker, Start::Join), &remains)), (Start::Join, Way::StartOver));
}

#[test]
fn a_cut_way_goes_on_then_starts_over() {
    for (resumed, expected) in [
        (0, Way::Continue { from: Stage::Prepared }),
        (1, Way::Continue { from: Stage::Prepared }),
        (2, Way::StartOver),
    ] {
        let observed = Observed {
            membership: Some(note(ControlPlane, Start::Join, Stage::Prepared, resumed)),
            ..Observed::default()
        };
        assert_eq!(way(diff(&spec(ControlPlane, Start::Join), &observed)).1, expected);
    }
}

#[test]
fn who_has_data_of_etcd_may_vote_whatever_was_noted() {
    let data = |etcd_data| Files { etcd_data, ..Files::default() };
    let noted = |stage| note(ControlPlane, Start::Join, stage, 2);
    for noted in [None, Some(noted(Stage::Begun)), Some(noted(Stage::Prepared))] {
        assert!(may_vote(Start::Join, noted.as_ref(), &data(true)), "{noted:?}");
        assert!(!may_vote(Start::Join, noted.as_ref(), &data(false)), "{noted:?}");
    }
    // Its data is gone, and others still count on it.
    assert!(may_vote(Start::Join, Some(&noted(Stage::Answering)), &data(false)));
    // Not published: nobody else is there.
    assert!(!may_vote(Start::Init, Some(&note(ControlPlane, Start::Init, Stage::Answering, 2)), &data(true)));
}

#[test]
fn a_cluster_that_others_may_have_joined_is_never_thrown_away() {
    let observed = Observed {
        membership: Some(note(ControlPlane, Start::Init, Stage::Published, 9)),
        files: all_files(),
        ..Observed::default()
    };
    // Also when the coordinator says join by now.
    assert_eq!(
        way(diff(&spec(ControlPlane, Start::Join), &observed)),
        (Start::Init, Way::Continue { from: Stage::Published })
    );
}

fn control_plane_node() -> Known {
    Known::Node(NodeSeen { labels: [(CONTROL_PLANE_LABEL.to_owned(), String::new())].into(), ..NodeSeen::default() })
}

#[test]
fn a_lost_note_is_written_again_only_where_the_api_knows_the_node() {
    let spec = spec(ControlPlane, Start::Join);
    let mut observed = Observed { files: all_files(), node: Known::Absent, ..Observed::default() };
    assert_eq!(way(diff(&spec, &observed)).1, Way::StartOver);
    observed.node = control_plane_node();
    assert_eq!(diff(&spec, &observed), Some(Change::Adopt));
    // What is missing beside the note is no reason to throw the rest away.
    observed.files.kubelet_conf = false;
    observed.files.manifests.remove("kube-scheduler");
    let restore = Change::Restore { manifests: ["kube-scheduler".to_owned()].into() };
    let all = Change::Several(vec![Change::Adopt, Change::Credentials, restore]);
    assert_eq!(diff(&spec, &observed), Some(all));
}

#[test]
fn a_lost_note_of_a_living_control_plane_waits_for_the_api() {
    let spec = spec(ControlPlane, Start::Join);
    let seen = |node| Observed { files: all_files(), node, ..Observed::default() };
    assert!(matches!(obstacle(&spec, &seen(Known::Silent)), Some(Obstacle::Waits(_))));
    assert!(matches!(obstacle(&spec, &seen(Known::NoCredentials)), Some(Obstacle::Stuck { .. })));
    for answer in [Known::Absent, control_plane_node()] {
        assert_eq!(obstacle(&spec, &seen(answer)), None);
    }
    // Remains of a way in that never came to etcd hold nothing.
    let remains = Observed { files: Files { etcd_data: false, ..all_files() }, ..seen(Known::Silent) };
    assert_eq!(obstacle(&spec, &remains), None);
}

#[test]
fn a_control_plane_that_lost_kubelets_credentials_makes_new_ones_and_a_worker_joins_again_by_a_turn() {
    let lost = |role, files| Observed {
        membership: Some(note(role, Start::Join, Stage::Member, 0)),
        files: Files { kubelet_conf: false, ..files },
        ..Observed::default()
    };
    let change = diff(&spec(ControlPlane, Start::Join), &lost(ControlPlane, all_files()));
    assert_eq!(change, Some(Change::Credentials));
    let change = diff(&spec(Worker, Start::Join), &lost(Worker, Files::default())).unwrap();
    assert_eq!(change.disrupts(), Disrupts::Node);
    assert_eq!(way(Some(change)).1, Way::Rejoin);
}

#[test]
fn etcds_manifest_is_not_put_back_where_its_data_is_gone() {
    let spec = spec(ControlPlane, Start::Join);
    let mut observed = Observed {
        membership: Some(note(ControlPlane, Start::Join, Stage::Member, 0)),
        files: all_files(),
        ..Observed::default()
    };
    observed.files.manifests.remove("etcd");
    assert_eq!(obstacle(&spec, &observed), None);
    assert!(matches!(diff(&spec, &observed), Some(Change::Restore { .. })));
    (observed.files.etcd_data, observed.files.etcd_log) = (false, false);
    assert_eq!(way(diff(&spec, &observed)), (Start::Join, Way::Rejoin));
    observed.files.manifests.clear();
    assert_eq!(way(diff(&spec, &observed)), (Start::Join, Way::Rejoin));
    // Reset by hand.
    observed.files.kubelet_conf = false;
    assert_eq!(obstacle(&spec, &observed), None);
    assert_eq!(way(diff(&spec, &observed)).1, Way::Rejoin);
}

#[test]
fn a_control_plane_that_lost_etcds_data_begins_anew_by_a_turn_unless_nobody_else_has_it() {
    let observed = Observed {
        membership: Some(note(ControlPlane, Start::Init, Stage::Member, 0)),
        // etcd ended for want of its log, and made the folder before it did.
        files: Files { etcd_log: false, ..all_files() },
        ..Observed::default()
    };
    let mut spec = spec(ControlPlane, Start::Join);
    assert_eq!(obstacle(&spec, &observed), None);
    let change = diff(&spec, &observed).unwrap();
    assert_eq!(change.disrupts(), Disrupts::Node);
    assert_eq!(way(Some(change)), (Start::Join, Way::Rejoin));
    spec.control_planes = 1;
    let Some(Obstacle::Stuck { message, help }) = obstacle(&spec, &observed) else { panic!() };
    assert!(message.contains("the only control plane") && help.contains("snapshot"));
}

#[test]
fn the_first_etcd_is_kept_from_beginning_a_cluster_once_all_vote() {
    let observed = |votes| Observed {
        membership: Some(note(ControlPlane, Start::Init, Stage::Member, 0)),
        files: all_files(),
        loose_etcd: votes,
        ..Observed::default()
    };
    let spec = spec(ControlPlane, Start::Join);
    for (votes, change) in [(None, None), (Some(1), None), (Some(2), None), (Some(3), Some(Change::SecureEtcd))] {
        assert_eq!(diff(&spec, &observed(votes)), change, "{votes:?}");
    }
    assert_eq!(Change::SecureEtcd.disrupts(), Disrupts::Service);
    let single = ClusterMemberSpec { control_planes: 1, ..spec };
    assert_eq!(diff(&single, &observed(Some(1))), Some(Change::SecureEtcd));
}

#[test]
fn a_node_object_that_is_gone_is_made_again_and_silence_is_no_reason() {
    let seen = |node| Observed {
        membership: Some(note(Worker, Start::Join, Stage::Member, 0)),
        files: Files { kubelet_conf: true, ..Files::default() },
        node,
        ..Observed::default()
    };
    let joins = spec(Worker, Start::Join);
    assert_eq!(diff(&joins, &seen(Known::Absent)), Some(Change::Register));
    for known in [Known::Silent, Known::NoCredentials] {
        assert_eq!(diff(&joins, &seen(known)), None);
    }
    // Who leaves is not brought back.
    let leaves = diff(&spec(Worker, Start::Leave), &seen(Known::Absent));
    assert_eq!(leaves, Some(Change::Leave { role: Worker, known: false }));
}

#[test]
fn a_node_leaves_only_when_somebody_said_whether_pods_run_on_it() {
    let leave = spec(Worker, Start::Leave);
    let seen = |node| Observed {
        membership: Some(note(Worker, Start::Join, Stage::Member, 0)),
        files: Files { kubelet_conf: true, ..Files::default() },
        node,
        ..Observed::default()
    };
    let Some(Obstacle::Waits(what)) = obstacle(&leave, &seen(Known::Silent)) else { panic!() };
    assert!(what.contains("10.0.0.9:6443"));
    for known in [Known::Absent, Known::NoCredentials, Known::Node(NodeSeen::default())] {
        assert_eq!(obstacle(&leave, &seen(known)), None);
    }
}

#[test]
fn a_member_keeps_labels_and_static_pods() {
    let mut observed = Observed {
        membership: Some(note(ControlPlane, Start::Init, Stage::Member, 0)),
        files: all_files(),
        node: Known::Node(NodeSeen {
            labels: [("old".to_owned(), "1".to_owned()), ("by-hand".to_owned(), "2".to_owned())].into(),
            taints: ["a:NoSchedule".to_owned()].into(),
        }),
        ..Observed::default()
    };
    let Some(Change::Mark { set, remove, taints }) = diff(&spec(ControlPlane, Start::Init), &observed) else {
        panic!()
    };
    assert_eq!(set.len(), 4, "{set:?}");
    assert_eq!(remove.iter().collect::<Vec<_>>(), ["old"]);
    assert_eq!(taints, Some(vec![]));
    observed.files.manifests.remove("kube-scheduler");
    assert_eq!(
        diff(&spec(ControlPlane, Start::Init), &observed),
        Some(Change::Restore { manifests: ["kube-scheduler".to_owned()].into() })
    );
}

#[test]
fn the_dead_are_buried_once_the_own_control_plane_is_whole() {
    let mut observed = Observed {
        membership: Some(note(ControlPlane, Start::Join, Stage::Member, 0)),
        files: Files { manifests: BTreeSet::new(), ..all_files() },
        remains: ["workers-2".to_owned()].into(),
        ..Observed::default()
    };
    let spec = spec(ControlPlane, Start::Join);
    assert!(matches!(diff(&spec, &observed), Some(Change::Restore { .. })));
    observed.files = all_files();
    assert_eq!(diff(&spec, &observed), Some(Change::Bury { nodes: ["workers-2".to_owned()].into() }));
    observed.remains.clear();
    assert_eq!(diff(&spec, &observed), None);
}

#[test]
fn other_settings_start_kubelet_anew_by_a_turn_and_so_does_a_file_changed_by_hand() {
    let settings = |wanted: &str, written: &str| Settings { wanted: wanted.to_owned(), written: written.to_owned() };
    let mut member = note(Worker, Start::Join, Stage::Member, 0);
    member.kubelet = Some(settings("a", "1"));
    let seen = |now| Observed {
        membership: Some(member.clone()),
        files: Files { kubelet_conf: true, ..Files::default() },
        kubelet: Some(SettingsSeen { now, differences: vec!["maxPods: 110 → 50".to_owned()] }),
        ..Observed::default()
    };
    let spec = spec(Worker, Start::Join);
    assert_eq!(diff(&spec, &seen(settings("a", "1"))), None);
    for other in [settings("b", "1"), settings("a", "2")] {
        let change = diff(&spec, &seen(other)).unwrap();
        assert_eq!(change.disrupts(), Disrupts::Service);
        assert!(change.detail().contains(&"maxPods: 110 → 50".to_owned()));
    }
    // With labels to set at the same time it is one change, with the turn that its worst part needs.
    let marked = Observed { node: Known::Node(NodeSeen::default()), ..seen(settings("b", "1")) };
    let Some(Change::Several(changes)) = diff(&spec, &marked) else { panic!() };
    assert_eq!((changes.len(), Change::Several(changes).disrupts()), (2, Disrupts::Service));
}

#[test]
fn the_leader_gives_kube_proxy_its_settings() {
    let observed = |has: Option<&str>| Observed {
        membership: Some(note(ControlPlane, Start::Join, Stage::Member, 0)),
        files: all_files(),
        proxy: Some(("new".to_owned(), has.map(str::to_owned))),
        ..Observed::default()
    };
    let spec = spec(ControlPlane, Start::Join);
    assert_eq!(diff(&spec, &observed(Some("new"))), None);
    for has in [None, Some("old")] {
        assert_eq!(diff(&spec, &observed(has)), Some(Change::Proxy { wanted: "new".to_owned() }));
    }
}

#[test]
fn a_leaver_leaves_until_nothing_is_left() {
    let mut observed = Observed {
        membership: Some(note(Worker, Start::Join, Stage::Member, 0)),
        files: Files { kubelet_conf: true, ..Files::default() },
        node: Known::Node(NodeSeen::default()),
        ..Observed::default()
    };
    let leave = spec(Worker, Start::Leave);
    assert_eq!(diff(&leave, &observed), Some(Change::Leave { role: Worker, known: true }));
    observed.membership = None;
    observed.node = Known::Absent;
    assert_eq!(diff(&leave, &observed), Some(Change::Leave { role: Worker, known: false }));
    observed.files = Files::default();
    assert_eq!(diff(&leave, &observed), None);
}

#[test]
fn a_worker_without_an_api_is_as_written_and_sets_only_what_it_may() {
    let mut observed = Observed {
        membership: Some(note(Worker, Start::Join, Stage::Member, 0)),
        files: Files { kubelet_conf: true, ..Files::default() },
        ..Observed::default()
    };
    assert_eq!(diff(&spec(Worker, Start::Join), &observed), None);
    observed.node =
        Known::Node(NodeSeen { labels: [("pool".to_owned(), "a".to_owned())].into(), ..NodeSeen::default() });
    assert_eq!(diff(&spec(Worker, Start::Join), &observed), None);
}
