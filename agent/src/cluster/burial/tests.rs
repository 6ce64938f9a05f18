//! Burials in a cluster and an etcd in memory.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::client::Body;
use muster_catalog::kinds::cluster_member::MemberRole;

use super::*;
use crate::{
    adapters::fake::{FakeCluster, FakeMachine},
    cluster::documents,
    ports::Turn,
};

const DEAD: &str = "control-plane-2";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/muster";

/// An etcd that lists and removes members, by number.
fn etcd(members: &Arc<Mutex<Vec<(u64, &'static str)>>>) -> Etcd {
    let members = Arc::clone(members);
    Etcd::over(Client::new(
        tower::service_fn(move |request: Request<Body>| {
            let members = Arc::clone(&members);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await.expect("a body in memory");
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let mut members = members.lock().unwrap();
                if path.ends_with("/remove") {
                    members.retain(|(id, _)| body["ID"].as_str() != Some(&*id.to_string()));
                }
                let all = members.iter().map(|(id, name)| json!({"ID": id.to_string(), "name": name}));
                let answer = json!({"members": all.collect::<Vec<_>>()}).to_string();
                Ok::<_, Infallible>(Response::new(Body::from(answer.into_bytes())))
            }
        }),
        "default",
    ))
}

struct Graveyard {
    machine: FakeMachine,
    cluster: FakeCluster,
    members: Arc<Mutex<Vec<(u64, &'static str)>>>,
    ctx: Context,
    spec: ClusterMemberSpec,
}

fn object(ready: &str) -> Value {
    json!({"metadata": {"name": DEAD}, "status": {"conditions": [{"type": "Ready", "status": ready}]}})
}

/// `control-plane-1` leads, and the second one is to be buried, whose Node says this of its readiness.
fn graveyard(ready: &str) -> Graveyard {
    let (machine, cluster) = (FakeMachine::new(), FakeCluster::default());
    cluster.put(LEASE, json!({"spec": {"holderIdentity": "control-plane-1"}}));
    cluster.put(&node::path(DEAD), object(ready));
    let gone = Gone { name: DEAD.to_owned(), address: "10.0.0.2".to_owned(), revoked: false };
    let spec = ClusterMemberSpec { gone: vec![gone], ..documents::tests::spec(MemberRole::ControlPlane) };
    let members = Arc::new(Mutex::new(vec![(1, "control-plane-1"), (2, DEAD)]));
    let ctx = machine.node("control-plane-1");
    Graveyard { machine, cluster, members, ctx, spec }
}

impl Graveyard {
    async fn bury(&self) -> Result<Done, StepError> {
        let nodes = [DEAD.to_owned()].into();
        bury_from(&self.ctx, &self.cluster.client(), &etcd(&self.members), &self.spec, &nodes).await
    }

    fn votes(&self) -> usize {
        self.members.lock().unwrap().len()
    }

