//! What else agents and operators ask for: turns, tickets, secrets, signatures, events, backups.

use std::{fs, time::Duration};

use age::secrecy::ExposeSecret as _;
use muster_coordinator::{backup, state::Local, status::Status};
use muster_proto::{Clock as _, SystemClock, v1};
use tonic::Code;

use crate::lab::{Behaviour, Lab, converged, request, site};

fn turn(turn: &str) -> v1::TurnRequest {
    v1::TurnRequest { turn: turn.to_owned(), reason: "restart containerd".to_owned(), seconds: 60 }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_of_a_pool_disrupts_at_a_time_and_a_restart_forgets_no_turn() {
    let mut lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let (one, two) = (&agents[3], &agents[4]);
    let reply = one.client.clone().take_turn(turn("disrupt")).await.unwrap().into_inner();
    assert!(reply.granted, "{}", reply.held_by);
    let reply = two.client.clone().take_turn(turn("disrupt")).await.unwrap().into_inner();
    assert!(!reply.granted && reply.held_by.contains("workers-1"), "{}", reply.held_by);
    assert!(lab.status().await.turns.iter().any(|turn| turn.node.as_str() == "workers-1"));

    lab.kill().await;
    lab.start().await;
    lab.until("all are back", Status::written).await;
    let two = lab.reconnect(two);
    assert!(!two.client.clone().take_turn(turn("disrupt")).await.unwrap().into_inner().granted);
    one.client.clone().give_turn(turn("disrupt")).await.unwrap();
    assert!(two.client.clone().take_turn(turn("disrupt")).await.unwrap().into_inner().granted);

    let worker = agents[3].client.clone().take_turn(turn("etcd")).await.unwrap_err();
    assert_eq!(worker.code(), Code::PermissionDenied, "etcd's members are control planes");
    let etcd = agents[0].client.clone().take_turn(turn("etcd")).await.unwrap().into_inner();
    assert!(etcd.granted);
    assert!(!agents[1].client.clone().take_turn(turn("etcd")).await.unwrap().into_inner().granted);
    let unknown = agents[1].client.clone().take_turn(turn("everything")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_would_never_end_ends_after_ten_minutes() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let agent = lab.agent("control-plane-1").await;
    let for_ever = v1::TurnRequest { seconds: u32::MAX, ..turn("etcd") };
    assert!(agent.client.clone().take_turn(for_ever).await.unwrap().into_inner().granted);
    let kept = Local::open(&lab.folder.join(backup::LOCAL)).unwrap().turns().unwrap();
    assert_eq!(kept, [("etcd".to_owned(), "control-plane-1".to_owned(), 600, "restart containerd".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_and_reports_end_at_a_mebibyte() {
    let lab = Lab::new().await;
    let generation = lab.publish(&site("hello")).await;
    let agent = lab.agent("workers-1").await;
    let mut client = agent.client.clone();
    // White space is JSON, too.
    let long = |text: String, length: usize| text.clone() + &" ".repeat(length - text.len());
    let facts = |length| v1::PullRequest {
        facts_json: long(serde_json::to_string(&agent.facts()).unwrap(), length),
        etag: String::new(),
    };
    let report = |length| v1::ReportRequest {
        generation: Some(generation.into()),
        report_json: long(serde_json::to_string(&converged()).unwrap(), length),
        ..v1::ReportRequest::default()
    };
    client.pull(facts(1 << 20)).await.unwrap();
    client.report(report(1 << 20)).await.unwrap();
    let refused =
        [client.pull(facts((1 << 20) + 1)).await.unwrap_err(), client.report(report((1 << 20) + 1)).await.unwrap_err()];
    for refused in refused {
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().ends_with("1048577 bytes, and they end at 1048576"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_minted_for_the_node_that_asks_and_its_own_sort() {
    let lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let join = |agent: &crate::lab::Agent, control_plane| {
        let mut client = agent.client.clone();
        async move { client.request_join(v1::JoinRequest { control_plane }).await.map(tonic::Response::into_inner) }
    };
    let (one, two) = tokio::join!(join(&agents[3], false), join(&agents[4], false));
    assert_eq!(one.unwrap().token, "token-for-workers-1");
    assert_eq!(two.unwrap().token, "token-for-workers-2");
    assert_eq!(join(&agents[2], true).await.unwrap().certificate_key, "key");
    assert_eq!(
        join(&agents[3], true).await.unwrap_err().code(),
        Code::PermissionDenied,
        "a worker is no control plane"
    );
    // An answer to a question that was asked of nobody, or of another.
    let offer =
        v1::JoinOffer { id: "made up".to_owned(), ticket: Some(v1::JoinTicket::default()), error: String::new() };
    assert_eq!(agents[0].client.clone().offer_join(offer.clone()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(agents[3].client.clone().offer_join(offer).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_waits_for_the_cluster_that_is_being_born() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let worker = lab.agent("workers-1").await;
    let mut client = worker.client.clone();
    let waiting = tokio::spawn(async move { client.request_join(v1::JoinRequest { control_plane: false }).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "nobody can mint yet");
    lab.agent("control-plane-1").await.run(Behaviour::default());
    let ticket = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(ticket.token, "token-for-workers-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_only_the_secrets_that_its_catalog_refers_to() {
    let lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let get = |agent: &crate::lab::Agent, name: &str| {
        let (mut client, name) = (agent.client.clone(), name.to_owned());
        async move { client.get_secret(v1::SecretRequest { name }).await.map(|reply| reply.into_inner().value) }
    };
    let secret = get(&agents[3], "database").await.unwrap();
    assert_eq!(secret.len(), 32);
    assert_eq!(get(&agents[4], "database").await.unwrap(), secret, "one secret, made once");
    assert_eq!(get(&agents[0], "database").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(get(&agents[3], "unused").await.unwrap_err().code(), Code::PermissionDenied);
    for file in [backup::STORE, backup::LOCAL] {
        let bytes = fs::read(lab.folder.join(file)).unwrap();
        assert!(!bytes.windows(32).any(|window| window == secret), "{file} holds the secret in clear");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_users_are_numbered() {
    let lab = Lab::new().await;
    lab.up(&site("hello")).await;
    for number in [1, 2] {
        let (_, csr_pem) = request();
        let reply =
            lab.operator().kubeconfig(v1::KubeconfigRequest { csr_pem, viewer: false }).await.unwrap().into_inner();
        assert_eq!(reply.user, format!("muster:dana:{number}"));
        assert_eq!(reply.certificate_pem, format!("certificate of muster:dana:{number}"));
        assert_eq!(reply.server, "https://10.89.0.10:6443");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_without_a_gap_and_pauses_reach_the_node() {
    let lab = Lab::new().await;
    let (agents, runs) = lab.running(&site("hello")).await;
    runs[4].abort();
    let mut operator = lab.operator();
    let request = v1::EventsRequest { after: 0, follow: true };
    let mut events = operator.events(request).await.unwrap().into_inner();
    let mut last = 0;
    let mut pushes = agents[4].watch().await;
    let pause = v1::PauseRequest { node: "workers-2".to_owned(), seconds: 3600, reason: "disk".to_owned() };
    lab.operator().pause_node(pause).await.unwrap();
    let paused = loop {
        let event = events.message().await.unwrap().unwrap();
        assert!(event.number > last, "in order, none twice");
        last = event.number;
        if event.what == "paused" {
            break event;
        }
    };
    assert_eq!((paused.node.as_str(), paused.level.as_str()), ("workers-2", "warn"));
    let until = loop {
        // Every stream begins with the pause that stands: none.
        if let Some(v1::push::Push::PauseUntil(until @ 1..)) = pushes.message().await.unwrap().unwrap().push {
            break until;
        }
    };
    assert!(until > 0);
    assert!(!lab.status().await.written(), "a paused node is not as written");
    let unknown = v1::PauseRequest { node: "workers-9".to_owned(), seconds: 1, reason: String::new() };
    assert_eq!(lab.operator().pause_node(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_an_event() {
    let lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let generation = lab.status().await.generation.unwrap();
    let mut report = converged();
    report.drift = vec!["file./etc/motd".parse().unwrap()];
    agents[3].report(generation, &report).await;
    let request = v1::EventsRequest { after: 0, follow: false };
    let mut events = lab.operator().events(request).await.unwrap().into_inner();
    let mut texts = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        texts.push(format!("{} {}", event.what, event.text));
    }
    assert!(texts.iter().any(|text| text.starts_with("drift file./etc/motd")), "{texts:#?}");
    assert!(lab.status().await.text().contains("drift: file./etc/motd"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_an_empty_folder_goes_on_and_touches_no_agent() {
    let mut lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let identity = age::x25519::Identity::generate();
    let recipients = vec![identity.to_public().to_string()];
    let mut chunks = lab.operator().backup(v1::BackupRequest { recipients }).await.unwrap().into_inner();
    let mut sealed = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        sealed.extend(chunk.data);
    }
    // An hour goes on: a publication that the backup knows nothing of.
    let later = lab.publish(&site("later")).await;
    lab.until("later", Status::written).await;
    lab.kill().await;

    let empty = tempfile::tempdir().unwrap();
    let secret = identity.to_string().expose_secret().to_owned();
    backup::restore(empty.path(), sealed.as_slice(), &secret, &crate::lab::realm(), SystemClock.now()).unwrap();
    let cloud = lab.cloud.clone();
    let address = lab.address;
    drop(lab);
    let mut restored = Lab::over(empty.path().to_owned(), empty, cloud).await;
    restored.kill().await;
    restored.address = address;
    restored.start().await;
    let status = restored.until("everything as written", Status::written).await;
    assert!(status.generation.unwrap() > later, "newer than all that agents saw");
    assert_eq!(restored.cloud.fake.world().instances.len(), 5, "nothing was made twice");
    assert!(agents[0].pull("").await.unwrap().is_some(), "its old certificate is still good");
    // Leases that the backup does not know may hold still.
    let waits = agents[3].client.clone().take_turn(turn("disrupt")).await.unwrap().into_inner();
    assert!(!waits.granted && waits.held_by.contains("this coordinator was restored"), "{}", waits.held_by);
    let refused = restored.operator().backup(v1::BackupRequest { recipients: vec![] }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

/// Once somebody asked for a backup, each apply keeps one for the same keys, the last five of them.
#[tokio::test(flavor = "multi_thread")]
async fn an_apply_keeps_a_backup_from_before_it() {
    let lab = Lab::new().await;
    let first = lab.publish(&site("0")).await;
    let folder = lab.folder.join("backups");
    assert!(!folder.exists(), "nobody said whom backups are for");
    let identity = age::x25519::Identity::generate();
    let recipients = vec![identity.to_public().to_string()];
    let mut chunks = lab.operator().backup(v1::BackupRequest { recipients }).await.unwrap().into_inner();
    while chunks.message().await.unwrap().is_some() {}
    let kept = || {
        let mut all: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    lab.publish(&site("1")).await;
    let [only] = &kept()[..] else { panic!("{:?}", kept()) };
    let empty = tempfile::tempdir().unwrap();
    let sealed = std::fs::File::open(only).unwrap();
    backup::restore(
        empty.path(),
        sealed,
        identity.to_string().expose_secret(),
        &crate::lab::realm(),
        SystemClock.now(),
    )
    .unwrap();
    let before = std::fs::read(empty.path().join(backup::STORE)).unwrap();
    assert!(!before.is_empty() && first.counter > 0);
    // Their names are seconds.
    for _ in 0..5 {
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        lab.publish(&site("again")).await;
        let plan = lab.plan(&site("again")).await.unwrap();
        lab.apply(&plan.id, "").await.unwrap();
    }
    assert_eq!(kept().len(), 5, "{:?}", kept());
    assert!(!kept().contains(only), "the oldest goes first");
}
