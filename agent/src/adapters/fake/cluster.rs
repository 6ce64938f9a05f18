//! An API server in memory that minds who else writes: versions, identities and preconditions, as the real one does
//! (`agent/tests/api/contract.rs` holds both to the same). What it leaves out: schemas, defaults, admission, field
//! managers, and controllers that act on what is written.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Method, Request, Response, Uri};
use kube::client::Body;
use serde_json::{Value, json};

use crate::{StepError, ports::Kube};

/// Cheap to clone; clones are one server.
#[derive(Clone, Default)]
pub struct FakeCluster(Arc<Mutex<State>>);

/// What somebody else does, once, right before a change.
type Between = Box<dyn FnOnce(&FakeCluster) + Send>;

#[derive(Default)]
struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Changes that took effect: `delete /api/v1/nodes/n-1`.
    changed: Vec<String>,
    between: Option<Between>,
}

/// A refusal: code, and Kubernetes' word for it.
type Refused = (u16, &'static str);
const NOT_FOUND: Refused = (404, "NotFound");
const THERE: Refused = (409, "AlreadyExists");
const CONFLICT: Refused = (409, "Conflict");

impl State {
    /// Stores what was written as a new version; the identity stays while the object does.
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let before = self.objects.get(path).map(|object| object["metadata"]["uid"].clone());
        object["metadata"]["uid"] = before.unwrap_or_else(|| json!(format!("uid-{}", self.version)));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// The object as it is, if that is what was asked for: a wrong version or identity is a conflict.
    fn meant(&self, path: &str, asked: &Value) -> Result<Value, Refused> {
        let live = self.objects.get(path).ok_or(NOT_FOUND)?;
        let same = |field: &str| asked[field].is_null() || asked[field] == live["metadata"][field];
        if same("uid") && same("resourceVersion") { Ok(live.clone()) } else { Err(CONFLICT) }
    }

    /// Pods of one node, or all.
    fn pods(&self, query: &str) -> Value {
        let node = query.strip_prefix("fieldSelector=spec.nodeName%3D");
        let bound = |pod: &&Value| node.is_none_or(|node| pod["spec"]["nodeName"] == node);
        let pods = self.objects.iter().filter(|(path, _)| path.contains("/pods/")).map(|(_, pod)| pod);
        json!({"kind": "PodList", "items": pods.filter(bound).collect::<Vec<_>>()})
    }

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> Result<Value, Refused> {
        let answer = match *method {
            Method::GET if path == "/api/v1/pods" => return Ok(self.pods(query)),
            Method::GET => return self.objects.get(path).cloned().ok_or(NOT_FOUND),
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
                if self.objects.contains_key(&path) { Err(THERE) } else { Ok(self.store(&path, body.clone())) }
            }
            Method::PUT => self.meant(path, &body["metadata"]).map(|_| self.store(path, body.clone())),
            // Server-side apply makes what is not there.
            Method::PATCH if query.contains("fieldManager=") && !self.objects.contains_key(path) => {
                Ok(self.store(path, body.clone()))
            }
            Method::PATCH => self.meant(path, &body["metadata"]).map(|mut live| {
                merge(&mut live, body);
                if live["metadata"]["deletionTimestamp"].is_null() || waited_for(&live) {
                    self.store(path, live)
                } else {
                    self.objects.remove(path);
                    live
                }
            }),
            Method::DELETE => self.meant(path, &body["preconditions"]).map(|live| self.delete(path, live)),
            _ => Err((405, "MethodNotAllowed")),
        };
        if answer.is_ok() {
            self.changed.push(format!("{} {path}", method.as_str().to_lowercase()));
        }
        answer
    }

    /// What somebody waits for to finish stays, marked.
    fn delete(&mut self, path: &str, mut live: Value) -> Value {
        if waited_for(&live) {
            live["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            return self.store(path, live);
        }
        self.objects.remove(path);
        json!({"kind": "Status", "status": "Success"})
    }
}

/// Whether somebody has to do something before it may go.
fn waited_for(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
}

/// JSON merge patch (RFC 7386).
fn merge(live: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *live = patch.clone();
        return;
    };
    if !live.is_object() {
        *live = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            live.as_object_mut().map(|live| live.remove(key));
        } else {
            merge(&mut live[key], value);
        }
    }
}

impl FakeCluster {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody writes an object, whatever is there.
    pub fn put(&self, path: &str, object: Value) {
        self.lock().store(path, object);
    }

    /// Somebody deletes an object, and nobody waits for anything.
    pub fn remove(&self, path: &str) {
        self.lock().objects.remove(path);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// What this does happens right before the next change takes effect: somebody was quicker.
    pub fn before_the_next_change(&self, between: impl FnOnce(&Self) + Send + 'static) {
        self.lock().between = Some(Box::new(between));
    }

    /// Changes by clients that took effect, in order: `delete /api/v1/nodes/n-1`.
    pub fn changed(&self) -> Vec<String> {
        self.lock().changed.clone()
    }

    fn respond(&self, method: &Method, uri: &Uri, body: &[u8]) -> (u16, Value) {
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        let between = if *method == Method::GET { None } else { self.lock().between.take() };
        if let Some(between) = between {
            between(self);
        }
        let body = serde_json::from_slice(body).unwrap_or_default();
        match self.lock().answer(method, path, query, &body) {
            Ok(object) => (200, object),
            Err((code, reason)) => {
                let message = format!("{path}: {reason}");
                (
                    code,
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "code": code, "reason": reason, "message": message}),
                )
            }
        }
    }

    /// A client of it.
    pub fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap_or_default();
                let (code, answer) = cluster.respond(&parts.method, &parts.uri, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(answer).expect("a code and a body"))
            }
        });
        kube::Client::new(service, "default")
    }
}

#[async_trait::async_trait]
impl Kube for FakeCluster {
    async fn client(&self) -> Result<kube::Client, StepError> {
        Ok(Self::client(self))
    }
}
