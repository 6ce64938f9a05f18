//! Brings catalogs: pulls when it is told that there may be a newer one, and again until the coordinator answered.

use std::{sync::Arc, time::Duration};

use muster_ids::Digest;
use tokio::{
    sync::{mpsc, watch},
    time,
};

use super::Work;
use crate::link::{Backoff, CatalogCache, Jitter, Link, Received};

/// The task.
pub(super) struct Puller {
    pub(super) link: Link,
    pub(super) cache: CatalogCache,
    pub(super) work: Arc<dyn Work>,
    pub(super) jitter: Jitter,
    /// The catalog that is held.
    pub(super) etag: Option<Digest>,
}

impl Puller {
    /// Pulls once, and again whenever `asked` changes; ends when nobody takes catalogs any more.
    pub(super) async fn run(mut self, mut asked: watch::Receiver<u64>, catalogs: mpsc::Sender<Received>) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15), self.jitter.clone());
        let mut said = String::new();
        loop {
            asked.borrow_and_update();
            let pulled = tokio::select! {
                () = catalogs.closed() => return,
                pulled = self.pull() => pulled,
            };
            match pulled {
                Ok(received) => {
                    backoff.reset();
                    said.clear();
                    if let Some(received) = received {
                        self.etag = Some(received.etag);
                        if catalogs.send(received).await.is_err() {
                            return;
                        }
                    }
                    tokio::select! {
                        () = catalogs.closed() => return,
                        changed = asked.changed() => if changed.is_err() {
                            return;
                        },
                    }
                }
                Err(error) => {
                    if said != error {
                        tracing::warn!(error, "no catalog was pulled; trying again");
                        said = error;
                    }
                    tokio::select! {
                        () = catalogs.closed() => return,
                        () = time::sleep(backoff.wait()) => {}
                        // A stream that stands again is a coordinator that is back.
                        changed = asked.changed() => if changed.is_err() {
                            return;
                        },
                    }
                }
            }
        }
    }

    async fn pull(&self) -> Result<Option<Received>, String> {
        let enrolled = self.link.ready().await.ok_or("the agent stops")?;
        let facts = serde_json::to_string(&self.work.facts().await).map_err(|error| chain(&error))?;
        let etag = self.etag.map(|etag| etag.to_string());
        let Some(signed) = self.link.pull(&facts, etag.as_deref()).await.map_err(|error| chain(&error))? else {
            return Ok(None);
        };
        let received = self.cache.receive(&signed, &enrolled.catalog_key, self.link.realm(), &enrolled.node);
        received.map(Some).map_err(|error| chain(&error))
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