    fn untouched(&self) {
        assert_eq!((self.votes(), self.cluster.changed()), (2, Vec::<String>::new()));
    }
}

#[tokio::test]
async fn the_dead_lose_their_vote_under_the_turn_and_then_their_node() {
    let yard = graveyard("Unknown");
    let done = yard.bury().await.unwrap();
    assert_eq!(done.notes, [format!("etcd member 2 of {DEAD} removed"), format!("the Node {DEAD} removed")]);
    assert_eq!((yard.votes(), yard.cluster.changed()), (1, vec![format!("delete {}", node::path(DEAD))]));
    let turns: Vec<Turn> = yard.machine.coordinator.taken().into_iter().map(|(turn, _)| turn).collect();
    assert_eq!((turns, yard.machine.coordinator.given()), (vec![Turn::Etcd], 1));
}

#[tokio::test]
async fn a_ready_node_is_not_buried() {
    let yard = graveyard("True");
    let ended = yard.bury().await;
    assert!(matches!(&ended, Err(StepError::Skip(Skip::Waits { what })) if what.contains("to notice")), "{ended:?}");
    yard.untouched();
}

#[tokio::test]
async fn a_node_that_is_ready_again_when_the_turn_comes_keeps_its_vote() {
    let yard = graveyard("Unknown");
    yard.machine.coordinator.turn_held_by(Turn::Etcd, Some("control-plane-3"));
    let back = async {
        // Until it has asked for the turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        yard.cluster.put(&node::path(DEAD), object("True"));
        yard.machine.coordinator.turn_held_by(Turn::Etcd, None);
    };
    let (ended, ()) = tokio::join!(yard.bury(), back);
    assert!(matches!(ended, Err(StepError::Skip(Skip::Waits { .. }))), "{ended:?}");
    yard.untouched();
    assert_eq!(yard.machine.coordinator.given(), 1, "the turn is given back");
}

#[tokio::test]
async fn the_node_object_of_one_that_came_back_stays() {
    let yard = graveyard("Unknown");
    yard.cluster.before_the_next_change(|cluster| {
        cluster.remove(&node::path(DEAD));
        cluster.put(&node::path(DEAD), object("Unknown"));
    });
    assert!(yard.bury().await.is_err());
    assert!(yard.cluster.get(&node::path(DEAD)).is_some(), "{:?}", yard.cluster.changed());
}

#[tokio::test]
async fn who_does_not_lead_buries_nobody() {
    let yard = graveyard("Unknown");
    yard.cluster.put(LEASE, json!({"spec": {"holderIdentity": "control-plane-3"}}));
    let ended = yard.bury().await;
    assert!(
        matches!(&ended, Err(StepError::Skip(Skip::Waits { what })) if what.contains("control-plane-3")),
        "{ended:?}"
    );
    yard.untouched();
}

/// A pod of the node to be buried.
fn pod(yard: &Graveyard, name: &str, owner: &str) -> String {
    let path = format!("/api/v1/namespaces/shop/pods/{name}");
    let metadata = json!({"name": name, "namespace": "shop", "ownerReferences": [{"kind": owner, "name": "x"}]});
    yard.cluster.put(&path, json!({"metadata": metadata, "spec": {"nodeName": DEAD}}));
    path
}

#[tokio::test]
async fn nothing_that_a_revoked_node_says_keeps_it_in_the_cluster() {
    let mut yard = graveyard("True");
    yard.spec.gone[0].revoked = true;
    yard.spec.refused = vec![DEAD.to_owned()];
    let (front, database) = (pod(&yard, "front", "ReplicaSet"), pod(&yard, "database-0", "StatefulSet"));
    let elsewhere = "/api/v1/namespaces/shop/pods/other";
    yard.cluster.put(elsewhere, json!({"metadata": {"name": "other"}, "spec": {"nodeName": "workers-1"}}));
    yard.bury().await.unwrap();
    assert_eq!((yard.votes(), yard.cluster.get(&node::path(DEAD))), (1, None));
    assert!(yard.cluster.get(&front).is_none() && yard.cluster.get(elsewhere).is_some());
    // Its machine may run for a moment yet: two would write.
    assert!(yard.cluster.get(&database).is_some());
    // The name is refused before there is a Node to be made anew.
    let changed = yard.cluster.changed();
    let at = |what: &str| changed.iter().position(|change| change.contains(what)).unwrap();
    assert!(at("validatingadmissionpolicybindings") < at("delete"), "{changed:?}");

    yard.spec.gone[0].revoked = false;
    yard.bury().await.unwrap();
    assert!(yard.cluster.get(&database).is_none(), "its machine is gone for sure");
}

#[tokio::test]
async fn a_revoked_control_plane_leads_no_longer() {
    let mut yard = graveyard("True");
    yard.cluster.put(LEASE, json!({"spec": {"holderIdentity": DEAD}}));
    assert!(yard.bury().await.is_err(), "it leads, and was not revoked");
    yard.untouched();
    yard.spec.gone[0].revoked = true;
    yard.bury().await.unwrap();
    assert_eq!(yard.cluster.get(LEASE).unwrap()["spec"]["holderIdentity"], "control-plane-1");
    assert_eq!((yard.votes(), yard.cluster.get(&node::path(DEAD))), (1, None));
}
