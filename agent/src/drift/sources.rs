//! What does not show in a file: units, containers, mounts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::FusedFuture};
use muster_catalog::{Catalog, kinds::Signal};
use muster_ids::ResourceId;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc::UnboundedSender,
    task::JoinSet,
};

use crate::{
    Context,
    ports::{Docker, DockerEvent, UnitEvent, Units},
};

/// Until a daemon that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(5);

type Names = HashMap<String, ResourceId>;

pub fn spawn(tasks: &mut JoinSet<()>, ctx: &Context, catalog: &Catalog, tell: &UnboundedSender<ResourceId>) {
    let (mut units_by_name, mut containers, mut images) = (Names::new(), Names::new(), Names::new());
    let (mut mounts, mut swaps) = (Vec::new(), Vec::new());
    for resource in &catalog.resource {
        let id = resource.id();
        for signal in resource.spec.signals() {
            match signal {
                Signal::Unit(name) => drop(units_by_name.insert(name, id.clone())),
                Signal::Container(name) => drop(containers.insert(name, id.clone())),
                Signal::Image(name) => drop(images.insert(name, id.clone())),
                Signal::Mounts => mounts.push(id.clone()),
                Signal::Swaps => swaps.push(id.clone()),
                Signal::Path(_)
                | Signal::Inside(_)
                | Signal::Routes(_)
                | Signal::Node(_)
                | Signal::Cluster
                | Signal::Objects { .. } => {}
            }
        }
    }
    if !units_by_name.is_empty() {
        tasks.spawn(units(Arc::clone(&ctx.units), units_by_name, tell.clone()));
    }
    if !containers.is_empty() {
        tasks.spawn(docker(Arc::clone(&ctx.docker), containers, images, tell.clone()));
    }
    for (path, resources) in [("/proc/self/mountinfo", mounts), ("/proc/swaps", swaps)] {
        if !resources.is_empty() {
            tasks.spawn(table(path, resources, tell.clone()));
        }
    }
}

async fn units(units: Arc<dyn Units>, names: Names, tell: UnboundedSender<ResourceId>) {
    let mut missed = false;
    loop {
        if let Ok(mut changes) = units.changes().await {
            // What happened while nobody listened.
            if missed && !names.values().all(|id| tell.send(id.clone()).is_ok()) {
                return;
            }
            let mut own = names.clone();
            // Asked for beside listening: what is not taken from the bus holds up the answer.
            let mut asking = own_names(&*units, &names).boxed().fuse();
            loop {
                tokio::select! {
                    event = changes.next() => match event {
                        Some(UnitEvent::Changed(name)) => {
                            if let Some(id) = own.get(&name)
                                && tell.send(id.clone()).is_err()
                            {
                                return;
                            }
                        }
                        Some(UnitEvent::Reloaded) => asking = own_names(&*units, &names).boxed().fuse(),
                        None => break,
                    },
                    fresh = &mut asking, if !asking.is_terminated() => own = fresh,
                }
            }
        }
        missed = true;
        tokio::time::sleep(AGAIN).await;
    }
}

/// The names by which systemd tells of these units: their own, which an alias is not.
async fn own_names(units: &dyn Units, names: &Names) -> Names {
    let mut own = names.clone();
    let asked: Vec<String> = names.keys().cloned().collect();
    if let Ok(states) = units.states(&asked).await {
        let pairs = asked.iter().zip(states).filter_map(|(name, state)| Some((state.id, names.get(name)?.clone())));
        own.extend(pairs);
    }
    own
}

async fn docker(docker: Arc<dyn Docker>, containers: Names, images: Names, tell: UnboundedSender<ResourceId>) {
    let mut missed = false;
    loop {
        let mut events = docker.events();
        let mut heard = false;
        while let Some(event) = events.next().await {
            if missed && !heard && !containers.values().all(|id| tell.send(id.clone()).is_ok()) {
                return;
            }
            heard = true;
            let id = match &event {
                DockerEvent::Container { name } => containers.get(name),
                DockerEvent::Image { name } => images.get(name),
            };
            if let Some(id) = id
                && tell.send(id.clone()).is_err()
            {
                return;
            }
        }
        // The daemon went away or is not there: its containers may be down with it.
        if !missed && !containers.values().all(|id| tell.send(id.clone()).is_ok()) {
            return;
        }
        missed = true;
        tokio::time::sleep(AGAIN).await;
    }
}

/// The kernel marks these tables as urgent whenever they change, a remount included; a change of propagation alone is not told.
async fn table(path: &'static str, resources: Vec<ResourceId>, tell: UnboundedSender<ResourceId>) {
    #[expect(deprecated, reason = "a File owns its descriptor, which is all that the successor's unsafe contract asks")]
    let table = std::fs::File::open(path).and_then(|file| {
        AsyncFd::try_with_interest(file, Interest::PRIORITY | Interest::ERROR).map_err(std::io::Error::from)
    });
    let table = match table {
        Ok(table) => table,
        Err(error) => {
            tracing::warn!(%error, path, "changes are found by the timer alone");
            return;
        }
    };
    loop {
        let Ok(mut ready) = table.ready(Interest::PRIORITY | Interest::ERROR).await else { return };
        ready.clear_ready();
        drop(ready);
        if !resources.iter().all(|id| tell.send(id.clone()).is_ok()) {
            return;
        }
        // Pods mount in bursts.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
