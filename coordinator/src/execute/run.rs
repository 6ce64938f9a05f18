//! Additions along their order, removals after, each step once; a failed step holds up only what waits for it.

use futures::{StreamExt, stream::FuturesUnordered};
use muster_ids::NodeName;
use muster_planner::{
    Blueprint, Seen, Step,
    blueprint::NodePlan,
    steps,
    steps::{Why, confirmed},
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::intents::{IntentError, Intents};
use crate::cloud::{Bootstrap, Cloud, CloudError};

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: Step,
    pub outcome: Outcome,
}

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Outcome {
    Done,
    /// A step before it did not succeed.
    Blocked {
        by: String,
    },
    /// `retry`: it may get better by itself.
    Failed {
        error: String,
        hint: Option<String>,
        retry: bool,
    },
}

/// Takes the steps of `blueprint` against what is seen. `boot` renders a node's user-data.
pub async fn execute(
    blueprint: &Blueprint,
    seen: &Seen,
    cloud: &dyn Cloud,
    intents: &dyn Intents,
    boot: &(dyn Fn(&NodeName, &NodePlan) -> Bootstrap + Sync),
) -> Vec<StepReport> {
    for (node, made) in confirmed(blueprint, seen) {
        if let Err(error) = intents.made(node, &made.token, &made.id) {
            // The next round remembers it; what is seen is not made again meanwhile.
            warn!(%node, %error, "an instance was seen and not remembered");
        }
    }
    let mut waiting = steps(blueprint, seen);
    let mut reports: Vec<StepReport> = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut in_flight: Vec<Step> = Vec::new();
    loop {
        let mut index = 0;
        while index < waiting.len() {
            let step = &waiting[index];
            let unfinished = waiting.iter().chain(&in_flight).any(|other| {
                other != step && (step.waits_for(other, blueprint) || (step.removes() && !other.removes()))
            });
            if unfinished {
                index += 1;
                continue;
            }
            let failed = reports
                .iter()
                .find(|report| report.outcome != Outcome::Done && step.waits_for(&report.step, blueprint));
            if let Some(failed) = failed {
                let by = failed.step.to_string();
                reports.push(StepReport { step: waiting.remove(index), outcome: Outcome::Blocked { by } });
                // Those before it may wait for this one.
                index = 0;
                continue;
            }
            let step = waiting.remove(index);
            in_flight.push(step.clone());
            running.push(async move {
                let outcome = take(&step, blueprint, cloud, intents, boot).await;
                StepReport { step, outcome }
            });
        }
        let Some(report) = running.next().await else { break };
        in_flight.retain(|step| *step != report.step);
        match &report.outcome {
            Outcome::Done => info!(step = %report.step, "done"),
            Outcome::Failed { error, retry, .. } => warn!(step = %report.step, error, retry, "failed"),
            Outcome::Blocked { by } => info!(step = %report.step, by, "blocked"),
        }
        reports.push(report);
    }
    reports
}

async fn take(
    step: &Step,
    blueprint: &Blueprint,
    cloud: &dyn Cloud,
    intents: &dyn Intents,
    boot: &(dyn Fn(&NodeName, &NodePlan) -> Bootstrap + Sync),
) -> Outcome {
    let result = call(step, blueprint, cloud, intents, boot).await;
    // A failed call may have changed something too.
    let stepped = intents.stepped().map_err(Trouble::from);
    match result.and(stepped) {
        Ok(()) => Outcome::Done,
        Err(Trouble::Cloud(CloudError::Passing(error))) => Outcome::Failed { error, hint: None, retry: true },
        Err(Trouble::Cloud(CloudError::Final { what, hint })) => {
            Outcome::Failed { error: what, hint: Some(hint), retry: false }
        }
        Err(Trouble::Intent(error)) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            Outcome::Failed { error: format!("{error}{source}"), hint: None, retry: true }
        }
    }
}

enum Trouble {
    Cloud(CloudError),
    Intent(IntentError),
}

impl From<CloudError> for Trouble {
    fn from(error: CloudError) -> Self {
        Self::Cloud(error)
    }
}

impl From<IntentError> for Trouble {
    fn from(error: IntentError) -> Self {
        Self::Intent(error)
    }
}

async fn call(
    step: &Step,
    blueprint: &Blueprint,
    cloud: &dyn Cloud,
    intents: &dyn Intents,
    boot: &(dyn Fn(&NodeName, &NodePlan) -> Bootstrap + Sync),
) -> Result<(), Trouble> {
    match step {
        Step::Network => cloud.ensure_network(&blueprint.network).await?,
        Step::Disk { disk } => {
            let Some(plan) = blueprint.disks.get(disk) else { return Ok(()) };
            let id = cloud.ensure_disk(disk, plan).await?;
            intents.disk_made(disk, &id)?;
        }
        Step::LoadBalancer { endpoint, why: Why::Absent | Why::Stopped | Why::Differs } => {
            let Some(plan) = blueprint.load_balancers.get(endpoint) else { return Ok(()) };
            cloud.ensure_load_balancer(endpoint, plan).await?;
        }
        Step::StartInstance { node, id } => cloud.start_instance(node, id).await?,
        Step::Instance { node } => {
            let Some(plan) = blueprint.nodes.get(node) else { return Ok(()) };
            let proof = intents.begin(node, &plan.token)?;
            let id = cloud.ensure_instance(node, plan, &boot(node, plan), &proof).await?;
            intents.made(node, &plan.token, &id)?;
        }
        Step::RemoveInstance { node, id } => {
            cloud.remove_instance(node, id).await?;
            intents.removed(node, id)?;
        }
        Step::RemoveLoadBalancer { endpoint, id } => cloud.remove_load_balancer(endpoint, id).await?,
    }
    Ok(())
}
