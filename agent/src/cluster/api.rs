//! The Kubernetes API, as JSON by path. Most of what is written here is a handful of small fixed objects, and a path beside
//! a JSON table reads better than twenty generated types.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use kube::Client;
use serde_json::Value;

use super::MANAGER;
use crate::StepError;

/// One call that was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing answered, or no longer.
    #[error("the API server does not answer")]
    Unreachable(#[source] Box<kube::Error>),
    /// It answers, but has just begun or is about to end: its noes mean nothing yet.
    #[error("the API server is not ready")]
    Unready,
    /// It answered no; `reason` is Kubernetes' word for it.
    #[error("the API server refuses {verb} {path}: {message}")]
    Refused { verb: &'static str, path: String, code: u16, reason: String, message: String },
    #[error("the API server's answer to {path} cannot be read")]
    Unreadable {
        path: String,
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApiError {
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unreachable(_) | Self::Unready | Self::Unreadable { .. } => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Somebody else wrote in between, or the object is there already.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Worth trying again in a moment: nothing answered, or it is overloaded or starting.
    pub fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unready => true,
            Self::Refused { code, .. } => matches!(code, 429 | 500 | 502 | 503 | 504),
            Self::Unreadable { .. } => false,
        }
    }

    pub(crate) fn of(verb: &'static str, path: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                verb,
                path: path.to_owned(),
                code: status.code,
                reason: status.reason.clone(),
                message: with_causes(&status),
            },
            error @ (kube::Error::SerdeError(_) | kube::Error::FromUtf8(_)) => {
                Self::Unreadable { path: path.to_owned(), source: Box::new(error) }
            }
            error => Self::Unreachable(Box::new(error)),
        }
    }
}

/// The message with what is behind it: of an eviction it names the disruption budget, which the message does not.
fn with_causes(status: &kube::core::Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let causes = causes.map(|cause| cause.message.as_str()).filter(|cause| !cause.is_empty());
    let missing = causes.filter(|cause| !status.message.contains(cause)).collect::<Vec<_>>();
    if missing.is_empty() { status.message.clone() } else { format!("{} ({})", status.message, missing.join("; ")) }
}

impl From<ApiError> for StepError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unreachable(source) => {
                tracing::debug!(error = %source, "the API server does not answer");
                Self::waits("the API server to answer")
            }
            ApiError::Unready => Self::waits("the API server to be ready"),
            // A newborn cluster's API server answers a moment before it has made the roles of its own.
            ApiError::Refused { code: 403, message, .. }
                if message.split_once("RBAC: ").is_some_and(|(_, roles)| roles.contains("not found")) =>
            {
                tracing::debug!(message, "the API server lacks roles");
                Self::waits("the API server to make its own roles")
            }
            ApiError::Refused { code, .. } => {
                let step = Self::failed(error.to_string());
                if matches!(code, 403 | 409 | 429 | 500..=599) { step.retry() } else { step }
            }
            ApiError::Unreadable { path, source } => {
                Self::failed(format!("the API server's answer to {path} cannot be read")).because(source).retry()
            }
        }
    }
}

/// How long one call may take; longer than the API server's own limit for a webhook or a slow etcd.
const ANSWER: Duration = Duration::from_secs(60);

async fn call(
    client: &Client,
    verb: &'static str,
    method: Method,
    path: &str,
    media: &str,
    body: Vec<u8>,
) -> Result<Value, ApiError> {
    let ask = async || {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(http::header::CONTENT_TYPE, media)
            .body(body.clone())
            .expect("paths are made of names that are valid in URLs");
        answered(client.request(request)).await.map_err(|error| ApiError::of(verb, path, error))
    };
    match ask().await {
        // An API server that has just begun does not know its roles yet: it forbids everything, and says that it is not
        // ready. Where it says that it is, it may have become so since.
        Err(ApiError::Refused { code: 403, .. }) if is_ready(client).await => ask().await,
        Err(ApiError::Refused { code: 403, .. }) => Err(ApiError::Unready),
        answer => answer,
    }
}

/// A connection whose other end went without a word says nothing for a quarter of an hour, and the converge hangs on it.
async fn answered<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = |_| kube::Error::Service(format!("no answer within {} s", ANSWER.as_secs()).into());
    tokio::time::timeout(ANSWER, asked).await.map_err(late)?
}

const JSON: &str = "application/json";

pub async fn get(client: &Client, path: &str) -> Result<Value, ApiError> {
    call(client, "get", Method::GET, path, JSON, Vec::new()).await
}

