//! What a set's objects look like beside what is written: the API server's own answer to a dry run is compared with what
//! lives, so that defaults and other writers' fields count as it counts them.

use kube::Client;
use muster_catalog::kinds::manifest::{KEPT, ManifestSpec};
use muster_plan::kinds::manifest::{ObjectSeen, ObjectState, Observed};
use serde_json::{Value, json};

use super::{
    Object, Set, inventory, marks,
    words::{taken, takes_claims, unchangeable, words},
};
use crate::{
    Context, StepError,
    cluster::{
        api::{self, ApiError},
        differences,
    },
};

/// Reads a set and all of its live objects.
pub async fn look(ctx: &Context, client: &Client, spec: &ManifestSpec) -> Result<Observed, StepError> {
    let set = Set::read(ctx, client, spec).await?;
    let seen = set.objects.iter().map(async |object| {
        let state = see(ctx, client, &set, object).await?;
        Ok::<_, StepError>(ObjectSeen { id: object.id.clone(), state })
    });
    let objects = futures::future::try_join_all(seen).await?;
    Ok(Observed::Set { objects, inventory: inventory::read(client, &spec.name).await? })
}

async fn see(ctx: &Context, client: &Client, set: &Set, object: &Object) -> Result<ObjectState, StepError> {
    let (id, ours) = (&object.id, ctx.scope.generation);
    let wanted = match &object.wanted {
        Ok(wanted) => wanted,
        Err(refusal) => return Ok(ObjectState::Impossible(refusal.clone())),
    };
    let Some(path) = set.kinds.path(id) else {
        return Ok(ObjectState::KnownAfter(format!("its kind {} is defined", id.kind)));
    };
    let Some(live) = api::find(client, &path).await? else {
        let dressed = marks::dressed(wanted, id, &set.name, ours);
        return absent(client, &path, &dressed, id.namespace.as_deref()).await;
    };
    if marks::is_going(&live) {
        return Ok(ObjectState::KnownAfter("the one that is being deleted is gone".to_owned()));
    }
    if let Some(newer) = marks::newer(&live, ours) {
        return Ok(ObjectState::Newer(newer.to_string()));
    }
    // An older generation's mark is no difference: it is renewed with the next change.
    let generation = marks::written_by(&live).unwrap_or(ours);
    let dressed = marks::over(marks::dressed(wanted, id, &set.name, generation), &live);
    match differences(client, &path, live.clone(), &dressed).await {
        Ok(lines) if lines.is_empty() => Ok(ObjectState::AsWritten),
        Ok(lines) => Ok(ObjectState::Differs(lines)),
        Err(error) if error.code() == Some(422) => {
            let said = words(&error, wanted);
            if !is_unchangeable(client, set, object, &dressed, &said).await? {
                return Ok(ObjectState::Refused(said));
            }
            let may = set.replace.contains(&id.kind) && !KEPT.contains(&id.kind.as_str()) && !takes_claims(&live);
            Ok(if may { ObjectState::Replaced(said) } else { ObjectState::Impossible(unchangeable(id, &said, &live)) })
        }
        Err(error) => refused(error, wanted),
    }
}

/// A no is about the object; silence is about the cluster.
fn refused(error: ApiError, wanted: &Value) -> Result<ObjectState, StepError> {
    match &error {
        ApiError::Refused { .. } => Ok(ObjectState::Refused(words(&error, wanted))),
        ApiError::Unreachable(_) | ApiError::Unready | ApiError::Unreadable { .. } => Err(error.into()),
    }
}

/// Whether an object that is refused as a change would do as a new one: then a field of it cannot be changed. The API
/// server has no code for that, and every kind its own words.
async fn is_unchangeable(
    client: &Client,
    set: &Set,
    object: &Object,
    dressed: &Value,
    said: &str,
) -> Result<bool, StepError> {
    if object.id.kind == "CustomResourceDefinition" {
        // Its name is part of it: under another it will not do.
        return Ok(said.contains("immutable"));
    }
    let Some(collection) = set.kinds.collection(&object.id) else { return Ok(false) };
    let mut other = dressed.clone();
    if let Some(metadata) = other["metadata"].as_object_mut() {
        metadata.remove("name");
        metadata.insert("generateName".to_owned(), json!("muster-tries-"));
    }
    match api::dry_create(client, &collection, &other).await {
        Ok(_) => Ok(true),
        Err(error) if taken(&error) => Ok(true),
        Err(ApiError::Refused { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What applying would change. Kubernetes' own controllers write too, also between our two questions: what they wrote is
/// no difference, so the questions are asked until both answers are of one version.
async fn differences(client: &Client, path: &str, mut live: Value, wanted: &Value) -> Result<Vec<String>, ApiError> {
    const MOST: usize = 5;
    for _ in 1..MOST {
        let dry = api::dry_apply(client, path, wanted).await?;
        let lines = differences::of(&live, &dry);
        if lines.is_empty() || live["metadata"]["resourceVersion"] == dry["metadata"]["resourceVersion"] {
            return Ok(lines);
        }
        live = api::get(client, path).await?;
    }
    Ok(differences::of(&live, &api::dry_apply(client, path, wanted).await?))
}

/// The API server's opinion of an object that is not there: an error now is better than one when it is applied.
async fn absent(
    client: &Client,
    path: &str,
    dressed: &Value,
    namespace: Option<&str>,
) -> Result<ObjectState, StepError> {
    match api::dry_apply(client, path, dressed).await {
        Ok(_) => Ok(ObjectState::Absent),
        Err(error) if error.is_not_found() => {
            Ok(ObjectState::KnownAfter(format!("namespace {} is there", namespace.unwrap_or_default())))
        }
        // A dry run is answered from what this API server remembers of ports and addresses. One that another API server
        // has set free since counts as taken until something is allocated here: only applying tells.
        Err(error) if taken(&error) => Ok(ObjectState::Absent),
        Err(error) => refused(error, dressed),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, sync::Mutex};

    use http::{Request, Response};
    use kube::client::Body;

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

    #[tokio::test]
    async fn what_differs_in_one_version_is_a_difference() {
        let lines = differences(&server(&[&web("1", None, 2)]), "/web", web("1", None, 5), &json!({})).await.unwrap();
        assert_eq!(lines, ["~ spec.replicas 5 → 2"]);
    }
}
