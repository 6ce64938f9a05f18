//! The calls of an enrolled node, each with a time limit and one retry: every one of them may be made twice.
//!
//! The retry is for the connection that ends under a call: the coordinator asks for a new one every six hours, and stops and
//! starts as it likes. Longer absences are for the caller to wait out.

use std::{future::Future, sync::Arc, time::Duration};

use muster_ids::Generation;
use muster_proto::{
    Realm,
    v1::{
        ClusterSeen, DraftAnswer, JoinOffer, JoinRequest, JoinTicket, Metrics, PullRequest, ReportRequest,
        SecretRequest, SignedCatalog, SignedOffer, TurnReply, TurnRequest, WatchRequest, agent_client::AgentClient,
    },
};
use tokio::{sync::watch, time};
use tonic::{Code, Status, transport::Channel};

use super::Enrolled;

/// Catalogs carry whole files.
pub(super) const LARGEST: usize = 64 << 20;
const CALL: Duration = Duration::from_secs(20);
/// The coordinator waits up to a minute for a control plane to mint a ticket.
const JOIN: Duration = Duration::from_secs(75);
const AGAIN: Duration = Duration::from_millis(200);

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("this node has no valid certificate yet")]
    NotEnrolled,
    /// The network, a restart, or a certificate that the coordinator does not let in: it cannot be told apart here.
    #[error("the coordinator does not answer")]
    Unreachable(#[source] Status),
    #[error("the coordinator did not answer in {0:?}")]
    Late(Duration),
    /// It answered that this node calls too often, and when to come again.
    #[error("the coordinator has no time now: {}", .0.message())]
    Later(#[source] Status),
    /// It answered, and said no.
    #[error("the coordinator refuses: {}", .0.message())]
    Refused(#[source] Status),
}

impl CallError {
    pub(super) fn of(status: Status) -> Self {
        match status.code() {
            // A stream that broke off: what the coordinator itself says comes without a cause.
            Code::Internal if std::error::Error::source(&status).is_some() => Self::Unreachable(status),
            Code::ResourceExhausted => Self::Later(status),
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Aborted => {
                Self::Unreachable(status)
            }
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => Self::Refused(status),
        }
    }
}

/// Whether the coordinator itself says that something is unavailable: the transport's own failures have a cause.
pub(super) fn said_by_coordinator(status: &Status) -> bool {
    status.code() == Code::Unavailable && std::error::Error::source(status).is_none()
}

/// An enrolled node and its channel.
pub(super) struct Member {
    pub(super) enrolled: Enrolled,
    pub(super) channel: Channel,
}

/// The calls. Cheap to clone; a rotated certificate is used from the next call on.
#[derive(Clone)]
pub struct Link {
    pub(super) member: watch::Receiver<Option<Arc<Member>>>,
    pub(super) realm: Realm,
}

impl Link {
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Who this node is, as soon as it has a valid certificate.
    pub fn enrolled(&self) -> Option<Enrolled> {
        self.member.borrow().as_ref().map(|member| member.enrolled.clone())
    }

    /// Waits until there is a valid certificate.
    pub async fn ready(&self) -> Option<Enrolled> {
        let mut member = self.member.clone();
        let ready = member.wait_for(Option::is_some).await.ok()?;
        ready.as_ref().map(|member| member.enrolled.clone())
    }

    fn client(&self) -> Result<AgentClient<Channel>, CallError> {
        let member = self.member.borrow();
        let channel = member.as_ref().ok_or(CallError::NotEnrolled)?.channel.clone();
        Ok(AgentClient::new(channel).max_decoding_message_size(LARGEST))
    }

    async fn call<T, F>(&self, limit: Duration, call: impl Fn(AgentClient<Channel>) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let once = async || match time::timeout(limit, call(self.client()?)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(CallError::of(status)),
            Err(_) => Err(CallError::Late(limit)),
        };
        match once().await {
            Err(CallError::Unreachable(status)) if !said_by_coordinator(&status) => {
                time::sleep(AGAIN).await;
                once().await
            }
            done => done,
        }
    }

    /// The node's catalog, unless `etag` still is its digest. Not believed yet: that is the cache's to decide.
    pub async fn pull(&self, facts_json: &str, etag: Option<&str>) -> Result<Option<SignedCatalog>, CallError> {
        let request = PullRequest { facts_json: facts_json.to_owned(), etag: etag.unwrap_or_default().to_owned() };
        let reply = self.call(CALL, async |mut client: AgentClient<_>| client.pull(request.clone()).await).await?;
        Ok(reply.catalog)
    }

    /// A report; without `report_json` it is of metrics alone.
    pub async fn report(
        &self,
        generation: Option<Generation>,
        etag: &str,
        report_json: Option<&str>,
        metrics: Option<Metrics>,
    ) -> Result<(), CallError> {
        let request = ReportRequest {
            generation: generation.map(Into::into),
            etag: etag.to_owned(),
            report_json: report_json.unwrap_or_default().to_owned(),
            metrics,
        };
        self.call(CALL, async |mut client: AgentClient<_>| client.report(request.clone()).await).await?;
        Ok(())
    }

    /// What the control plane that leads sees of the cluster.
    pub async fn report_cluster(&self, report_json: &str) -> Result<(), CallError> {
        let request = ClusterSeen { report_json: report_json.to_owned() };
        self.call(CALL, async |mut client: AgentClient<_>| client.report_cluster(request.clone()).await).await?;
        Ok(())
    }

    pub async fn answer_draft(&self, answer: DraftAnswer) -> Result<(), CallError> {
        self.call(CALL, async |mut client: AgentClient<_>| client.answer_draft(answer.clone()).await).await?;
        Ok(())
    }

    pub async fn offer_join(&self, offer: JoinOffer) -> Result<(), CallError> {
        self.call(CALL, async |mut client: AgentClient<_>| client.offer_join(offer.clone()).await).await?;
        Ok(())
    }

    pub async fn offer_signed(&self, offer: SignedOffer) -> Result<(), CallError> {
        self.call(CALL, async |mut client: AgentClient<_>| client.offer_signed(offer.clone()).await).await?;
        Ok(())
    }

    pub(super) async fn take_turn(&self, request: TurnRequest) -> Result<TurnReply, CallError> {
        self.call(CALL, async |mut client: AgentClient<_>| client.take_turn(request.clone()).await).await
    }

    pub(super) async fn give_turn(&self, request: TurnRequest) -> Result<(), CallError> {
        self.call(CALL, async |mut client: AgentClient<_>| client.give_turn(request.clone()).await).await?;
        Ok(())
    }

    pub(super) async fn request_join(&self, control_plane: bool) -> Result<JoinTicket, CallError> {
        let request = JoinRequest { control_plane };
        self.call(JOIN, async |mut client: AgentClient<_>| client.request_join(request).await).await
    }

    pub(super) async fn secret(&self, name: &str) -> Result<Vec<u8>, CallError> {
        let request = SecretRequest { name: name.to_owned() };
        let secret =
            self.call(CALL, async |mut client: AgentClient<_>| client.get_secret(request.clone()).await).await?;
        Ok(secret.value)
    }

    pub(super) async fn watch(&self, session: &str) -> Result<tonic::Streaming<muster_proto::v1::Push>, CallError> {
        let mut client = self.client()?;
        match time::timeout(CALL, client.watch(WatchRequest { session: session.to_owned() })).await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(status)) => Err(CallError::of(status)),
            Err(_) => Err(CallError::Late(CALL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StepError, link::turns::port_error};

    #[test]
    fn who_calls_too_often_waits_and_is_not_refused() {
        let text = "workers-1 asks for turns more than 120 times a minute: come again in 4 s";
        let error = CallError::of(Status::resource_exhausted(text));
        assert!(matches!(error, CallError::Later(_)), "{error:?}");
        let waits = StepError::from(port_error(error));
        assert!(matches!(waits, StepError::Skip(_)) && format!("{waits:?}").contains("again in 4 s"), "{waits:?}");
    }
}
