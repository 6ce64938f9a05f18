//! The loop.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    future::{Either, OptionFuture, pending},
    stream::{self, BoxStream},
};
use muster_catalog::Catalog;
use muster_ids::{Digest, ResourceId};
use muster_plan::Report;
use muster_proto::Clock;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle, JoinSet},
    time::{self, Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Meter, Notifier, Rights, Work, drafts,
    pause::Pause,
    puller::{Puller, chain},
    reporter::{self, Reported},
    wakes::{self, Pending},
    work::Converge,
};
use crate::link::{CatalogCache, Enrolled, Jitter, Link, Pushed, Received, follow};

/// Events of one edit come together: a moment to gather them.
const GATHER: Duration = Duration::from_millis(50);
/// Mints and signatures at once; and as many drafts, which wait for a converge's end and hold up nobody who joins.
const ERRANDS: usize = 8;
/// For the last report, and for errands under way, at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// All that the loop needs.
pub struct Daemon {
    pub link: Link,
    pub cache: CatalogCache,
    pub work: Arc<dyn Work>,
    pub clock: Arc<dyn Clock>,
    pub jitter: Jitter,
    pub notifier: Notifier,
    pub meter: Meter,
    /// The agent's folder.
    pub state: PathBuf,
    /// Between converges that nothing woke.
    pub every: Duration,
}

/// The catalog that is converged.
struct Held {
    catalog: Arc<Catalog>,
    etag: Digest,
}

struct Running {
    task: JoinHandle<Result<Report, String>>,
    stop: CancellationToken,
    held: Arc<Held>,
}