/// None where there is no such object.
pub async fn find(client: &Client, path: &str) -> Result<Option<Value>, ApiError> {
    match get(client, path).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// `path` is the collection's.
pub async fn create(client: &Client, path: &str, object: &Value) -> Result<Value, ApiError> {
    call(client, "create", Method::POST, path, JSON, object.to_string().into_bytes()).await
}

/// Whether the collection would take the object as a new one; nothing is written.
pub async fn dry_create(client: &Client, path: &str, object: &Value) -> Result<Value, ApiError> {
    create(client, &format!("{path}?dryRun=All"), object).await
}

/// Replaces the whole object; its `resourceVersion` guards the write.
pub async fn replace(client: &Client, path: &str, object: &Value) -> Result<Value, ApiError> {
    call(client, "update", Method::PUT, path, JSON, object.to_string().into_bytes()).await
}

/// JSON merge patch.
pub async fn merge(client: &Client, path: &str, patch: &Value) -> Result<Value, ApiError> {
    call(client, "patch", Method::PATCH, path, "application/merge-patch+json", patch.to_string().into_bytes()).await
}

/// Server-side apply as manager `muster`, taking fields over from others.
pub async fn apply(client: &Client, path: &str, object: &Value) -> Result<Value, ApiError> {
    apply_as(client, path, object, false).await
}

/// What [`apply`] would make of the object; nothing is written.
pub async fn dry_apply(client: &Client, path: &str, object: &Value) -> Result<Value, ApiError> {
    apply_as(client, path, object, true).await
}

async fn apply_as(client: &Client, path: &str, object: &Value, dry: bool) -> Result<Value, ApiError> {
    let dry = if dry { "&dryRun=All" } else { "" };
    let url = format!("{path}?fieldManager={MANAGER}&force=true{dry}");
    call(client, "apply", Method::PATCH, &url, "application/apply-patch+yaml", object.to_string().into_bytes()).await
}

/// Deletes with preconditions where given; no error where it is gone already.
pub async fn delete(client: &Client, path: &str, options: &Value) -> Result<(), ApiError> {
    match call(client, "delete", Method::DELETE, path, JSON, options.to_string().into_bytes()).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the API server says that it is ready to serve.
pub async fn is_ready(client: &Client) -> bool {
    let request = Request::get("/readyz").body(Vec::new()).expect("a fixed request");
    matches!(answered(client.request_text(request)).await, Ok(text) if text == "ok")
}

/// The status code that the API server gave for a path, without reading more: for waits.
pub async fn answers(client: &Client, path: &str) -> Option<StatusCode> {
    let request = Request::get(path).body(kube::client::Body::empty()).ok()?;
    client.send(request).await.ok().map(|response| response.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_never_answers_is_unreachable_after_a_minute() {
        let service = tower::service_fn(|_: Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
        });
        let client = Client::new(service, "default");
        let error = tokio::time::timeout(ANSWER * 2, get(&client, "/api/v1/nodes")).await.unwrap().unwrap_err();
        assert!(matches!(error, ApiError::Unreachable(_)) && error.passes());
    }

    /// Answers as an API server whose `/readyz` says `ready`, and which forbids its first `forbids` calls of anything else.
    fn forbidding(ready: &'static str, forbids: usize) -> Client {
        let left = std::sync::Arc::new(std::sync::Mutex::new(forbids));
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let mut left = left.lock().unwrap();
            let (code, text) = match request.uri().path() {
                "/readyz" if ready == "ok" => (200, ready.to_owned()),
                "/readyz" => (500, ready.to_owned()),
                _other if *left > 0 => {
                    *left -= 1;
                    let message = "nodes is forbidden: User \"kubernetes-admin\" cannot list resource \"nodes\"";
                    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status":
                        "Failure", "message": message, "reason": "Forbidden", "code": 403});
                    (403, status.to_string())
                }
                _other => (200, "{}".to_owned()),
            };
            let answer = http::Response::builder().status(code).body(kube::client::Body::from(text.into_bytes()));
            std::future::ready(Ok::<_, std::convert::Infallible>(answer.unwrap()))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_no_counts_only_from_an_api_server_that_is_ready() {
        let ask = async |client: Client| get(&client, "/api/v1/nodes").await;
        let begins = ask(forbidding("[-]informer-sync failed", 1)).await.unwrap_err();
        assert!(matches!(begins, ApiError::Unready) && matches!(begins.into(), StepError::Skip(_)));
        ask(forbidding("ok", 1)).await.unwrap();
        let means_it = ask(forbidding("ok", 2)).await.unwrap_err();
        assert_eq!(means_it.code(), Some(403));
    }

    #[test]
    fn a_newborn_api_server_is_waited_for_and_one_that_forbids_is_not() {
        let refused = |message: &str| {
            let (path, reason) = ("/api/v1/nodes".to_owned(), "Forbidden".to_owned());
            StepError::from(ApiError::Refused { verb: "get", path, code: 403, reason, message: message.to_owned() })
        };
        let forbidden = "nodes is forbidden: User \"kubernetes-admin\" cannot list resource \"nodes\"";
        let newborn = format!("{forbidden}: RBAC: clusterrole.rbac.authorization.k8s.io \"cluster-admin\" not found");
        assert!(matches!(refused(&newborn), StepError::Skip(_)));
        assert!(matches!(refused(forbidden), StepError::Failed(_)));
    }
}
