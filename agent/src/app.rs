//! The composition root: which adapter stands behind which port. Nothing else names one.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Context, Scope,
    adapters::{
        apt::Apt, archive::RealArchives, clock::SystemClock, commands::SystemCommands, docker::Bollard,
        files::RealFiles, local::Alone, mounts::RealMounts, systemd::Systemd,
    },
    cluster::{self, client::KubeFiles},
    converge::Engine,
    facts,
    ledger::LedgerFile,
    ports::{Commands, FileError, Files, Health, Secrets, Tickets, Turns},
};

/// What only a coordinator gives.
pub struct Coordinator {
    pub turns: Arc<dyn Turns>,
    pub secrets: Arc<dyn Secrets>,
    pub tickets: Arc<dyn Tickets>,
}

impl Coordinator {
    /// None: turns are granted at once, and there are no secrets and no tickets.
    pub fn none() -> Self {
        Self { turns: Arc::new(Alone), secrets: Arc::new(Alone), tickets: Arc::new(Alone) }
    }
}

/// This machine behind the ports.
pub fn context(coordinator: Coordinator, scope: Scope) -> Context {
    let files: Arc<dyn Files> = Arc::new(RealFiles::new());
    let commands: Arc<dyn Commands> = Arc::new(SystemCommands::new());
    Context {
        mounts: Arc::new(RealMounts::new(Arc::clone(&commands))),
        archives: Arc::new(RealArchives::new()),
        packages: Arc::new(Apt::new(Arc::clone(&commands), Arc::clone(&files))),
        units: Arc::new(Systemd::new(Arc::clone(&commands))),
        docker: Arc::new(Bollard::new()),
        clock: Arc::new(SystemClock),
        kube: Arc::new(KubeFiles::new(Arc::clone(&files))),
        turns: coordinator.turns,
        secrets: coordinator.secrets,
        tickets: coordinator.tickets,
        scope: Arc::new(scope),
        files,
        commands,
    }
}

/// An engine over `ctx`, remembering in the file `ledger`.
pub fn engine(ctx: Context, ledger: &str) -> Result<Arc<Engine>, FileError> {
    let ledger = LedgerFile::open(Arc::clone(&ctx.files), ledger)?;
    if let Some(boot) = facts::boot() {
        // On a full disk the node still converges; what the boot took away is then called drift.
        if let Err(error) = ledger.change(|ledger| ledger.booted(&boot)) {
            tracing::warn!(%error, "the boot cannot be written down");
        }
    }
    let health = Arc::new(KubernetesNode { ctx: ctx.clone() });
    Ok(Arc::new(Engine::new(ctx, ledger, health)))
}

/// A member of the cluster, judged by what its API server says.
pub struct KubernetesNode {
    pub ctx: Context,
}

#[async_trait::async_trait]
impl Health for KubernetesNode {
    async fn node_ready(&self) -> Option<bool> {
        cluster::node_ready(&self.ctx, None).await
    }

    async fn ready_since(&self, since: i64) -> Option<bool> {
        cluster::node_ready(&self.ctx, Some(since)).await
    }

    async fn pods(&self) -> Option<BTreeMap<String, bool>> {
        cluster::pods(&self.ctx).await
    }

    async fn workloads(&self) -> Vec<muster_plan::Workload> {
        cluster::workloads(&self.ctx).await
    }
}
