//! One seed: a random history, the end of all faults, and then everything as written within a bound.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use muster_ids::Digest;

use crate::{
    history::History,
    hosts::Hosts,
    invariants::{Invariants, Revoked},
    log::Log,
    machine::Machine,
    operator::Order,
    plants::Plant,
    random,
    site::Site,
    stage::Stage,
};

/// Once faults have ended, everything is as written within this time.
const BOUND: Duration = Duration::from_secs(300);
/// And stays so.
const QUIET: Duration = Duration::from_secs(30);

/// How long a revoked node is watched, while it asks again and again.
const REFUSED: Duration = Duration::from_secs(20);

/// Where a run stands.
enum Phase {
    Trouble,
    Healing { since: Duration },
    Resting { since: Duration },
    Revoking { machine: Arc<Machine>, since: Duration },
    Refused { since: Duration },
}

/// How a run ended.
pub struct Ended {
    pub broken: Option<String>,
    pub trace: Vec<String>,
    pub digest: Digest,
    /// Simulated.
    pub took: Duration,
    pub disruptions: u32,
}

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Runs a seed in this process; one is all that a process may run.
pub fn run(seed: u64, plant: Plant) -> Ended {
    random::seed(seed);
    // A task's panic is caught by its runtime: without this nobody would hear of it.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICKED.store(true, Ordering::SeqCst);
        usual(info);
    }));
    let memory = std::path::Path::new("/dev/shm");
    let mut folder = tempfile::Builder::new();
    folder.prefix("muster-simulation-");
    let folder = if memory.is_dir() { folder.tempdir_in(memory) } else { folder.tempdir() };
    let folder = folder.expect("a temporary folder can be made");
    let stage = Stage::new(seed, plant, folder.path().to_owned());
    let all = std::env::var_os("MUSTER_SIM_LOG").is_some();
    let log = Log { stage: stage.clone(), all, spans: AtomicU64::new(0) };
    tracing::subscriber::set_global_default(log).expect("one simulation a process");
    let mut hosts = Hosts::new(stage.clone());
    let mut history = History::new(seed, &stage);
    let mut invariants = Invariants::default();
    let mut phase = Phase::Trouble;
    loop {
        if let Err(error) = hosts.step() {
            stage.breaks("no host ends by itself", error.to_string());
        }
        if PANICKED.load(Ordering::SeqCst) {
            stage.breaks("nothing panics", "see standard error");
        }
        invariants.hold(&hosts, &history.cut());
        if stage.broken().is_some() {
            break;
        }
        let now = hosts.sim.elapsed();
        match phase {
            Phase::Trouble => {
                if history.step(&mut hosts) {
                    stage.tell("all faults have ended");
                    phase = Phase::Healing { since: now };
                }
            }
            Phase::Healing { since } => {
                history.tidy(&hosts);
                match invariants.lacks(&hosts, history.last()) {
                    None => {
                        stage.tell("everything is as written");
                        invariants.rest(&hosts);
                        phase = Phase::Resting { since: now };
                    }
                    Some(lacks) if now > since + BOUND => {
                        stage.breaks("once faults end, everything is as written within five minutes", lacks);
                    }
                    Some(_) => {}
                }
            }
            Phase::Resting { since } if now > since + QUIET => {
                invariants.rested(&hosts);
                let Some(machine) = hosts.machines().pop().filter(|_| seed.is_multiple_of(2)) else { break };
                stage.orders.lock().unwrap().give(Order::Revoke { node: machine.node.to_string() });
                phase = Phase::Revoking { machine, since: now };
            }
            Phase::Revoking { ref machine, .. } if stage.orders.lock().unwrap().all_done() => {
                invariants.revoked = Some(Revoked { node: machine.node.clone(), since: stage.clock.seconds() });
                // Neither knows more by being started anew.
                hosts.crash(machine, Duration::from_secs(1));
                hosts.crash_coordinator(Duration::from_secs(3));
                phase = Phase::Refused { since: now };
            }
            Phase::Revoking { since, .. } if now > since + BOUND => {
                stage.breaks("a node can be revoked", "no answer within five minutes");
            }
            Phase::Refused { since } if now > since + REFUSED => match invariants.replaced(&hosts) {
                None => break,
                Some(lacks) if now > since + BOUND => {
                    stage.breaks("a revoked node is out of the cluster, and another in its place", lacks);
                }
                Some(_) => {}
            },
            Phase::Resting { .. } | Phase::Revoking { .. } | Phase::Refused { .. } => {}
        }
    }
    let disruptions = stage.cluster.lock().unwrap().disruptions;
    Ended {
        broken: stage.broken(),
        trace: stage.trace(),
        digest: stage.digest(),
        took: hosts.sim.elapsed(),
        disruptions,
    }
}

/// The site that every history begins with.
pub const FIRST: Site = Site { motd: 1, engine: 1, workers: 2, bad: false };
