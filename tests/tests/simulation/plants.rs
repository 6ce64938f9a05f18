//! Planted faults: each turns one rule of the design off. A simulation that does not find them proves nothing.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use muster_agent::ports::{HeldTurn, PortError, Taken, Turn, Turns};

use crate::{machine::Machine, stage::Stage};

/// A fault that is put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    Nothing,
    /// Agents disrupt their nodes without asking for a turn.
    NoTurns,
    /// Control planes join etcd without asking for the turn.
    NoEtcdTurn,
    /// Agents forget which generation they had, and their disks bring an older catalog back.
    NoMark,
    /// Agents converge while they are paused.
    NoPause,
    /// A coordinator that was restored does not begin a new epoch.
    NoEpoch,
    /// The coordinator's disk loses, at a crash, what was written last.
    NoDurability,
    /// A revoked node's certificate is forgotten to be one.
    NoRevocation,
    /// Agents go on with a turn that they had once, whatever became of it.
    EndlessTurn,
    /// Agents converge the drafts that they are to plan.
    Drafts,
    /// A coordinator that crashes forgets which enrolment tokens were used.
    UsedTokens,
    /// The coordinator believes that a node speaks which it does not hear.
    Hearsay,
    /// The coordinator takes any report for one of the newest generation.
    StaleReports,
}

impl Plant {
    pub const FAULTS: [Self; 12] = [
        Self::NoTurns,
        Self::NoEtcdTurn,
        Self::NoMark,
        Self::NoPause,
        Self::NoEpoch,
        Self::NoDurability,
        Self::NoRevocation,
        Self::EndlessTurn,
        Self::Drafts,
        Self::UsedTokens,
        Self::Hearsay,
        Self::StaleReports,
    ];

    /// The invariant that is there for it: found by another one, it would show that something breaks, and not that this
    /// is seen.
    pub fn invariant(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::NoTurns | Self::EndlessTurn => "one node of a pool is disrupted at a time",
            Self::NoEtcdTurn => "etcd's members change one by one",
            Self::NoMark => "a node's generation never falls",
            Self::NoPause => "a paused node does not converge",
            Self::NoEpoch | Self::NoDurability => "the highest generation never falls",
            Self::NoRevocation => "a revocation is for good",
            Self::Drafts => "a draft is never applied",
            Self::UsedTokens => "an enrolment token is used once",
            Self::Hearsay => "what is not heard is not told to be as written",
            Self::StaleReports => "a report counts for its own generation alone",
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::NoTurns => "no-turns",
            Self::NoEtcdTurn => "no-etcd-turn",
            Self::NoMark => "no-mark",
            Self::NoPause => "no-pause",
            Self::NoEpoch => "no-epoch",
            Self::NoDurability => "no-durability",
            Self::NoRevocation => "no-revocation",
            Self::EndlessTurn => "endless-turn",
            Self::Drafts => "drafts",
            Self::UsedTokens => "used-tokens",
            Self::Hearsay => "hearsay",
            Self::StaleReports => "stale-reports",
        })
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [&[Self::Nothing][..], &Self::FAULTS].concat();
        all.into_iter().find(|plant| plant.to_string() == text).ok_or_else(|| format!("there is no plant `{text}`"))
    }
}

/// What a planted fault makes the coordinator believe, at each step.
pub fn believes(stage: &Stage) {
    let Some(ctx) = stage.coordinator() else { return };
    let views = match stage.plant {
        Plant::Hearsay | Plant::StaleReports => ctx.local.nodes().unwrap_or_default(),
        _other => return,
    };
    let root = ctx.state.snapshot();
    for (node, view) in views {
        let Some(report) = view.report else { continue };
        let wanted = root.generation_for(&node);
        if stage.plant == Plant::Hearsay {
            let _ = ctx.local.saw(&node, ctx.now());
        } else if view.generation != wanted {
            let _ = ctx.local.set_report(&node, wanted, &report);
        }
    }
}

/// The real turns, or none of some sort; the machine is told when it asked for the one that it has.
pub struct PlantedTurns {
    real: Arc<dyn Turns>,
    machine: Arc<Machine>,
    had: AtomicBool,
}

impl PlantedTurns {
    pub fn new(real: Arc<dyn Turns>, machine: Arc<Machine>) -> Self {
        Self { real, machine, had: AtomicBool::new(false) }
    }
}

#[async_trait::async_trait]
impl Turns for PlantedTurns {
    async fn take(&self, turn: Turn, reason: &str) -> Result<Taken, PortError> {
        let stage = &self.machine.stage;
        let asked = stage.clock.elapsed();
        let free = match (stage.plant, turn) {
            (Plant::NoTurns, Turn::Disrupt) | (Plant::NoEtcdTurn, Turn::Etcd) => true,
            (Plant::EndlessTurn, Turn::Disrupt) => self.had.load(Ordering::SeqCst),
            (_, Turn::Disrupt | Turn::Etcd) => false,
        };
        let taken = if free { Taken::Granted(Box::new(Free)) } else { self.real.take(turn, reason).await? };
        if turn == Turn::Disrupt && matches!(taken, Taken::Granted(_)) {
            self.had.store(true, Ordering::SeqCst);
            self.machine.has_turn(asked);
        }
        Ok(taken)
    }
}

struct Free;

#[async_trait::async_trait]
impl HeldTurn for Free {
    fn valid(&self) -> bool {
        true
    }

    async fn give(self: Box<Self>) {}
}
