//! A plan that cannot write: the kernel says no, not only the code.
//!
//! It runs on a thread of its own with a runtime of its own, all of whose threads inherit that they may not write. Where the kernel
//! has no Landlock the plan still only looks, and says that nothing but the code kept it from writing.

use std::{path::Path, sync::Arc};

use muster_catalog::Catalog;
use muster_plan::Row;

use crate::{
    adapters::sandbox::{self, SandboxError},
    converge::{ConvergeError, Engine},
    temporary,
};

/// A plan that was not made.
#[derive(Debug, thiserror::Error)]
pub enum DryError {
    #[error("the sandbox for the plan cannot be made")]
    Sandbox(#[source] SandboxError),
    #[error("the plan's runtime cannot be made")]
    Runtime(#[source] std::io::Error),
    #[error("the plan's thread ended early")]
    Thread,
    #[error(transparent)]
    Plan(#[from] ConvergeError),
}

/// What a converge of `catalog` would do.
pub async fn plan(engine: Arc<Engine>, catalog: Arc<Catalog>) -> Result<Vec<Row>, DryError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Who asked may be gone: then nobody needs the answer.
        let _ = tell.send(inside(&engine, &catalog));
    });
    told.await.map_err(|_| DryError::Thread)?
}

fn inside(engine: &Engine, catalog: &Arc<Catalog>) -> Result<Vec<Row>, DryError> {
    temporary::make_scratch();
    match sandbox::without_writing(Some(Path::new(temporary::SCRATCH))) {
        Ok(()) => {}
        Err(SandboxError::Absent) => tracing::warn!("this kernel has no Landlock: the plan only promises not to write"),
        Err(error @ SandboxError::Landlock(_)) => return Err(DryError::Sandbox(error)),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DryError::Runtime)?;
    Ok(runtime.block_on(engine.plan(catalog))?)
}
