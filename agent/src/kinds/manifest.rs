//! Kubernetes objects by server-side apply, on the control plane that leads.
//!
//! A set's inventory is a ConfigMap that is written before the first object, so that a crash in between leaves nothing
//! that nobody remembers. What left the set is deleted with its UID and version as preconditions, and only where its label
//! says that it is this set's.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::Client;
use muster_catalog::kinds::manifest::ManifestSpec;
use muster_ids::Generation;
use muster_plan::{
    Skip,
    kinds::manifest::{Change, ObjectId, ObjectSeen, ObjectState, Observed},
};
use serde_json::Value;

use crate::{
    Context, Done, StepError,
    cluster::{
        api::{self, ApiError},
        inventory,
        lease::{self, Holder},
        objects::{self, Kinds},
        prune,
    },
};

pub async fn observe(ctx: &Context, spec: &ManifestSpec) -> Result<Observed, StepError> {
    let client = ctx.kube.client().await?;
    match lease::holder(&client, ctx.scope.node.as_str()).await? {
        Holder::This | Holder::Nobody => {}
        Holder::Other(leader) => return Err(StepError::Skip(Skip::NotTheLeader { leader })),
    }
    let set = Set::read(ctx, &client, spec).await?;
    let seen = set.objects.iter().map(|(id, object)| see(ctx, &client, &set, id, object));
    let objects = futures::future::try_join_all(seen).await?;
    Ok(Observed { objects, inventory: inventory::read(&client, &spec.name).await? })
}

pub async fn apply(ctx: &Context, spec: &ManifestSpec, change: &Change) -> Result<Done, StepError> {
    let client = ctx.kube.client().await?;
    if let Holder::Other(leader) = lease::ensure(&client, ctx.scope.node.as_str(), ctx.clock.now()).await? {
        return Err(StepError::Skip(Skip::NotTheLeader { leader }));
    }
    let mut set = Set::read(ctx, &client, spec).await?;
    let both = change.inventory.union(&change.prune).cloned().collect();
    inventory::write(&client, &spec.name, &both).await?;
    let notes = prune::prune(&client, &spec.name, &change.prune, ctx.scope.generation).await?;
    if spec.absent {
        inventory::forget(&client, &spec.name).await?;
        return Ok(Done { notes });
    }
    // One rank after the other, the objects of one rank at once.
    let ranks: BTreeSet<u8> = change.apply.iter().map(|(id, _)| objects::rank(&id.kind)).collect();
    for rank in ranks {
        let of_rank: Vec<&ObjectId> =
            change.apply.iter().map(|(id, _)| id).filter(|id| objects::rank(&id.kind) == rank).collect();
        set.serve(ctx, &client, &of_rank).await?;
        let applied = of_rank.iter().map(|id| write(ctx, &client, &set, id));
        futures::future::try_join_all(applied).await?;
    }
    inventory::write(&client, &spec.name, &change.inventory).await?;
    Ok(Done { notes })
}

/// The set as written, with the secrets in place.
struct Set {
    name: String,
    objects: Vec<(ObjectId, Value)>,
    kinds: Kinds,
}

impl Set {
    async fn read(ctx: &Context, client: &Client, spec: &ManifestSpec) -> Result<Self, StepError> {
        let wrong = |error: objects::ObjectsError| {
            let step = StepError::failed(format!("manifest {}: {error}", spec.name));
            match std::error::Error::source(&error) {
                Some(source) => step.because(source.to_string()),
                None => step,
            }
        };
        let mut objects = objects::parse(spec.content.as_deref().unwrap_or_default()).map_err(wrong)?;
        let names: BTreeSet<String> = objects.iter().flat_map(objects::references).collect();
        let mut secrets = BTreeMap::new();
        for name in names {
            let value = ctx.secrets.get(&name).await?;
            secrets.insert(name, value);
        }
        for object in &mut objects {
            objects::resolve(object, &secrets);
        }
        let versions = objects.iter().filter_map(|object| object["apiVersion"].as_str().map(str::to_owned));
        let kinds = Kinds::discover(client, versions).await?;
        let objects: Vec<_> = objects.into_iter().map(|object| (kinds.id(&object), object)).collect();
        let ids: Vec<_> = objects.iter().map(|(id, _)| id.clone()).collect();
        objects::check_unique(&ids).map_err(wrong)?;
        Ok(Self { name: spec.name.clone(), objects, kinds })
    }

    /// Waits for kinds that the set itself brought (a definition is served a moment after it was written).
    async fn serve(&mut self, ctx: &Context, client: &Client, ids: &[&ObjectId]) -> Result<(), StepError> {
        for _ in 0..50 {
            if ids.iter().all(|id| self.kinds.path(id).is_some()) {
                return Ok(());
            }
            let versions = self.objects.iter().map(|(id, _)| id.api_version.clone());
            self.kinds = Kinds::discover(client, versions).await?;
            ctx.clock.sleep(Duration::from_millis(200)).await;
        }
        let unknown: Vec<_> = ids.iter().filter(|id| self.kinds.path(id).is_none()).map(|id| id.to_string()).collect();
        Err(StepError::failed(format!("the cluster does not know the kind of {}", unknown.join(", ")))
            .help("is its CustomResourceDefinition in this set, or in one that this comes after?")
            .retry())
    }
}

