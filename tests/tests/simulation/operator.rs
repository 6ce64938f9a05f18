//! The operator: plans and applies over the real API, and tries again as people do.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use muster_coordinator::plan::SavedPlan;
use muster_proto::{
    OperatorRole,
    tls::{Credentials, Trust, certificate_from_pem, client},
    v1::{self, operator_client::OperatorClient, plan_event},
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use crate::{
    coordinator::authority,
    network::dial,
    node::{COORDINATOR, PORT},
    site::Site,
    stage::Stage,
};

/// What the operator is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Until it is published, or for so many attempts.
    Apply {
        site: Site,
        only: String,
        attempts: u32,
    },
    Pause {
        node: String,
        seconds: u32,
    },
    /// Until it is done.
    Revoke {
        node: String,
    },
    /// Likewise.
    Readmit {
        node: String,
    },
}

/// What is still to be done, the first one perhaps under way.
#[derive(Debug, Default)]
pub struct Orders {
    waiting: VecDeque<(u64, Order)>,
    last: u64,
}

impl Orders {
    pub fn give(&mut self, order: Order) {
        self.last += 1;
        self.waiting.push_back((self.last, order));
    }

    /// The one under way is not tried again either.
    pub fn forget(&mut self) {
        self.waiting.clear();
    }

    pub fn all_done(&self) -> bool {
        self.waiting.is_empty()
    }

    fn first(&self) -> Option<(u64, Order)> {
        self.waiting.front().cloned()
    }

    fn done(&mut self, number: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != number);
    }
}

/// Does the orders as they come.
pub async fn operator(stage: Arc<Stage>) -> turmoil::Result {
    loop {
        let first = stage.orders.lock().unwrap().first();
        let Some((number, order)) = first else {
            sleep(Duration::from_millis(300)).await;
            continue;
        };
        let attempts = match &order {
            Order::Apply { attempts, .. } => *attempts,
            Order::Pause { .. } => 3,
            Order::Revoke { .. } | Order::Readmit { .. } => u32::MAX,
        };
        for _ in 0..attempts {
            if stage.orders.lock().unwrap().first().is_none_or(|(first, _)| first != number) {
                break;
            }
            let done = timeout(Duration::from_secs(40), obey(&stage, &order)).await;
            match done {
                Ok(Ok(said)) => {
                    stage.tell(format!("the operator: {order:?}: {said}"));
                    break;
                }
                Ok(Err(error)) => {
                    let error: String = error.to_string().chars().take(300).collect();
                    stage.tell(format!("the operator: {order:?}: not yet: {error}"));
                }
                Err(_) => stage.tell(format!("the operator: {order:?}: no answer")),
            }
            sleep(Duration::from_secs(2)).await;
        }
        stage.orders.lock().unwrap().done(number);
    }
}

fn connect(stage: &Stage) -> anyhow::Result<OperatorClient<Channel>> {
    let authority = authority(stage);
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let issued = authority.issue_operator(OperatorRole::Admin, "dana", &csr)?;
    let credentials = Credentials::from_pem(&issued.chain_pem, &key.serialize_pem(), authority.ca_pem())?;
    let trust = Trust::Ca(certificate_from_pem(authority.ca_pem())?);
    let config = client::config(Some(credentials), trust, &Stage::realm(), Arc::new(stage.clock.clone()))?;
    let channel = client::channel(&format!("{COORDINATOR}:{PORT}"), watch::channel(config).1, dial())?;
    Ok(OperatorClient::new(channel))
}

async fn obey(stage: &Stage, order: &Order) -> anyhow::Result<String> {
    let mut client = connect(stage)?;
    match order {
        Order::Apply { site, only, .. } => {
            let plan = plan(&mut client, *site).await?;
            let request = v1::ApplyRequest { plan: plan.id, only: only.clone() };
            let reply = client.apply(request).await.map_err(said)?.into_inner();
            anyhow::ensure!(reply.stale.is_empty(), "stale: {:?}", reply.stale);
            Ok(format!("generation {}", muster_ids::Generation::from(reply.generation.unwrap_or_default())))
        }
        Order::Pause { node, seconds } => {
            let request = v1::PauseRequest { node: node.clone(), seconds: *seconds, reason: "to look".to_owned() };
            client.pause_node(request).await.map_err(said)?;
            Ok("done".to_owned())
        }
        Order::Readmit { node } => match client.readmit_node(v1::ReadmitRequest { node: node.clone() }).await {
            Err(status) if status.message().contains("is connected") => Ok("it is in".to_owned()),
            answer => answer.map(|_| "done".to_owned()).map_err(said),
        },
        Order::Revoke { node } => {
            client.revoke_node(v1::RevokeRequest { node: node.clone() }).await.map_err(said)?;
            Ok("done".to_owned())
        }
    }
}

/// Without what differs from run to run.
fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{:?} {}", status.code(), status.message())
}

async fn plan(client: &mut OperatorClient<Channel>, site: Site) -> anyhow::Result<SavedPlan> {
    let files = v1::SiteFiles { files: site.files().texts.into_iter().collect(), ..v1::SiteFiles::default() };
    let request = v1::PlanRequest { site: Some(files), wait: 3 };
    let mut events = client.plan(request).await.map_err(said)?.into_inner();
    while let Some(event) = events.message().await.map_err(said)? {
        match event.event {
            Some(plan_event::Event::PlanJson(json)) => return Ok(serde_json::from_str(&json)?),
            Some(plan_event::Event::DiagnosticsJson(json)) => anyhow::bail!("{json}"),
            Some(plan_event::Event::Progress(_)) | None => {}
        }
    }
    anyhow::bail!("the plan's stream ended")
}