impl Daemon {
    /// Runs until `stop`, and then to the end of the step under way. `enrolled` is who this node is, valid certificate or not:
    /// it is what the cached catalog is judged by.
    pub async fn run(self, enrolled: Option<&Enrolled>, stop: CancellationToken) {
        let Self { link, cache, work, clock, jitter, notifier, meter, state, every } = self;
        let cached = enrolled.and_then(|enrolled| from_cache(&cache, &link, enrolled));
        let (push_sender, mut pushes) = mpsc::channel(64);
        let (catalog_sender, mut catalogs) = mpsc::channel(1);
        let (ask, asked) = watch::channel(0_u64);
        // As many as converges end while one call to the coordinator lasts.
        let (report, reports) = mpsc::unbounded_channel();
        let mut helpers = JoinSet::new();
        let session = format!("{}-{:08x}", std::process::id(), (jitter.next() * f64::from(u32::MAX)) as u32);
        helpers.spawn(follow(link.clone(), session, jitter.clone(), push_sender));
        let etag = cached.as_ref().map(|received| received.etag);
        let puller = Puller { link: link.clone(), cache, work: work.clone(), jitter: jitter.clone(), etag };
        helpers.spawn(puller.run(asked, catalog_sender));
        let reporting = tokio::spawn(reporter::run(link.clone(), meter, reports));
        let (mut errands, mut drafted): (JoinSet<()>, JoinSet<()>) = (JoinSet::new(), JoinSet::new());

        let mut pause = Pause::load(&state);
        let mut wake = Pending::default();
        let mut held: Option<Arc<Held>> = None;
        let mut drift: BoxStream<'static, ResourceId> = stream::pending().boxed();
        let mut running: Option<Running> = None;
        let mut last: Option<Report> = None;
        let mut repeats = 0;
        let mut next = Instant::now() + every;
        // What ended badly, and until when it is left alone.
        let mut resting = wakes::Resting::new();
        let mut gather: Option<Instant> = None;
        let mut watchdog = notifier.watchdog().map(time::interval);
        if let Some(received) = cached {
            drift = watched(&work, hold(&mut held, received));
            wake.everything("start");
        }
        notifier.ready();
        loop {
            if running.is_none()
                && let Some(rested) = wake.spare(&resting, Instant::now())
            {
                // Its retry may be later, or none be due: somebody may have mended it.
                next = next.min(rested);
            }
            if running.is_none()
                && gather.is_none_or(|until| until <= Instant::now())
                && let Some(held) = &held
                && let Some(mut due) = wake.take()
            {
                gather = None;
                if last.as_ref().is_some_and(|last| !last.converged) {
                    // A report on the drift alone would hide what is open.
                    due.only = None;
                }
                let stop = stop.child_token();
                let converge = Converge {
                    catalog: held.catalog.clone(),
                    woken_by: due.woken_by,
                    only: due.only,
                    paused_until: pause.until(clock.now()),
                    stop: stop.clone(),
                };
                notifier.status(&format!("converging generation {}", held.catalog.generation));
                let work = work.clone();
                let task = tokio::spawn(async move { work.converge(converge).await });
                running = Some(Running { task, stop, held: held.clone() });
            }
            let beat = async {
                match &mut watchdog {
                    Some(interval) => drop(interval.tick().await),
                    None => pending().await,
                }
            };
            let gathered = match gather {
                Some(until) if running.is_none() => Either::Left(sleep_until(until)),
                Some(_) | None => Either::Right(pending()),
            };
            let ended = OptionFuture::from(running.as_mut().map(|running| &mut running.task));
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = ended => {
                    let Some(Running { held, stop: superseded, .. }) = running.take() else { continue };
                    if superseded.is_cancelled() && !stop.is_cancelled() {
                        // It was ended for a newer catalog, which is due now: what it left open says nothing.
                        continue;
                    }
                    let ended = ended.unwrap_or_else(|panic| Err(format!("the converge broke off: {panic}")));
                    let wait = match ended {
                        Ok(ended) => {
                            repeats = match &last {
                                Some(last) if wakes::no_progress(last, &ended) => repeats + 1,
                                Some(_) | None => 0,
                            };
                            let wait = wakes::again(&ended, repeats, clock.now());
                            resting = wakes::resting(&ended, repeats, Instant::now());
                            notifier.status(&line(&held.catalog, &ended));
                            let (generation, etag) = (held.catalog.generation, held.etag);
                            told(&report, Reported { generation, etag, report: ended.clone() });
                            last = Some(ended);
                            wait
                        }
                        Err(error) => {
                            tracing::error!(error, "the converge could not be done");
                            Some(Duration::from_secs(30))
                        }
                    };
                    let timer = jitter.part(every, 0.8, 1.2);
                    next = Instant::now() + wait.map_or(timer, |wait| wait.min(timer));
                }
                Some(received) = catalogs.recv() => {
                    let same = held.as_ref().is_some_and(|held| {
                        held.catalog.content_digest() == received.catalog.content_digest()
                    });
                    tracing::info!(generation = %received.catalog.generation, etag = %received.etag.short(), "a new catalog");
                    drift = watched(&work, hold(&mut held, received));
                    // What runs belongs to the past: it ends with the step under way.
                    if let Some(running) = &running && !same {
                        running.stop.cancel();
                    }
                    wake.everything("push");
                }
                Some(pushed) = pushes.recv() => match pushed {
                    Pushed::Connected => ask.send_modify(|asked| *asked += 1),
                    Pushed::Generation(generation) => {
                        if held.as_ref().is_none_or(|held| held.catalog.generation != generation) {
                            ask.send_modify(|asked| *asked += 1);
                        }
                    }
                    Pushed::Draft(draft) if drafted.len() < ERRANDS => {
                        drafted.spawn(drafts::draft(link.clone(), work.clone(), draft));
                    }
                    Pushed::Mint(mint) if errands.len() < ERRANDS => {
                        errands.spawn(drafts::mint(link.clone(), work.clone(), mint));
                    }
                    Pushed::Sign(sign) if errands.len() < ERRANDS => {
                        errands.spawn(drafts::sign(link.clone(), work.clone(), sign, Rights::Admin));
                    }
                    Pushed::SignViewer(sign) if errands.len() < ERRANDS => {
                        errands.spawn(drafts::sign(link.clone(), work.clone(), sign, Rights::View));
                    }
                    Pushed::Draft(_) | Pushed::Mint(_) | Pushed::Sign(_) | Pushed::SignViewer(_) => {
                        tracing::warn!("too many errands at once: one was left");
                    }
                    Pushed::Converge => wake.everything("asked"),
                    Pushed::Pause(until) => match pause.set(until) {
                        Ok(true) => wake.everything("asked"),
                        Ok(false) => {}
                        Err(error) => tracing::warn!(error = chain(&error), "the pause will not outlive a restart"),
                    },
                },
                Some(resource) = drift.next() => {
                    wake.drift(resource);
                    gather.get_or_insert_with(|| Instant::now() + GATHER);
                }
                () = sleep_until(next) => {
                    // Whatever a push may have missed.
                    ask.send_modify(|asked| *asked += 1);
                    let retry = last.as_ref().is_some_and(|last| !last.converged);
                    wake.everything(if retry { "retry" } else { "timer" });
                    next = Instant::now() + every;
                }
                Some(done) = errands.join_next() => said(done),
                Some(done) = drafted.join_next() => said(done),
                () = gathered => gather = None,
                () = beat => notifier.alive(),
            }
        }
        notifier.stopping();
        drop(helpers);
        if let Some(Running { mut task, stop, held }) = running {
            stop.cancel();
            // systemd's patience is the bound; until then the step under way may end.
            let ended = loop {
                let Some(interval) = &mut watchdog else { break (&mut task).await };
                tokio::select! {
                    ended = &mut task => break ended,
                    _ = interval.tick() => notifier.alive(),
                }
            };
            if let Ok(Ok(ended)) = ended {
                let (generation, etag) = (held.catalog.generation, held.etag);
                told(&report, Reported { generation, etag, report: ended });
            }
        }
        // The reporter sends what is new before it sees that nothing more will come.
        drop(report);
        let rest = async {
            drop(reporting.await);
            while errands.join_next().await.is_some() || drafted.join_next().await.is_some() {}
        };
        let mut rest = pin!(rest);
        if time::timeout(FAREWELL, &mut rest).await.is_err() {
            tracing::info!("the last report was not taken in time");
        }
    }
}

