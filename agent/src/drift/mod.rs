//! What was changed past the agent: watched, so that it is put back within a second and not at the next timer.
//!
//! A watch only says *look again*; what is different is seen by looking. So everything here may speak too often, and what it may miss
//! (a change that no kernel event tells, like an unloaded module) is found by the timer. The agent's own changes are heard, too: a look
//! that finds everything right is cheap.

mod inotify;
mod places;
mod sources;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use muster_catalog::Catalog;
use muster_ids::ResourceId;
use tokio::{sync::mpsc, task::JoinSet};

use crate::Context;

/// Changes within this time are one: a package unpacked, an editor that writes twice.
const GATHER: Duration = Duration::from_millis(30);

/// Resources that may have been changed, until dropped; those of one moment right behind one another.
pub fn watch(ctx: Context, catalog: Arc<Catalog>) -> BoxStream<'static, ResourceId> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(inotify::watch(places::of(&catalog), tell.clone()));
    sources::spawn(&mut tasks, &ctx, &catalog, &tell);
    // The tasks end with the stream.
    futures::stream::unfold((told, tasks), |(mut told, tasks)| async move {
        let mut changed = BTreeSet::from([told.recv().await?]);
        let until = tokio::time::sleep(GATHER);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => break,
                next = told.recv() => match next {
                    Some(id) => drop(changed.insert(id)),
                    None => break,
                },
            }
        }
        Some((futures::stream::iter(changed), (told, tasks)))
    })
    .flatten()
    .boxed()
}

#[cfg(test)]
mod tests;
