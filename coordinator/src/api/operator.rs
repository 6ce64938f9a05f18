//! What operators call.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use muster_catalog::Diagnostics;
use muster_ids::{NodeName, OperatorName};
use muster_proto::{
    Realm,
    v1::{self, operator_server, plan_event},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{broken, local, nodes, operators, sign, state};
use crate::{
    authz, backup, backups,
    cloud::docker::Scope,
    context::Context,
    events::{Event, Level},
    local::containers,
    plan::{self, PlanError},
    publish::{self, Applied, ApplyError},
    state::Pause,
    status, wire,
};

/// The service.
pub struct OperatorApi {
    ctx: Arc<Context>,
    state_dir: std::path::PathBuf,
}

impl OperatorApi {
    pub fn new(ctx: Arc<Context>, state_dir: std::path::PathBuf) -> Self {
        Self { ctx, state_dir }
    }

    fn known(&self, name: &str) -> Result<NodeName, Status> {
        let node: NodeName = name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let known = self.ctx.current().map_err(super::published)?.blueprint.nodes.contains_key(&node);
        if known { Ok(node) } else { Err(Status::not_found(format!("there is no node {node}"))) }
    }
}

fn operator_of<T>(request: &Request<T>) -> Result<OperatorName, Status> {
    let name = authz::peer(request)?.name.parse();
    name.map_err(|_| Status::permission_denied("this call is an operator's"))
}

/// Why there is no plan, as the last message of its stream: errors of the site are data, the rest are failures.
fn plan_failed(error: PlanError, realm: &Realm) -> Result<v1::PlanEvent, Status> {
    match error {
        PlanError::Site(errors) => Ok(diagnostics_event(&errors)),
        error @ PlanError::Lost(_) => {
            let (scope, environment) = (Scope::of(realm), &realm.environment);
            let (container, volume) = (scope.name("coordinator"), containers::state_volume(&scope));
            let restore = format!(
                "restore a backup onto an empty volume: docker rm --force {container}; docker volume rm {volume}; muster coordinator restore -e {environment} --key KEY BACKUP"
            );
            let help = format!("  help: {restore}\n  help: or take down what is there: muster down -e {environment}");
            Err(Status::failed_precondition(format!("{error}\n{help}")))
        }
        PlanError::Policy(error) => Err(Status::failed_precondition(error.to_string())),
        error @ (PlanError::Cloud(_) | PlanError::Local(_) | PlanError::Library(_) | PlanError::Sign(_)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no plan could be made");
            Err(Status::unavailable(chain(&error)))
        }
    }
}

fn diagnostics_event(errors: &Diagnostics) -> v1::PlanEvent {
    let json = serde_json::to_string(errors).expect("diagnostics are texts and numbers");
    v1::PlanEvent { event: Some(plan_event::Event::DiagnosticsJson(json)) }
}

/// An error with its causes, for the operator.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn apply_failed(error: ApplyError) -> Status {
    match error {
        ApplyError::NoPlan(_) | ApplyError::NoSuchNode(_) => Status::not_found(error.to_string()),
        ApplyError::NothingToTry => Status::failed_precondition(error.to_string()),
        ApplyError::Plan(inner) => match *inner {
            PlanError::Site(errors) => Status::failed_precondition(super::diagnostics(&errors)),
            other => Status::unavailable(chain(&other)),
        },
        ApplyError::Unsafe(_)
        | ApplyError::Damaged(..)
        | ApplyError::Local(_)
        | ApplyError::Library(_)
        | ApplyError::State(_)
        | ApplyError::Secret(_) => {
            tracing::error!(error = &error as &dyn std::error::Error, "an apply failed");
            Status::internal(chain(&error))
        }
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl operator_server::Operator for OperatorApi {
    type PlanStream = ReceiverStream<Result<v1::PlanEvent, Status>>;

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<Self::PlanStream>, Status> {
        let v1::PlanRequest { site, wait } = request.into_inner();
        let files = site.ok_or_else(|| Status::invalid_argument("a plan needs a site"))?;
        let files = wire::site_files(files);
        let wait = Duration::from_secs(u64::from(if wait == 0 { 10 } else { wait.min(300) }));
        let ctx = self.ctx.clone();
        let (send, receive) = mpsc::channel(64);
        tokio::spawn(async move {
            let progress = |text: String| {
                // Progress is for people: where they read too slowly, some of it is lost.
                let _ = send.try_send(Ok(v1::PlanEvent { event: Some(plan_event::Event::Progress(text)) }));
            };
            let last = match plan::plan(&ctx, &files, wait, &progress).await {
                Ok(planned) => keep(&ctx, &planned.saved),
                Err(error) => plan_failed(error, &ctx.realm),
            };
            // The operator went: the plan is kept all the same.
            let _ = send.send(last).await;
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyReply>, Status> {
        let by = operator_of(&request)?;
        let v1::ApplyRequest { plan, only } = request.into_inner();
        let only = match only.as_str() {
            "" => None,
            name => Some(name.parse::<NodeName>().map_err(|error| Status::invalid_argument(error.to_string()))?),
        };
        self.keep_backup("before an apply").await;
        let secrets = self.ctx.state.snapshot().secrets.len();
        let applied = publish::apply(&self.ctx, &plan, only.as_ref(), by.as_str()).await.map_err(apply_failed)?;
        if self.ctx.state.snapshot().secrets.len() > secrets {
            // What is made of them is worth nothing without them: a database's data knows its password.
            self.keep_backup("after an apply that made secrets").await;
        }
        Ok(Response::new(match applied {
            Applied::Published(generation, catalog) | Applied::Already(generation, catalog) => {
                v1::ApplyReply { generation: Some(generation.into()), stale: vec![], catalog }
            }
            Applied::Stale(stale) => v1::ApplyReply { generation: None, stale, catalog: String::new() },
        }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let status = status::of(&self.ctx).map_err(|error| broken("the status cannot be read", &error))?;
        let status_json = serde_json::to_string(&status).map_err(|e| broken("the status cannot be written", &e))?;
        Ok(Response::new(v1::StatusReply { status_json }))
    }

    type EventsStream = Boxed<v1::Event>;

    async fn events(&self, request: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let v1::EventsRequest { after, follow } = request.into_inner();
        let (so_far, mut coming) = self.ctx.events.follow(after).map_err(local)?;
        let (send, receive) = mpsc::channel(64);
        let ctx = self.ctx.clone();
        tokio::spawn(async move {
            let mut last = after;
            let mut tell = so_far;
            loop {
                for event in tell.drain(..).filter(|event: &Event| event.number > last).collect::<Vec<_>>() {
                    last = event.number;
                    if send.send(Ok(event.into())).await.is_err() {
                        return;
                    }
                }
                if !follow {
                    return;
                }
                let next = tokio::select! {
                    () = send.closed() => return,
                    next = coming.recv() => next,
                };
                tell = match next {
                    Ok(event) => vec![event],
                    // Slower than the events: what was missed is read again.
                    Err(RecvError::Lagged(_)) => ctx.local.events(last, 1024).unwrap_or_default(),
                    Err(RecvError::Closed) => return,
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn kubeconfig(
        &self,
        request: Request<v1::KubeconfigRequest>,
    ) -> Result<Response<v1::KubeconfigReply>, Status> {
        let operator = operator_of(&request)?;
        sign::may(authz::peer(&request)?.operator_role(), request.get_ref().viewer)?;
        let reply = sign::kubeconfig(&self.ctx, &operator, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn pause_node(&self, request: Request<v1::PauseRequest>) -> Result<Response<v1::Empty>, Status> {
        let by = operator_of(&request)?;
        let v1::PauseRequest { node, seconds, reason } = request.into_inner();
        let node = self.known(&node)?;
        let now = self.ctx.now();
        self.ctx
            .state
            .change(|root| {
                root.pauses.retain(|_, pause| pause.until > now);
                if seconds == 0 {
                    root.pauses.remove(&node);
                } else {
                    let pause = Pause { until: now + i64::from(seconds), reason: reason.clone(), by: by.to_string() };
                    root.pauses.insert(node.clone(), pause);
                }
            })
            .map_err(state)?;
        if seconds == 0 {
            self.ctx.event(Level::Info, Some(&node), "pause ended", format!("by {by}"));
        } else {
            let text = format!("for {} by {by}: {reason}", plan::ago(i64::from(seconds)));
            self.ctx.event(Level::Warn, Some(&node), "paused", text);
        }
        Ok(Response::new(v1::Empty {}))
    }

    async fn revoke_node(&self, request: Request<v1::RevokeRequest>) -> Result<Response<v1::RevokeReply>, Status> {
        let by = operator_of(&request)?;
        let node = self.known(&request.get_ref().node)?;
        let control_plane = nodes::revoke(&self.ctx, &node, &by)?;
        // One from before would let it in again.
        self.keep_backup("after a revocation").await;
        Ok(Response::new(v1::RevokeReply { control_plane }))
    }

    async fn readmit_node(&self, request: Request<v1::ReadmitRequest>) -> Result<Response<v1::ReadmitReply>, Status> {
        let by = operator_of(&request)?;
        let node = self.known(&request.get_ref().node)?;
        let instance = nodes::readmit(&self.ctx, &node, &by).await?;
        Ok(Response::new(v1::ReadmitReply { instance }))
    }

    async fn list_operators(
        &self,
        _: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsReply>, Status> {
        Ok(Response::new(operators::list(&self.ctx)?))
    }

    async fn revoke_operator(
        &self,
        request: Request<v1::RevokeOperatorRequest>,
    ) -> Result<Response<v1::RevokeOperatorReply>, Status> {
        let by = operator_of(&request)?;
        let reply = operators::revoke(&self.ctx, &by, request.into_inner())?;
        // One from before would let it in again.
        self.keep_backup("after a revocation").await;
        Ok(Response::new(reply))
    }

    type BackupStream = Boxed<v1::Chunk>;

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let by = operator_of(&request)?;
        let recipients = backup::recipients(&request.get_ref().recipients);
        let recipients = recipients.map_err(|error| Status::invalid_argument(error.to_string()))?;
        backups::remember(&self.state_dir, &request.get_ref().recipients)
            .map_err(|error| broken("whom backups are for cannot be remembered", &error))?;
        let (send, receive) = mpsc::channel(8);
        let (folder, ctx) = (self.state_dir.clone(), self.ctx.clone());
        tokio::task::spawn_blocking(move || {
            let out = backup::Chunks::new(|data| send.blocking_send(Ok(v1::Chunk { data })).is_ok());
            let manifest = backup::Manifest { version: 1, realm: ctx.realm.clone(), taken: ctx.now() };
            match backup::write(&folder, &manifest, &recipients, out) {
                Ok(()) => ctx.event(Level::Info, None, "backup", format!("taken by {by}")),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a backup failed");
                    // The stream must not look whole: its end is an error.
                    let _ = send.blocking_send(Err(Status::internal(chain(&error))));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

impl OperatorApi {
    /// One that fails is told and holds nothing up: what an apply is for may be what mends it. `when` is for people.
    async fn keep_backup(&self, when: &'static str) {
        if !backups::wanted(&self.state_dir) {
            return;
        }
        let (folder, ctx) = (self.state_dir.clone(), self.ctx.clone());
        let taken = tokio::task::spawn_blocking(move || {
            let manifest = backup::Manifest { version: 1, realm: ctx.realm.clone(), taken: ctx.now() };
            match backups::take(&folder, &manifest) {
                Ok(Some(path)) => ctx.event(Level::Info, None, "backup", format!("kept {when}: {path}")),
                Ok(None) => {}
                Err(error) => {
                    ctx.event(Level::Warn, None, "backup", format!("none {when}: {}", chain(&error)));
                }
            }
        });
        if let Err(error) = taken.await {
            tracing::error!(%error, when, "a backup broke off");
        }
    }
}

fn keep(ctx: &Context, saved: &plan::SavedPlan) -> Result<v1::PlanEvent, Status> {
    let json = serde_json::to_string(saved).map_err(|error| broken("the plan cannot be written", &error))?;
    ctx.local.keep_plan(&saved.id, saved.made, &json).map_err(local)?;
    Ok(v1::PlanEvent { event: Some(plan_event::Event::PlanJson(json)) })
}