fn told(reports: &mpsc::UnboundedSender<Reported>, report: Reported) {
    // The reporter ends after this loop only; where it broke off, the converge matters more.
    if reports.send(report).is_err() {
        tracing::error!("nobody takes reports to the coordinator any more");
    }
}

fn said(errand: Result<(), JoinError>) {
    if let Err(error) = errand {
        tracing::error!(%error, "an errand broke off");
    }
}

/// The drift of one catalog; one that ends is silent from then on.
fn watched(work: &Arc<dyn Work>, catalog: Arc<Catalog>) -> BoxStream<'static, ResourceId> {
    work.drift(catalog).chain(stream::pending()).boxed()
}

fn hold(held: &mut Option<Arc<Held>>, received: Received) -> Arc<Catalog> {
    let catalog = Arc::new(received.catalog);
    *held = Some(Arc::new(Held { catalog: catalog.clone(), etag: received.etag }));
    catalog
}

fn from_cache(cache: &CatalogCache, link: &Link, enrolled: &Enrolled) -> Option<Received> {
    match cache.load(&enrolled.catalog_key, link.realm(), &enrolled.node) {
        Ok(received) => received,
        Err(error) => {
            tracing::error!(error = chain(&error), "the cached catalog is not believed; waiting for the coordinator's");
            None
        }
    }
}

fn line(catalog: &Catalog, report: &Report) -> String {
    let generation = catalog.generation;
    if report.converged {
        format!("generation {generation}: as written")
    } else {
        format!("generation {generation}: {} steps open", report.steps.len())
    }
}
