//! An answer counts only from the agent that was asked, whoever else knows the question's id: over mTLS, where the name is
//! the certificate's.

use std::time::Duration;

use muster_coordinator::plan::NodePart;
use muster_proto::v1::{self, push::Push};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::lab::{Agent, Lab, converged, node, site};

/// A member of the cluster that answers nothing by itself.
struct Member {
    agent: Agent,
    pushes: Streaming<v1::Push>,
}

impl Member {
    /// The next push that `pick` takes.
    async fn next<T>(&mut self, pick: impl Fn(Push) -> Option<T>) -> T {
        loop {
            let push = self.pushes.message().await.unwrap().expect("the stream goes on");
            if let Some(picked) = push.push.and_then(&pick) {
                return picked;
            }
        }
    }
}

/// Two control planes that are members; the first is asked first.
async fn members(lab: &Lab) -> [Member; 2] {
    let generation = lab.publish(&site("hello")).await;
    let member = async |name: &str| {
        let agent = lab.agent(name).await;
        agent.pull("").await.unwrap();
        agent.report(generation, &converged()).await;
        Member { pushes: agent.watch().await, agent }
    };
    [member("control-plane-1").await, member("control-plane-2").await]
}

/// Ten seconds at most, each wait of a test.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("in time")
}

fn offer(id: &str, token: &str) -> v1::JoinOffer {
    let ticket = v1::JoinTicket { token: token.to_owned(), ca_hash: "sha256:00".to_owned(), ..Default::default() };
    v1::JoinOffer { id: id.to_owned(), ticket: Some(ticket), error: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_taken_from_the_control_plane_that_was_asked() {
    let lab = Lab::new().await;
    let [mut asked, other] = members(&lab).await;
    let worker = lab.agent("workers-1").await;
    let mut client = worker.client.clone();
    let waiting = tokio::spawn(async move { client.request_join(v1::JoinRequest { control_plane: false }).await });
    let id = soon(asked.next(|push| if let Push::Mint(mint) = push { Some(mint.id) } else { None })).await;

    for ticket in [offer(&id, "forged"), v1::JoinOffer { id: id.clone(), ticket: None, error: "no".to_owned() }] {
        let refused = other.agent.client.clone().offer_join(ticket).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
    let refused = worker.client.clone().offer_join(offer(&id, "forged")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(!waiting.is_finished(), "the question stays open");
    asked.agent.client.clone().offer_join(offer(&id, "right")).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap().into_inner().token, "right");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_taken_from_the_control_plane_that_was_asked() {
    let lab = Lab::new().await;
    let [mut asked, other] = members(&lab).await;
    let mut operator = lab.operator();
    let request = v1::KubeconfigRequest { csr_pem: crate::lab::request().1, viewer: false };
    let waiting = tokio::spawn(async move { operator.kubeconfig(request).await });
    let id = soon(asked.next(|push| if let Push::Sign(sign) = push { Some(sign.id) } else { None })).await;

    let signed = |certificate: &str| v1::SignedOffer {
        id: id.clone(),
        certificate_pem: certificate.to_owned(),
        ca_pem: "ca".to_owned(),
        error: String::new(),
    };
    let refused = other.agent.client.clone().offer_signed(signed("forged")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    assert!(!waiting.is_finished(), "the question stays open");
    asked.agent.client.clone().offer_signed(signed("right")).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap().into_inner().certificate_pem, "right");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_taken_from_the_node_that_it_is_of() {
    let lab = Lab::new().await;
    let [mut one, mut two] = members(&lab).await;
    let draft = |push| if let Push::Draft(draft) = push { Some(draft.id) } else { None };
    let answer = |id: &str, error: &str| v1::DraftAnswer {
        id: id.to_owned(),
        rows_json: "[]".to_owned(),
        error: error.to_owned(),
    };
    let site = site("changed");
    let both = async {
        let (of_one, of_two) = (one.next(draft).await, two.next(draft).await);
        let refused = two.agent.client.clone().answer_draft(answer(&of_one, "forged")).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        one.agent.client.clone().answer_draft(answer(&of_one, "one's own")).await.unwrap();
        two.agent.client.clone().answer_draft(answer(&of_two, "")).await.unwrap();
    };
    let (plan, ()) = soon(async { tokio::join!(lab.plan(&site), both) }).await;
    let part = |name: &str| plan.as_ref().unwrap().nodes[&node(name)].part.clone();
    assert_eq!(part("control-plane-1"), NodePart::Failed { error: "one's own".to_owned() });
    assert_eq!(part("control-plane-2"), NodePart::Rows { rows: vec![] });
}
