//! Keeps this node's identity: enrols it once, renews its certificate at half its life, and never gives up.
//!
//! A certificate is kept on disk before it is used, and used only if it would stand before the coordinator's own verifier.
//! One that expired while the machine was off is renewed first, and no call is made with it. One that can no longer be renewed
//! is shown all the same, for an operator may have readmitted the node, and leaves the provider's proof: a new token beside it
//! enrols the node again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use muster_ids::Digest;
use muster_proto::{
    Clock, Realm,
    tls::{self, Credentials, TlsError, Trust, client, io::Dial},
    v1::{Certificate, EnrolRequest, RenewRequest, enrolment_client::EnrolmentClient},
};
use tokio::{sync::watch, time};
use tonic::{Code, transport::Channel};

use super::{
    AgentConfig, Backoff, CallError, ConfigError, CredentialStore, Enrolled, Instance, Jitter, Link, StoredError,
    calls::Member,
    credentials::{Granted, Wish},
};

const CALL: Duration = Duration::from_secs(30);

/// Why there is no new certificate; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the proof of what this machine is cannot be used")]
    Instance(#[from] ConfigError),
    #[error("the identity cannot be kept")]
    Stored(#[from] StoredError),
    #[error("the certificate would not stand before the coordinator")]
    Tls(#[from] TlsError),
    #[error("no certificate was given")]
    Call(#[from] CallError),
    #[error("the coordinator answered with a CA that is not the pinned one")]
    OtherCa,
    #[error("the coordinator took this machine for {found}, and it is {expected}")]
    OtherNode { found: String, expected: String },
}

impl KeeperError {
    fn denied(&self) -> bool {
        match self {
            Self::Call(CallError::Refused(status)) => status.code() == Code::PermissionDenied,
            Self::Tls(TlsError::Rejected(_)) => true,
            Self::Call(
                CallError::NotEnrolled | CallError::Unreachable(_) | CallError::Late(_) | CallError::Later(_),
            )
            | Self::Instance(_)
            | Self::Stored(_)
            | Self::Tls(_)
            | Self::OtherCa
            | Self::OtherNode { .. } => false,
        }
    }
}

/// The task that owns the identity.
pub struct Keeper {
    address: String,
    pin: Digest,
    realm: Realm,
    store: CredentialStore,
    instance: PathBuf,
    dial: Dial,
    clock: Arc<dyn Clock>,
    jitter: Jitter,
    enrolled: Option<Enrolled>,
    member: watch::Sender<Option<Arc<Member>>>,
}

impl Keeper {
    /// Loads the identity, where there is one. `instance` is the file of the provider's proof.
    pub fn new(
        config: &AgentConfig,
        store: CredentialStore,
        instance: PathBuf,
        dial: Dial,
        clock: Arc<dyn Clock>,
        jitter: Jitter,
    ) -> Result<Self, StoredError> {
        let realm = config.realm();
        let enrolled = match store.load(&realm) {
            Ok(enrolled) => enrolled,
            // A file that is cut short or older than its format is as good as none: the provider's proof may still help.
            Err(error @ (StoredError::Json(_) | StoredError::Credentials(_) | StoredError::Certificate(_))) => {
                tracing::error!(error = &error as &dyn std::error::Error, "this node's identity is damaged");
                None
            }
            Err(error) => return Err(error),
        };
        let (member, _) = watch::channel(None);
        let (address, pin) = (config.coordinator.clone(), config.ca_pin);
        Ok(Self { address, pin, realm, store, instance, dial, clock, jitter, enrolled, member })
    }

    /// Who this node is, valid certificate or not: what an offline start needs.
    pub fn enrolled(&self) -> Option<&Enrolled> {
        self.enrolled.as_ref()
    }

    /// The calls that this identity can make.
    pub fn link(&self) -> Link {
        Link { member: self.member.subscribe(), realm: self.realm.clone() }
    }

    /// Runs for as long as the agent does.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300), self.jitter.clone());
        let mut said = String::new();
        loop {
            match self.step().await {
                Ok(due) => {
                    backoff.reset();
                    said.clear();
                    self.clock.sleep_until(due).await;
                }
                Err(error) => {
                    let text = format!("{error:?}");
                    if text != said {
                        tracing::warn!(error = &error as &dyn std::error::Error, "no certificate yet; trying again");
                        said = text;
                    }
                    time::sleep(backoff.wait()).await;
                }
            }
        }
    }

    /// Does what is due now, and says when the next thing is, in seconds since the epoch.
    async fn step(&mut self) -> Result<i64, KeeperError> {
        let Some(enrolled) = self.enrolled.clone() else {
            self.enrol().await?;
            return Ok(self.clock.now());
        };
        let now = self.clock.now();
        let expired = now > enrolled.not_after;
        if expired {
            self.member.send_replace(None);
        } else if self.member.borrow().is_none() {
            self.publish(&enrolled)?;
        }
        let due = enrolled.not_before + (enrolled.not_after - enrolled.not_before) / 2;
        if now < due {
            // A tenth of a life apart, so that nodes born together do not renew together.
            let spread = (enrolled.not_after - enrolled.not_before).unsigned_abs() / 10;
            let extra = self.jitter.part(Duration::from_secs(spread), 0.0, 1.0).as_secs();
            return Ok(due.saturating_add_unsigned(extra));
        }
        // Such a one is refused with the connection, where no word comes back.
        let late = now > enrolled.not_after.saturating_add_unsigned(tls::EXPIRED_FOR.as_secs());
        match self.renew(&enrolled).await {
            Err(error) if expired && (late || error.denied()) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the expired certificate was not renewed; enrolling anew"
                );
                self.enrol().await.map_err(|_| error)?;
            }
            done => done?,
        }
        Ok(self.clock.now())
    }

    fn connect(&self, shown: Option<Credentials>, trust: Trust) -> Result<Channel, TlsError> {
        let config = client::config(shown, trust, &self.realm, self.clock.clone())?;
        client::channel(&self.address, watch::channel(config).1, self.dial.clone())
    }

    fn publish(&self, enrolled: &Enrolled) -> Result<(), KeeperError> {
        let credentials = enrolled.credentials.clone();
        let trust = Trust::Ca(credentials.ca.clone());
        let channel = self.connect(Some(credentials), trust)?;
        self.member.send_replace(Some(Arc::new(Member { enrolled: enrolled.clone(), channel })));
        Ok(())
    }

    async fn enrol(&mut self) -> Result<(), KeeperError> {
        let Instance { token, instance, node } = Instance::load(&self.instance)?;
        let wish = self.store.pending()?;
        let mut client = EnrolmentClient::new(self.connect(None, Trust::Pin(self.pin))?);
        let request = EnrolRequest { token, instance, csr_pem: wish.csr_pem.clone() };
        let answer = within(client.enrol(request)).await?;
        let granted = self.judge(&wish, answer)?;
        if granted.enrolled.node != node {
            let (found, expected) = (granted.enrolled.node.to_string(), node.to_string());
            return Err(KeeperError::OtherNode { found, expected });
        }
        self.keep(granted)?;
        tracing::info!(%node, "enrolled");
        Ok(())
    }

    async fn renew(&mut self, enrolled: &Enrolled) -> Result<(), KeeperError> {
        let wish = Wish::new()?;
        let credentials = enrolled.credentials.clone();
        let trust = Trust::Ca(credentials.ca.clone());
        let mut client = EnrolmentClient::new(self.connect(Some(credentials), trust)?);
        let answer = within(client.renew(RenewRequest { csr_pem: wish.csr_pem.clone() })).await?;
        let granted = self.judge(&wish, answer)?;
        if granted.enrolled.node != enrolled.node {
            let (found, expected) = (granted.enrolled.node.to_string(), enrolled.node.to_string());
            return Err(KeeperError::OtherNode { found, expected });
        }
        self.keep(granted)?;
        tracing::info!(node = %enrolled.node, "the certificate was renewed");
        Ok(())
    }

    /// Whether the answer is one to believe.
    fn judge(&self, wish: &Wish, answer: Certificate) -> Result<Granted, KeeperError> {
        let granted = wish.granted(answer, &self.realm)?;
        if tls::pin(&granted.enrolled.credentials.ca) != self.pin {
            return Err(KeeperError::OtherCa);
        }
        Ok(granted)
    }

    /// Keeps it on disk, then shows it to everybody. A certificate that would not stand is neither kept nor shown.
    fn keep(&mut self, granted: Granted) -> Result<(), KeeperError> {
        let credentials = granted.enrolled.credentials.clone();
        let trust = Trust::Ca(credentials.ca.clone());
        client::config(Some(credentials), trust, &self.realm, self.clock.clone())?;
        self.store.save(&granted)?;
        self.publish(&granted.enrolled)?;
        self.enrolled = Some(granted.enrolled);
        Ok(())
    }
}

async fn within(
    call: impl Future<Output = Result<tonic::Response<Certificate>, tonic::Status>>,
) -> Result<Certificate, CallError> {
    match time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(CallError::of(status)),
        Err(_) => Err(CallError::Late(CALL)),
    }
}
