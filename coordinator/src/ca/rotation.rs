//! The coordinator's own certificate: a new one at half of the old one's life, published when it stands before its own
//! clients' verifier. New connections show it; nothing is restarted.

use std::sync::Arc;

use muster_proto::{
    Clock, Revocations,
    tls::{TlsError, server},
};
use tokio::sync::watch;

use super::{Authority, CaError};

/// Seconds after a failure.
const AGAIN: i64 = 60;

/// The sending end of the coordinator's identity.
pub struct Rotation {
    authority: Arc<Authority>,
    revocations: watch::Receiver<Arc<Revocations>>,
    clock: Arc<dyn Clock>,
    published: watch::Sender<server::Identity>,
    renew_at: i64,
}

/// Why no new certificate was published.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("the coordinator got no certificate")]
    Issue(#[from] CaError),
    #[error("the coordinator's new certificate was not published")]
    Publish(#[from] TlsError),
}

/// Seconds since the epoch at which half of the time between the two is over.
pub const fn half_life(from: i64, to: i64) -> i64 {
    from + (to - from) / 2
}

impl Rotation {
    /// The first certificate, and the end that servers watch.
    pub fn start(
        authority: Arc<Authority>,
        revocations: watch::Receiver<Arc<Revocations>>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, watch::Receiver<server::Identity>), RotationError> {
        let identity = fresh(&authority, &revocations, &clock)?;
        let renew_at = half_life(clock.now(), identity.not_after());
        let (published, watched) = watch::channel(identity);
        Ok((Self { authority, revocations, clock, published, renew_at }, watched))
    }

    /// Renews now.
    pub fn renew(&mut self) -> Result<(), RotationError> {
        let identity = fresh(&self.authority, &self.revocations, &self.clock)?;
        self.renew_at = half_life(self.clock.now(), identity.not_after());
        self.published.send_replace(identity);
        Ok(())
    }

    /// Renews whenever it is time, for as long as somebody watches.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.published.closed() => return,
                () = self.clock.sleep_until(self.renew_at) => {}
            }
            match self.renew() {
                Ok(()) => tracing::info!("the coordinator has a new certificate"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the coordinator's certificate was not renewed"
                    );
                    self.renew_at = self.clock.now() + AGAIN;
                }
            }
        }
    }
}

fn fresh(
    authority: &Authority,
    revocations: &watch::Receiver<Arc<Revocations>>,
    clock: &Arc<dyn Clock>,
) -> Result<server::Identity, RotationError> {
    let credentials = authority.issue_own()?;
    Ok(server::Identity::new(credentials, authority.realm(), revocations.clone(), clock.clone())?)
}
