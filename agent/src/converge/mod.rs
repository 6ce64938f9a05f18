//! The loop: look, decide, do, look again.
//!
//! 1. Everything cheap is looked at first, all at once and in few task switches (`look`): a node as written is done here.
//! 2. What is left is walked along the graph in parallel (`walk`); a step is looked at again where something before it changed.
//! 3. A step that changes something is looked at once more after it, and the difference must be empty.
//!
//! One converge at a time per [`Engine`]. The engine decides nothing about *what* to change: that is `muster_plan`'s.

mod disruption;
mod draft;
mod gathering;
mod left;
mod look;
mod packages;
mod plan;
mod step;
mod walk;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use futures::future::OptionFuture;
use muster_catalog::{Catalog, Spec};
use muster_ids::ResourceId;
use muster_plan::{Report, Row, StepReport, schedule::ScheduleError};
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::draft::DraftSecrets;
use crate::{Context, Scope, ledger::LedgerFile, ports::Health};

/// Converges catalogs, one at a time.
pub struct Engine {
    ctx: Context,
    ledger: LedgerFile,
    health: Arc<dyn Health>,
    one: Mutex<()>,
}

/// How to converge.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// For people: "push", "drift", "timer", "start".
    pub woken_by: String,
    /// Only these, taking all else for right: the quick path after drift.
    pub only: Option<BTreeSet<ResourceId>>,
    /// Seconds since the epoch: until then differences are reported and left.
    pub paused_until: Option<i64>,
    /// Cancelled: no further step begins, and the converge ends with those under way.
    pub stop: CancellationToken,
    /// Told of each step as it begins and ends.
    pub progress: Option<mpsc::UnboundedSender<Progress>>,
}

/// What happens while it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Began(ResourceId),
    Ended(StepReport),
}

/// A converge that could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ConvergeError {
    #[error("a draft can be planned and not applied")]
    Draft,
    #[error("generation {offered} is older than {held}, which was converged before")]
    Older { offered: muster_ids::Generation, held: muster_ids::Generation },
    #[error("the catalog's resources make no order")]
    Schedule(#[from] ScheduleError),
}

impl Engine {
    /// `ctx.scope` is replaced by each catalog's own.
    pub fn new(ctx: Context, ledger: LedgerFile, health: Arc<dyn Health>) -> Self {
        Self { ctx, ledger, health, one: Mutex::new(()) }
    }

    pub fn context(&self) -> &Context {
        &self.ctx
    }

    pub fn ledger(&self) -> &LedgerFile {
        &self.ledger
    }

    fn scoped(&self, catalog: &Catalog) -> Context {
        Context { scope: Arc::new(Scope::of(catalog)), ..self.ctx.clone() }
    }

    /// Makes this node as the catalog says, and tells how it ended.
    pub async fn converge(&self, catalog: &Arc<Catalog>, options: &Options) -> Result<Report, ConvergeError> {
        let _one = self.one.lock().await;
        let began = Instant::now();
        let started = self.ctx.clock.now();
        if catalog.draft {
            return Err(ConvergeError::Draft);
        }
        if let Some(held) = self.ledger.read(|ledger| ledger.generation)
            && catalog.generation < held
        {
            return Err(ConvergeError::Older { offered: catalog.generation, held });
        }
        let walk = walk::Walk::begin(self, catalog, options).await?;
        let ends = walk.run().await;
        // Whoever has no sets to apply has nothing to say of them either.
        let sets = catalog.resource.iter().any(|resource| matches!(resource.spec, Spec::Manifest(_)));
        let workloads = OptionFuture::from(sets.then(|| self.health.workloads()));
        let (node_ready, workloads) = futures::join!(self.health.node_ready(), workloads);
        let workloads = workloads.unwrap_or_default();
        Ok(Report { node_ready, workloads, ..report(ends, options, started, began) })
    }

    /// What [`Engine::converge`] would do. Reads only, in the caller's process: see [`crate::dry`] for one that cannot write.
    pub async fn plan(&self, catalog: &Arc<Catalog>) -> Result<Vec<Row>, ConvergeError> {
        let _one = self.one.lock().await;
        let mut ctx = self.scoped(catalog);
        if catalog.draft {
            ctx.secrets = Arc::new(DraftSecrets(ctx.secrets));
        }
        plan::plan(&ctx, &self.ledger, catalog).await
    }
}

/// How the steps of one converge ended.
#[derive(Debug, Default)]
struct Ends {
    already_right: u32,
    steps: Vec<StepReport>,
    drift: Vec<ResourceId>,
    /// What could not follow a change before it: when it does, later, it is no drift either.
    open: Vec<ResourceId>,
}

fn report(ends: Ends, options: &Options, started: i64, began: Instant) -> Report {
    let converged = ends.steps.iter().all(|step| step.outcome.is_well());
    Report {
        woken_by: options.woken_by.clone(),
        started,
        took: began.elapsed().as_millis() as u64,
        steps: ends.steps,
        already_right: ends.already_right,
        drift: ends.drift,
        converged,
        ..Report::default()
    }
}
