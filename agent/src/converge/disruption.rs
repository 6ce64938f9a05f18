//! One turn for all disrupting steps that are under way at once, given back when the node is fit again.

use std::{sync::Arc, time::Duration};

use muster_plan::Skip;
use tokio::sync::Mutex;

use crate::{
    Context, StepError,
    ports::{Health, HeldTurn, Taken, Turn},
};

/// How long a node may take to be Ready again before it is said aloud.
const FIT_AGAIN: Duration = Duration::from_secs(90);

/// The turn of this converge.
pub struct Disruption {
    ctx: Context,
    health: Arc<dyn Health>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    turn: Option<Box<dyn HeldTurn>>,
    users: u32,
}

impl Disruption {
    pub fn new(ctx: Context, health: Arc<dyn Health>) -> Self {
        Self { ctx, health, held: Mutex::new(Held::default()) }
    }

    /// Takes the turn, or shares the one that is held. Pair with [`Disruption::end`].
    pub async fn begin(&self, reason: &str) -> Result<(), StepError> {
        let mut held = self.held.lock().await;
        if held.turn.as_ref().is_none_or(|turn| !turn.valid()) {
            match self.ctx.turns.take(Turn::Disrupt, reason).await {
                Ok(Taken::Granted(turn)) => held.turn = Some(turn),
                Ok(Taken::HeldBy(held_by)) => return Err(StepError::Skip(Skip::Turn { held_by })),
                // Without the coordinator nobody knows who else is disrupted: it waits.
                Err(error) => return Err(StepError::waits(format!("a turn to disrupt ({error})"))),
            }
        }
        held.users += 1;
        Ok(())
    }

    /// One user less; after the last one the turn is given back, once the node is fit. One that stays unfit keeps
    /// the turn until its lease ends, so that the next node is not broken the same way at once.
    pub async fn end(&self) -> Result<(), StepError> {
        let turn = {
            let mut held = self.held.lock().await;
            held.users = held.users.saturating_sub(1);
            if held.users > 0 {
                return Ok(());
            }
            held.turn.take()
        };
        let Some(turn) = turn else { return Ok(()) };
        if self.fit_again().await {
            turn.give().await;
            return Ok(());
        }
        Err(StepError::failed("the node is not Ready again after the disruption")
            .help("its turn is kept until it is, or its lease ends: see `muster node why` and the kubelet's log")
            .retry())
    }

    async fn fit_again(&self) -> bool {
        let pause = Duration::from_secs(1);
        let mut waited = Duration::ZERO;
        loop {
            match self.health.node_ready().await {
                Some(true) | None => return true,
                Some(false) if waited >= FIT_AGAIN => return false,
                Some(false) => {
                    self.ctx.clock.sleep(pause).await;
                    waited += pause;
                }
            }
        }
    }
}
