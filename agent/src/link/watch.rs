//! The stream of pushes. A push only wakes: what to do is decided by looking at the state.
//!
//! The stream is opened anew when it ends, and when this node's certificate was renewed, so that none outlives the
//! certificate that it was opened with.

use std::time::Duration;

use muster_ids::Generation;
use muster_proto::v1::{Draft, Mint, Push, Sign, push};
use tokio::{sync::mpsc, time};

use super::{Backoff, CallError, Jitter, Link};

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Pushed {
    /// The stream stands; the coordinator's newest generation follows.
    Connected,
    /// A generation to be pulled.
    Generation(Generation),
    /// A catalog to be planned.
    Draft(Draft),
    Mint(Mint),
    Sign(Sign),
    SignViewer(Sign),
    /// Converge now.
    Converge,
    /// Do not converge before this time, in seconds since the epoch; 0: go on.
    Pause(i64),
}

fn pushed(push: Push) -> Option<Pushed> {
    match push.push? {
        push::Push::Generation(generation) => Some(Pushed::Generation(generation.into())),
        push::Push::Draft(draft) => Some(Pushed::Draft(draft)),
        push::Push::Mint(mint) => Some(Pushed::Mint(mint)),
        push::Push::Sign(sign) => Some(Pushed::Sign(sign)),
        push::Push::SignViewer(sign) => Some(Pushed::SignViewer(sign)),
        push::Push::Alive(_) => None,
        push::Push::Converge(_) => Some(Pushed::Converge),
        push::Push::PauseUntil(until) => Some(Pushed::Pause(until)),
    }
}

/// Follows the coordinator until nobody listens any more.
pub async fn follow(link: Link, session: String, jitter: Jitter, pushes: mpsc::Sender<Pushed>) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15), jitter);
    let mut said = false;
    loop {
        let wait = tokio::select! {
            () = pushes.closed() => return,
            end = once(&link, &session, &pushes) => match end {
                // A renewed certificate: at once.
                Ok(End::Renewed) => Duration::ZERO,
                Ok(End::Ended { heard }) => {
                    if heard {
                        backoff.reset();
                        said = false;
                    }
                    backoff.wait()
                }
                Err(error) => {
                    if !said {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the coordinator pushes nothing; trying again");
                        said = true;
                    }
                    backoff.wait()
                }
            },
        };
        time::sleep(wait).await;
    }
}

enum End {
    Renewed,
    Ended { heard: bool },
}

async fn once(link: &Link, session: &str, pushes: &mpsc::Sender<Pushed>) -> Result<End, CallError> {
    let mut member = link.member.clone();
    if link.ready().await.is_none() {
        return Err(CallError::NotEnrolled);
    }
    member.borrow_and_update();
    let mut stream = link.watch(session).await?;
    tracing::info!("connected to the coordinator");
    // A closed channel is an agent that stops: `follow` sees it.
    let _ = pushes.send(Pushed::Connected).await;
    let mut heard = false;
    loop {
        tokio::select! {
            changed = member.changed() => if changed.is_ok() {
                return Ok(End::Renewed);
            } else {
                return Err(CallError::NotEnrolled);
            },
            message = stream.message() => match message {
                Ok(Some(push)) => {
                    heard = true;
                    if let Some(pushed) = pushed(push) {
                        let _ = pushes.send(pushed).await;
                    }
                }
                Ok(None) => return Ok(End::Ended { heard }),
                Err(status) => {
                    tracing::info!(reason = status.message(), "the stream of pushes ended");
                    return Ok(End::Ended { heard });
                }
            },
        }
    }
}