async fn see(
    ctx: &Context,
    client: &Client,
    set: &Set,
    id: &ObjectId,
    object: &Value,
) -> Result<ObjectSeen, StepError> {
    let seen = |state| ObjectSeen { id: id.clone(), state };
    let Some(path) = set.kinds.path(id) else {
        return Ok(seen(ObjectState::KnownAfter(format!("its kind {} is defined", id.kind))));
    };
    let Some(live) = api::find(client, &path).await? else {
        return Ok(seen(absent(client, set, id, object, &path, &ctx.scope.generation.to_string()).await?));
    };
    let written_by = objects::generation_of(&live);
    if let Some(newer) = written_by.filter(|by| *by > ctx.scope.generation) {
        return Ok(seen(ObjectState::Newer(newer.to_string())));
    }
    // An older generation's mark is no difference: it is renewed with the next change.
    let generation = written_by.unwrap_or(ctx.scope.generation).to_string();
    let wanted = objects::over(objects::dressed(object, id, &set.name, &generation), &live);
    let lines = differences(client, &path, live, &wanted).await.map_err(|error| of(id, error))?;
    Ok(seen(if lines.is_empty() { ObjectState::AsWritten } else { ObjectState::Differs(lines) }))
}

/// What applying would change. Kubernetes' own controllers write too, also between our two questions: what they wrote is
/// no difference, so the questions are asked until both answers are of one version.
async fn differences(client: &Client, path: &str, mut live: Value, wanted: &Value) -> Result<Vec<String>, ApiError> {
    const MOST: usize = 5;
    for _ in 1..MOST {
        let dry = api::dry_apply(client, path, wanted).await?;
        let lines = objects::differences(&live, &dry);
        if lines.is_empty() || live["metadata"]["resourceVersion"] == dry["metadata"]["resourceVersion"] {
            return Ok(lines);
        }
        live = api::get(client, path).await?;
    }
    Ok(objects::differences(&live, &api::dry_apply(client, path, wanted).await?))
}

/// The API server's opinion of an object that is not there: an error now is better than one when it is applied.
async fn absent(
    client: &Client,
    set: &Set,
    id: &ObjectId,
    object: &Value,
    path: &str,
    generation: &str,
) -> Result<ObjectState, StepError> {
    match api::dry_apply(client, path, &objects::dressed(object, id, &set.name, generation)).await {
        Ok(_) => Ok(ObjectState::Absent),
        Err(error) if error.is_not_found() => {
            let namespace = id.namespace.clone().unwrap_or_default();
            Ok(ObjectState::KnownAfter(format!("namespace {namespace} is there")))
        }
        // A dry run is answered from what this API server remembers of ports and addresses. One that another API server
        // has set free since counts as taken until something is allocated here: only applying tells.
        Err(error) if taken(&error) => Ok(ObjectState::Absent),
        Err(error) => Err(of(id, error)),
    }
}

/// A Service's port or address is another's.
fn taken(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused { code: 422, message, .. } if message.contains("is already allocated"))
}

