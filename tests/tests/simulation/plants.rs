//! Planted faults: each turns one rule of the design off. A simulation that does not find them proves nothing.

use std::{fmt, str::FromStr};

use muster_agent::ports::{HeldTurn, PortError, Taken, Turn, Turns};

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
}

impl Plant {
    pub const FAULTS: [Self; 7] = [
        Self::NoTurns,
        Self::NoEtcdTurn,
        Self::NoMark,
        Self::NoPause,
        Self::NoEpoch,
        Self::NoDurability,
        Self::NoRevocation,
    ];
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

/// Turns, or none of some sort.
pub struct PlantedTurns {
    pub real: std::sync::Arc<dyn Turns>,
    pub plant: Plant,
}

#[async_trait::async_trait]
impl Turns for PlantedTurns {
    async fn take(&self, turn: Turn, reason: &str) -> Result<Taken, PortError> {
        match (self.plant, turn) {
            (Plant::NoTurns, Turn::Disrupt) | (Plant::NoEtcdTurn, Turn::Etcd) => Ok(Taken::Granted(Box::new(Free))),
            (_, Turn::Disrupt | Turn::Etcd) => self.real.take(turn, reason).await,
        }
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
