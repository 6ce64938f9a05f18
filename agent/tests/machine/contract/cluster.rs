//! The cluster's API and the judge of a node's fitness: of a node that is in no cluster, and of a member whose API server is
//! away. What they say of a member that can ask is beside the code, over answers of an API server.

use std::{collections::BTreeSet, sync::Arc};

use muster_agent::{
    Context, StepError,
    adapters::fake::{FakeMachine, NoKube, NoMember},
    app::KubernetesNode,
    cluster::{client::KubeFiles, membership},
    ports::{Files, Health, Kube},
};
use muster_catalog::kinds::cluster_member::{MemberRole, Start};
use muster_plan::{
    Skip,
    kinds::cluster_member::{Membership, Stage},
};

/// Without credentials there is nothing to fail at.
async fn waits_to_become_a_member(kube: &dyn Kube) {
    let client = kube.client().await.err();
    assert!(matches!(client, Some(StepError::Skip(Skip::Waits { .. }))), "{client:?}");
}

/// Who is no member holds up nobody's turn.
async fn is_no_member(health: &dyn Health) {
    assert_eq!(health.node_ready().await, None);
    assert_eq!(health.ready_since(0).await, None);
    assert_eq!(health.pods().await, None);
    assert!(health.workloads().await.is_empty());
}

#[tokio::test]
async fn the_fakes_keep_it() {
    waits_to_become_a_member(&NoKube).await;
    is_no_member(&NoMember).await;
}

/// The real ones, on a machine in memory.
fn real() -> (FakeMachine, Context) {
    let machine = FakeMachine::new();
    let kube: Arc<dyn Kube> = Arc::new(KubeFiles::new(machine.files.clone()));
    let ctx = Context { kube, ..machine.node("worker-1") };
    (machine, ctx)
}

fn note(stage: Stage) -> Membership {
    Membership {
        version: Membership::VERSION,
        name: "worker-1".to_owned(),
        role: MemberRole::Worker,
        start: Start::Join,
        stage,
        resumed: 0,
        labels: BTreeSet::new(),
        kubelet: None,
    }
}

#[tokio::test]
async fn the_real_ones_keep_it() {
    let (machine, ctx) = real();
    waits_to_become_a_member(&*ctx.kube).await;
    is_no_member(&KubernetesNode { ctx: ctx.clone() }).await;
    // On its way in, and not there yet.
    membership::write(&*machine.files, &note(Stage::Prepared)).unwrap();
    is_no_member(&KubernetesNode { ctx }).await;
}

#[tokio::test]
async fn a_member_that_cannot_ask_is_not_fit() {
    let (machine, ctx) = real();
    membership::write(&*machine.files, &note(Stage::Member)).unwrap();
    let node = KubernetesNode { ctx };
    assert_eq!(node.node_ready().await, Some(false), "no credentials");
    let kubeconfig = "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {}}], \
        clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}], contexts: [{name: c, context: {cluster: k, user: u}}]}";
    machine.files.write("/etc/kubernetes/kubelet.conf", kubeconfig.as_bytes(), 0o600, 0, 0).unwrap();
    assert!(node.ctx.kube.client().await.is_ok());
    assert_eq!(node.node_ready().await, Some(false));
    assert_eq!(node.ready_since(0).await, Some(false));
    assert_eq!(node.pods().await, None);
    let [unknown] = &node.workloads().await[..] else { panic!("nobody says that all is rolled out") };
    assert!(unknown.open.contains("API server") && !unknown.lasting, "{unknown}");
}
