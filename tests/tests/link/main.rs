//! Coordinator and agent over real TLS on loopback: what a certificate's life, a coordinator's absence and a bad catalog do.

mod contract;
mod coordinator;
mod node;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use coordinator::{Coordinator, HOUR};
use muster_agent::link::CallError;
use muster_catalog::Catalog;
use muster_ids::Digest;
use muster_proto::{
    signed::CatalogSigner,
    v1::{Draft, Mint, Sign, push},
};
use node::{Engine, Node, keeper, machine, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_token_to_a_report_and_on_at_each_push() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    assert_eq!(node.engine.generations(), [1]);

    // Sooner than any timer of the agent would ask: `until` has ten seconds.
    coordinator.publish(&coordinator.catalog_for("workers-1", 2));
    until("the second report", || coordinator.heard.lock().unwrap().reports.len() == 2).await;
    assert_eq!(node.engine.generations(), [1, 2]);
    let heard = coordinator.heard.lock().unwrap();
    assert_eq!(heard.reports[1].generation.unwrap().counter, 2);
    assert!(heard.metrics > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_drafts_tickets_signatures_and_pauses() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "control-plane-1");
    coordinator.publish(&coordinator.catalog_for("control-plane-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    until("the stream", || coordinator.pushes.receiver_count() > 0).await;

    node.engine.changed_by_hand("/etc/x");
    until("the drift", || node.engine.converged.lock().unwrap().len() == 2).await;
    let drift = node.engine.converged.lock().unwrap()[1].clone();
    assert_eq!((drift.woken_by, drift.only), ("drift", Some(vec!["/etc/x".to_owned()])));

    let draft = Catalog { draft: true, ..coordinator.catalog_for("control-plane-1", 2) };
    let signed = coordinator.authority.sign_catalog(draft.to_toml()).unwrap();
    coordinator.push(push::Push::Draft(Draft { id: "d1".to_owned(), catalog: Some(signed) }));
    // What could be applied is none to be planned, and the other way round.
    let signed = coordinator.authority.sign_catalog(coordinator.catalog_for("control-plane-1", 3).to_toml()).unwrap();
    coordinator.push(push::Push::Draft(Draft { id: "d2".to_owned(), catalog: Some(signed) }));
    until("the answers", || coordinator.heard.lock().unwrap().drafts.len() == 2).await;
    let mut answers = coordinator.heard.lock().unwrap().drafts.clone();
    answers.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!((answers[0].rows_json.as_str(), answers[0].error.as_str()), ("[]", ""));
    assert!(answers[1].error.contains("none of a draft"), "{answers:?}");

    // Plans that nobody waits for any more hold up nobody who joins.
    node.engine.busy.store(true, std::sync::atomic::Ordering::SeqCst);
    let signed = coordinator.authority.sign_catalog(draft.to_toml()).unwrap();
    for number in 3..23 {
        coordinator.push(push::Push::Draft(Draft { id: format!("d{number}"), catalog: Some(signed.clone()) }));
    }
    until("plans that wait", || node.engine.planned.lock().unwrap().len() > 8).await;
    coordinator.push(push::Push::Mint(Mint {
        id: "m1".to_owned(),
        node: "workers-7".to_owned(),
        control_plane: false,
    }));
    coordinator.push(push::Push::Sign(Sign {
        id: "s1".to_owned(),
        csr_pem: "csr".to_owned(),
        user: "dana".to_owned(),
    }));
    coordinator.push(push::Push::SignViewer(Sign {
        id: "s2".to_owned(),
        csr_pem: "csr".to_owned(),
        user: "erin".to_owned(),
    }));
    until("the ticket and the signatures", || {
        let heard = coordinator.heard.lock().unwrap();
        heard.offers.len() == 1 && heard.signed.len() == 2
    })
    .await;
    let (offer, signed) = {
        let heard = coordinator.heard.lock().unwrap();
        let mut signed: Vec<_> = heard.signed.iter().map(|signed| signed.certificate_pem.clone()).collect();
        signed.sort();
        (heard.offers[0].clone(), signed)
    };
    assert_eq!(offer.ticket.unwrap().token, "for-workers-7");
    assert_eq!(signed, ["csr of dana: Admin", "csr of erin: View"]);

    coordinator.push(push::Push::PauseUntil(coordinator::NOW + 600));
    until("the paused converge", || node.engine.converged.lock().unwrap().last().unwrap().paused).await;
    coordinator.push(push::Push::PauseUntil(0));
    until("the end of the pause", || !node.engine.converged.lock().unwrap().last().unwrap().paused).await;
    assert_eq!(node.engine.generations(), [1; 4], "a draft was applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_waits_for_its_retry_however_often_it_is_heard_of() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    node.engine.fails.store(true, Ordering::SeqCst);
    node.engine.changed_by_hand("/etc/x");
    until("the failure", || node.engine.converged.lock().unwrap().len() == 2).await;
    // Its own failures are heard of: a service that ends at once tells so several times a second.
    for _ in 0..100 {
        node.engine.changed_by_hand("/etc/x");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("the retry", || node.engine.converged.lock().unwrap().len() > 2).await;
    let woken: Vec<_> = node.engine.converged.lock().unwrap()[2..].iter().map(|one| one.woken_by).collect();
    assert!(woken.iter().all(|by| *by == "retry"), "{woken:?}");
    // Another's change is put back at once.
    node.engine.changed_by_hand("/etc/y");
    until("the other", || node.engine.converged.lock().unwrap()[2..].iter().any(|one| one.woken_by == "drift")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_certificates_rotate_under_load_and_no_call_fails() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let keeper = keeper(folder.path(), &config, &coordinator);
    let link = keeper.link();
    tokio::spawn(keeper.run());
    let first = link.ready().await.unwrap();

    let (going, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (link, going, calls) = (link.clone(), going.clone(), calls.clone());
        load.spawn(async move {
            while going.load(Ordering::SeqCst) {
                // Of calls that are not limited.
                link.report(None, "", None, None).await.unwrap();
                calls.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let mut until_then = first.not_after;
    for round in 0..3 {
        // Half a life and its tenth: both sides are due.
        coordinator.clock.advance(15 * HOUR);
        until("the renewal", || link.enrolled().is_some_and(|enrolled| enrolled.not_after > until_then)).await;
        until_then = link.enrolled().unwrap().not_after;
        let before = calls.load(Ordering::SeqCst);
        until("calls after the rotation", || calls.load(Ordering::SeqCst) > before + 50).await;
        assert!(!going.load(Ordering::SeqCst) || !load.is_empty(), "round {round}");
    }
    going.store(false, Ordering::SeqCst);
    while let Some(done) = load.join_next().await {
        done.expect("a call failed");
    }
    assert!(calls.load(Ordering::SeqCst) > 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_hears_and_says_nothing_within_two_seconds() {
    let coordinator = Coordinator::start().await;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    let config = machine(other.path(), &coordinator, "workers-2");
    let bystander = keeper(other.path(), &config, &coordinator);
    let untouched = bystander.link();
    tokio::spawn(bystander.run());
    untouched.ready().await.unwrap();
    until("the stream", || coordinator.pushes.receiver_count() == 1).await;

    coordinator.revoke("workers-1");
    until("the stream's end", || coordinator.pushes.receiver_count() == 0).await;
    assert!(node.link.pull("{}", None).await.is_err());
    // It does not come back, by no way, and nobody else is disturbed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(coordinator.pushes.receiver_count(), 0);
    assert!(node.link.pull("{}", None).await.is_err());
    assert!(untouched.pull("{}", None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_weekend_off_all_comes_back_unaided() {
    let mut coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    node.stopped().await;
    coordinator.stop().await;
    coordinator.clock.advance(72 * HOUR);

    // The node is back first: it converges what it has, and waits.
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the offline converge", || node.engine.generations() == [1]).await;
    assert_eq!(node.engine.converged.lock().unwrap()[0].woken_by, "start");
    assert!(node.link.enrolled().is_none(), "nothing is called with an expired certificate");
    coordinator.serve().await;
    coordinator.publish(&coordinator.catalog_for("workers-1", 2));
    until("the new generation", || node.engine.generations().last() == Some(&2)).await;
    until("its report", || coordinator.heard.lock().unwrap().reports.last().unwrap().generation.unwrap().counter == 2)
        .await;
}

/// Its certificate ended too long ago, and its token was used: only an operator's word brings it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_32_days_off_a_node_is_back_when_it_is_readmitted() {
    let mut coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    node.stopped().await;
    coordinator.stop().await;
    coordinator.clock.advance(32 * 24 * HOUR);
    coordinator.serve().await;
    coordinator.publish(&coordinator.catalog_for("workers-1", 2));

    let node = Node::start(folder.path(), &config, &coordinator);
    until("the offline converge", || node.engine.generations() == [1]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(node.link.enrolled().is_none(), "it is let in without anybody's word");
    coordinator.readmit("workers-1");
    until("the new generation", || node.engine.generations().last() == Some(&2)).await;
    assert!(node.link.enrolled().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_comes_and_goes_is_followed() {
    let mut coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    coordinator.stop().await;
    assert!(matches!(node.link.pull("{}", None).await, Err(CallError::Unreachable(_))));
    node.engine.changed_by_hand("/etc/x");
    until("drift is put back without it", || node.engine.converged.lock().unwrap().len() == 2).await;
    // Published while it was away: nothing was pushed.
    coordinator.serve().await;
    let second = coordinator.catalog_for("workers-1", 2);
    coordinator.catalog.send_replace(Some(coordinator.authority.sign_catalog(second.to_toml()).unwrap()));
    until("the new generation", || node.engine.generations().last() == Some(&2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tampered_foreign_older_and_draft_catalogs_are_never_applied() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 5));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    until("the stream", || coordinator.pushes.receiver_count() > 0).await;

    let next = coordinator.catalog_for("workers-1", 6);
    let sign = |catalog: &Catalog| coordinator.authority.sign_catalog(catalog.to_toml()).unwrap();
    let mut tampered = sign(&next);
    tampered.toml = tampered.toml.replace("workers-1", "workers-2");
    tampered.etag = Digest::of(&tampered.toml).to_string();
    let bad = [
        ("tampered", tampered),
        ("of another node", sign(&coordinator.catalog_for("workers-2", 6))),
        ("of another cluster", sign(&Catalog { cluster: "other".parse().unwrap(), ..next.clone() })),
        ("of another key", CatalogSigner::generate().unwrap().sign(next.to_toml()).unwrap()),
        ("older", sign(&coordinator.catalog_for("workers-1", 4))),
        ("a draft", sign(&Catalog { draft: true, ..next.clone() })),
    ];
    for (what, signed) in bad {
        let pulls = coordinator.heard.lock().unwrap().pulls;
        coordinator.offer(signed, next.generation);
        until(what, || coordinator.heard.lock().unwrap().pulls > pulls).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(node.engine.generations(), [5], "{what} was applied");
    }
    // Nor by a restart, from the cache.
    node.stopped().await;
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the start", || !node.engine.generations().is_empty()).await;
    coordinator.publish(&next);
    until("the good one", || node.engine.generations() == [5, 6]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_catalog_and_a_stop_end_what_runs_at_a_steps_end() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let engine = Engine::default();
    *engine.takes.lock().unwrap() = Duration::from_secs(60);
    let node = Node::with(folder.path(), &config, &coordinator, engine);
    until("the first to begin", || node.engine.begun.load(Ordering::SeqCst) == 1).await;
    until("the stream", || coordinator.pushes.receiver_count() > 0).await;
    let mut changed = coordinator.catalog_for("workers-1", 2);
    changed.resource.push(muster_catalog::Resource {
        after: vec![],
        notify: vec![],
        spec: toml::from_str("[group]\nname = \"staff\"\n").unwrap(),
    });
    coordinator.publish(&changed);
    until("the first to stop", || node.engine.converged.lock().unwrap().len() == 1).await;
    let engine = node.engine.clone();
    until("the second to begin", || engine.begun.load(Ordering::SeqCst) == 2).await;
    node.stopped().await;
    let converged = engine.converged.lock().unwrap().clone();
    let seen: Vec<_> = converged.iter().map(|converged| (converged.generation.counter, converged.stopped)).collect();
    assert_eq!(seen, [(1, true), (2, true)]);
    // The last report was still taken.
    assert_eq!(coordinator.heard.lock().unwrap().reports.last().unwrap().generation.unwrap().counter, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_tried_again_soon() {
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let engine = Engine::default();
    *engine.waits.lock().unwrap() = 2;
    let node = Node::with(folder.path(), &config, &coordinator, engine);
    until("the third converge", || node.engine.converged.lock().unwrap().len() == 3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let woken: Vec<_> = node.engine.converged.lock().unwrap().iter().map(|converged| converged.woken_by).collect();
    assert_eq!(woken, ["push", "retry", "retry"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_coordinator_at_the_same_address_gets_nothing() {
    let mut coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = machine(folder.path(), &coordinator, "workers-1");
    coordinator.publish(&coordinator.catalog_for("workers-1", 1));
    let node = Node::start(folder.path(), &config, &coordinator);
    until("the first report", || !coordinator.heard.lock().unwrap().reports.is_empty()).await;
    coordinator.stop().await;

    // The same names, another CA.
    let mut foreign = Coordinator::start().await;
    foreign.stop().await;
    foreign.address = coordinator.address;
    foreign.serve().await;
    foreign.publish(&foreign.catalog_for("workers-1", 9));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(foreign.heard.lock().unwrap().pulls, 0);
    assert_eq!(node.engine.generations(), [1]);
}
