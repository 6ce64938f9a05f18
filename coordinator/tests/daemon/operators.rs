//! Operators' certificates: issued beside the running daemon with a role, listed, and revoked on open connections, too.

use std::time::Duration;

use muster_coordinator::app;
use muster_proto::{
    OperatorRole,
    v1::{self, operator_client::OperatorClient, revoke_operator_request::Whose},
};
use tokio::time::timeout;
use tonic::{Code, transport::Channel};

use crate::lab::{Lab, request, site};

/// A bound on a wait, on machines that do other things meanwhile; the promise is two seconds.
const IN_FORCE: Duration = Duration::from_secs(10);

/// Issues as `muster coordinator issue-operator` does, in a process of its own, and connects with it.
fn operator(lab: &Lab, name: &str, role: OperatorRole) -> OperatorClient<Channel> {
    let config = toml::from_str::<app::Config>(&format!(
        "cluster = \"easypay\"\nenvironment = \"local\"\naddress = \"127.0.0.1\"\nstate_dir = {:?}\n\
         node_image = \"n\"\nservices_image = \"s\"\n",
        lab.folder
    ))
    .unwrap();
    let (key, csr) = request();
    let chain = app::issue_operator(&config, &name.parse().unwrap(), role, &csr).unwrap();
    assert!(app::ca(&config).unwrap().contains("BEGIN CERTIFICATE"));
    lab.operator_with(&chain, &key)
}

/// Waits until this operator is out, as long as it may take.
async fn out(client: &mut OperatorClient<Channel>) {
    let refused = async { while client.status(v1::StatusRequest {}).await.is_ok() {} };
    timeout(IN_FORCE, refused).await.expect("a revocation is in force");
}

async fn list(client: &mut OperatorClient<Channel>) -> Vec<v1::OperatorCertificate> {
    client.list_operators(v1::ListOperatorsRequest {}).await.unwrap().into_inner().certificates
}

fn by_name(name: &str, force: bool) -> v1::RevokeOperatorRequest {
    v1::RevokeOperatorRequest { whose: Some(Whose::Name(name.to_owned())), force }
}

async fn events(client: &mut OperatorClient<Channel>) -> Vec<String> {
    let mut stream = client.events(v1::EventsRequest { after: 0, follow: false }).await.unwrap().into_inner();
    let mut texts = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        texts.push(format!("{}: {}", event.what, event.text));
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_made_beside_the_running_daemon_with_a_role_and_listed() {
    let lab = Lab::new().await;
    let mut erin = operator(&lab, "erin", OperatorRole::Read);
    assert!(erin.status(v1::StatusRequest {}).await.is_ok());
    let pause = v1::PauseRequest { node: "workers-1".to_owned(), seconds: 9, reason: "disk".to_owned() };
    assert_eq!(erin.pause_node(pause.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    // The daemon writes on after another process wrote.
    lab.publish(&site("hello")).await;
    let mut frank = operator(&lab, "frank", OperatorRole::Apply);
    frank.pause_node(pause).await.unwrap();
    assert_eq!(frank.revoke_operator(by_name("erin", false)).await.unwrap_err().code(), Code::PermissionDenied);

    let listed = list(&mut erin).await;
    let said: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.role.as_str(), one.revoked_at)).collect();
    assert_eq!(said, [("erin", "read", 0), ("frank", "apply", 0)]);
    assert!(listed.iter().all(|one| one.serial.len() == 32 && one.not_after == one.issued + 24 * 3600));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_of_the_cluster_is_an_admins_and_who_may_look_one_who_applies() {
    let lab = Lab::new().await;
    lab.up(&site("hello")).await;
    let asked = |viewer| v1::KubeconfigRequest { csr_pem: request().1, viewer };
    let mut frank = operator(&lab, "frank", OperatorRole::Apply);
    assert_eq!(frank.kubeconfig(asked(false)).await.unwrap_err().code(), Code::PermissionDenied);
    let looks = frank.kubeconfig(asked(true)).await.unwrap().into_inner();
    assert_eq!(looks.certificate_pem, "certificate of muster:frank:1, who may look");
    let mut dana = operator(&lab, "dana", OperatorRole::Admin);
    let administers = dana.kubeconfig(asked(false)).await.unwrap().into_inner();
    assert_eq!(administers.certificate_pem, "certificate of muster:dana:2");
    let mut erin = operator(&lab, "erin", OperatorRole::Read);
    assert_eq!(erin.kubeconfig(asked(true)).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_operator_is_out_within_two_seconds_on_open_connections_too() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let mut dana = operator(&lab, "dana", OperatorRole::Admin);
    let mut erin = operator(&lab, "erin", OperatorRole::Read);
    let follow = v1::EventsRequest { after: 0, follow: true };
    let mut stream = erin.events(follow).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some(), "it is followed");

    let revoked = dana.revoke_operator(by_name("erin", false)).await.unwrap().into_inner().revoked;
    assert_eq!(revoked.len(), 1);
    // What was on its way may still come; then the stream breaks off.
    let cut = async { while let Ok(Some(_)) = stream.message().await {} };
    timeout(IN_FORCE, cut).await.expect("the open stream ends");
    out(&mut erin).await;

    let listed = list(&mut dana).await;
    let erins = listed.iter().find(|one| one.name == "erin").unwrap();
    assert!(erins.revoked_at > 0 && erins.revoked_by == "dana");
    let told = format!("operator revoked: erin by dana: {} (read)", erins.serial);
    let events = events(&mut dana).await;
    assert!(events.contains(&told), "{events:#?}");
    // The name is usable again, for another certificate.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(operator(&lab, "erin", OperatorRole::Read).status(v1::StatusRequest {}).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_certificate_is_revoked_by_its_serial_and_the_last_admin_by_force_alone() {
    let mut lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let mut first = operator(&lab, "dana", OperatorRole::Admin);
    let one = list(&mut first).await[0].serial.clone();
    let mut second = operator(&lab, "dana", OperatorRole::Admin);
    let by_serial = v1::RevokeOperatorRequest { whose: Some(Whose::Serial(one)), force: false };
    second.revoke_operator(by_serial).await.unwrap();
    assert!(second.status(v1::StatusRequest {}).await.is_ok());

    let last = second.revoke_operator(by_name("dana", false)).await.unwrap_err();
    assert_eq!(last.code(), Code::FailedPrecondition);
    assert!(last.message().starts_with("no admin would be left\n  help: "), "{last}");
    let unknown = second.revoke_operator(by_name("grace", false)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    for bad in [Some(Whose::Name("No Name".to_owned())), Some(Whose::Serial("1".to_owned())), None] {
        let refused = second.revoke_operator(v1::RevokeOperatorRequest { whose: bad, force: true }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    out(&mut first).await;
    // Its own connection may be cut before the answer is there.
    let _ = second.revoke_operator(by_name("dana", true)).await;
    out(&mut second).await;
    // A restart forgets no revocation.
    lab.kill().await;
    lab.start().await;
    assert!(second.status(v1::StatusRequest {}).await.is_err());
}