async fn write(ctx: &Context, client: &Client, set: &Set, id: &ObjectId) -> Result<(), StepError> {
    let Some((_, object)) = set.objects.iter().find(|(other, _)| other.same_object(id)) else {
        return Err(StepError::failed(format!("{id} was planned and is not in the set: this is a bug")));
    };
    let path = set.kinds.path(id).unwrap_or_default();
    let dressed = objects::dressed(object, id, &set.name, &ctx.scope.generation.to_string());
    for _ in 0..20 {
        match put(client, &path, &dressed, ctx.scope.generation).await {
            Ok(()) => return Ok(()),
            // A namespace that was made a moment ago, a Service that was deleted, a controller that wrote in between.
            Err(error) if error.is_not_found() || error.is_conflict() || error.passes() || taken(&error) => {
                ctx.clock.sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return Err(of(id, error)),
        }
    }
    put(client, &path, &dressed, ctx.scope.generation).await.map_err(|error| of(id, error))
}

/// Applies over what is there now. What a newer generation wrote is left alone: who leads no longer may not know it yet.
async fn put(client: &Client, path: &str, dressed: &Value, ours: Generation) -> Result<(), ApiError> {
    let Some(live) = api::find(client, path).await? else {
        return api::apply(client, path, dressed).await.map(drop);
    };
    if let Some(newer) = objects::generation_of(&live).filter(|by| *by > ours) {
        tracing::warn!(path, %newer, "an object of a newer generation was left alone");
        return Ok(());
    }
    let mut dressed = objects::over(dressed.clone(), &live);
    // What comes in between makes the write fail, and is looked at.
    dressed["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    api::apply(client, path, &dressed).await.map(drop)
}

pub(crate) fn of(id: &ObjectId, error: ApiError) -> StepError {
    match &error {
        ApiError::Refused { message, code, .. } => {
            let step = StepError::failed(format!("{id}: {message}"));
            if taken(&error) {
                step.retry().help("another Service has it: change one of the two")
            } else if *code == 409 || *code >= 429 {
                step.retry()
            } else {
                step.help("the API server refuses the object as it is written")
            }
        }
        ApiError::Unreachable(_) | ApiError::Unready | ApiError::Unreadable { .. } => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that gives these answers, in order.
    fn server(answers: &[&Value]) -> Client {
        let answers = Mutex::new(answers.iter().map(ToString::to_string).collect::<VecDeque<_>>());
        let service = tower::service_fn(move |_: Request<Body>| {
            let next = answers.lock().unwrap().pop_front().expect("one question too many");
            async move { Ok::<_, Infallible>(Response::new(Body::from(next.into_bytes()))) }
        });
        Client::new(service, "default")
    }

    fn web(version: &str, revision: Option<&str>, replicas: u32) -> Value {
        let annotations = json!({"deployment.kubernetes.io/revision": revision});
        let metadata = json!({"name": "web", "resourceVersion": version, "annotations": annotations});
        json!({"kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}})
    }

    #[tokio::test]
    async fn what_a_controller_writes_between_two_questions_is_no_difference() {
        let (before, after) = (web("1", None, 2), web("2", Some("1"), 2));
        let lines = differences(&server(&[&after, &after, &after]), "/web", before, &json!({})).await.unwrap();
        assert_eq!(lines, Vec::<String>::new());
    }

    /// An API server with this object; what was applied.
    fn holding(live: Value) -> (Client, Arc<Mutex<Vec<Value>>>) {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&applied);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (live, told) = (live.clone(), Arc::clone(&told));
            async move {
                if request.method() == http::Method::PATCH {
                    let bytes = request.into_body().collect_bytes().await.unwrap();
                    told.lock().unwrap().push(serde_json::from_slice(&bytes).unwrap());
                }
                Ok::<_, Infallible>(Response::new(Body::from(live.to_string().into_bytes())))
            }
        });
        (Client::new(service, "default"), applied)
    }

    #[tokio::test]
    async fn an_overtaken_leader_leaves_newer_content_alone() {
        let ours = Generation { epoch: 1, counter: 7 };
        for (written, times) in [("1.8", 0), ("2.1", 0), ("1.7", 1), ("1.6", 1)] {
            let live = json!({"metadata": {"resourceVersion": "5", "annotations": {objects::GENERATION: written}}});
            let (client, applied) = holding(live);
            put(&client, "/web", &json!({"metadata": {"annotations": {}}}), ours).await.unwrap();
            assert_eq!(applied.lock().unwrap().len(), times, "{written}");
            // And what comes in between makes the write fail.
            assert!(applied.lock().unwrap().iter().all(|object| object["metadata"]["resourceVersion"] == "5"));
        }
    }

    #[tokio::test]
    async fn what_was_there_before_any_set_is_remembered() {
        let ours = Generation { epoch: 1, counter: 7 };
        for (metadata, expected) in [
            (json!({"name": "coredns"}), json!("true")),
            (json!({"labels": {objects::SET: "a"}, "annotations": {objects::ADOPTED: "true"}}), json!("true")),
            (json!({"labels": {objects::SET: "a"}, "annotations": {objects::GENERATION: "1.6"}}), Value::Null),
            // Its label was taken off by hand.
            (json!({"annotations": {objects::GENERATION: "1.6"}}), Value::Null),
        ] {
            let (client, applied) = holding(json!({"metadata": metadata}));
            put(&client, "/web", &json!({"metadata": {"annotations": {}}}), ours).await.unwrap();
            assert_eq!(applied.lock().unwrap()[0]["metadata"]["annotations"][objects::ADOPTED], expected);
        }
    }

    #[tokio::test]
    async fn what_differs_in_one_version_is_a_difference() {
        let lines = differences(&server(&[&web("1", None, 2)]), "/web", web("1", None, 5), &json!({})).await.unwrap();
        assert_eq!(lines, ["~ spec.replicas 5 → 2"]);
    }

    fn refused(message: &str) -> ApiError {
        let (path, reason) = ("/web".to_owned(), "Invalid".to_owned());
        ApiError::Refused { verb: "apply", path, code: 422, reason, message: message.to_owned() }
    }

    #[test]
    fn a_port_that_is_taken_may_be_free_soon_and_what_is_wrong_stays_wrong() {
        let id = ObjectId { api_version: "v1".into(), kind: "Service".into(), namespace: None, name: "web".into() };
        let port = "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
        assert!(matches!(of(&id, refused(port)), StepError::Failed(failure) if failure.retry));
        assert!(matches!(of(&id, refused("spec.ports: Required value")), StepError::Failed(failure) if !failure.retry));
    }
}
