//! One agent's stream: its generation and pause at once and whenever they change, pushes as they come, a sign of life
//! every 10 s.
//!
//! Level-triggered: what is told follows from the record, and a change that came while nobody listened is told on
//! arrival. The stream ends when a newer one of the same node opens; a revoked certificate cuts its connection.

use std::{sync::Arc, time::Duration};

use muster_ids::{Generation, NodeName};
use muster_proto::v1::{Empty, Push, push};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{context::Context, events::Level};

const ALIVE: Duration = Duration::from_secs(10);

/// The stream's end for tonic.
pub(super) type Stream = ReceiverStream<Result<Push, Status>>;

/// Opens the node's stream.
pub(super) fn open(ctx: Arc<Context>, node: NodeName) -> Stream {
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(serve(ctx, node, send));
    ReceiverStream::new(receive)
}

async fn serve(ctx: Arc<Context>, node: NodeName, send: mpsc::Sender<Result<Push, Status>>) {
    let (number, mut pushes) = ctx.hub.open(&node);
    saw(&ctx, &node);
    ctx.wake.notify_one();
    let mut changes = ctx.state.changes();
    let mut alive = tokio::time::interval(ALIVE);
    alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: Option<Generation> = None;
    // Told at every start: a pause that ended while nobody listened is over.
    let mut paused = -1;
    loop {
        let root = changes.borrow_and_update().clone();
        let now = ctx.now();
        let wanted = root.generation_for(&node);
        if told != Some(wanted) {
            told = Some(wanted);
            if !tell(&send, push::Push::Generation(wanted.into())).await {
                break;
            }
        }
        let until = root.pause_of(&node, now).map_or(0, |pause| pause.until);
        if until != paused {
            paused = until;
            if !tell(&send, push::Push::PauseUntil(until)).await {
                break;
            }
        }
        let more = tokio::select! {
            // The agent went, or its connection was cut.
            () = send.closed() => false,
            changed = changes.changed() => changed.is_ok(),
            next = pushes.recv() => match next {
                Some(Push { push: Some(push) }) => tell(&send, push).await,
                Some(Push { push: None }) => true,
                None => {
                    let _ = send.send(Err(Status::aborted("another stream of this node was opened"))).await;
                    return;
                }
            },
            _ = alive.tick() => {
                saw(&ctx, &node);
                tell(&send, push::Push::Alive(Empty {})).await
            }
        };
        if !more {
            break;
        }
    }
    ctx.hub.close(&node, number, ctx.now());
    // Its instance may be gone: worth a look at the provider.
    ctx.wake.notify_one();
    tracing::debug!(%node, "an agent's stream ended");
}

async fn tell(send: &mpsc::Sender<Result<Push, Status>>, push: push::Push) -> bool {
    send.send(Ok(Push { push: Some(push) })).await.is_ok()
}

fn saw(ctx: &Context, node: &NodeName) {
    if let Err(error) = ctx.local.saw(node, ctx.now()) {
        ctx.event(Level::Warn, Some(node), "local state", format!("cannot be written: {error}"));
    }
}
