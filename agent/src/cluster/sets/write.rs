//! Writing a set: rank after rank, the objects of one rank at once. What is refused stops itself and what needs it.

use std::{collections::BTreeSet, time::Duration};

use kube::Client;
use muster_catalog::kinds::manifest::{ManifestSpec, ObjectId};
use muster_ids::Generation;
use muster_plan::kinds::manifest::{Refusal, Write, Writing};
use serde_json::{Value, json};

use super::{
    Set, inventory, marks,
    words::{refusal, taken},
};
use crate::{
    Context, Done, StepError,
    cluster::{
        api::{self, ApiError},
        objects,
    },
};

/// How long an object that is being deleted may take: its pods have half a minute by default.
const GOING: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(200);

/// How the writing of one object ended, where it did not end well.
#[derive(Debug)]
enum Left {
    Refused {
        refusal: Refusal,
        /// It may go better in a moment.
        passes: bool,
    },
    Newer(Generation),
    /// Nobody answers: the whole set waits.
    Silent(ApiError),
}

/// Writes what has to be written of a set.
pub async fn write(ctx: &Context, client: &Client, spec: &ManifestSpec, writing: &Writing) -> Result<Done, StepError> {
    let ours = ctx.scope.generation;
    let mut set = Set::read(ctx, client, spec).await?;
    inventory::write(client, &spec.name, &writing.inventory, ours).await?;
    let mut ends = Ends::default();
    ends.refused.extend(writing.refused.iter().map(|(id, refusal)| (id.clone(), refusal.clone(), false)));
    let ranks: BTreeSet<u8> = writing.writes.iter().map(|write| objects::rank(&write.id.kind)).collect();
    let mut patient = true;
    for rank in ranks {
        let of_rank: Vec<&Write> =
            writing.writes.iter().filter(|write| objects::rank(&write.id.kind) == rank).collect();
        if patient && rank > objects::rank("CustomResourceDefinition") {
            // Definitions are written by now, and what they define is waited for once.
            let hopeless = set.undefined(&ends.refused);
            set.serve(ctx, client, true, &hopeless).await?;
            patient = false;
        }
        let written = of_rank.into_iter().map(async |write| {
            let id = set.known(&write.id);
            if let Some(what) = ends.missing(client, &set, &id).await? {
                return Ok((id, Err(Err(what))));
            }
            let end = one(ctx, client, &set, &id, write.replace).await;
            Ok::<_, StepError>((id, end.map_err(Ok)))
        });
        let written = futures::future::try_join_all(written).await?;
        for (id, end) in written {
            match end {
                Ok(()) => {}
                Err(Err(what)) => ends.waits.push((id, what)),
                Err(Ok(Left::Newer(by))) => ends.newer.push((id, by)),
                Err(Ok(Left::Refused { refusal, passes })) => ends.refused.push((id, refusal, passes)),
                Err(Ok(Left::Silent(error))) => return Err(error.into()),
            }
        }
    }
    // With the namespaces of kinds that were not known before.
    let known = set.ids();
    let stale = |old: &&ObjectId| !known.contains(old) && known.iter().any(|id| old.names(id));
    let rest = writing.inventory.iter().filter(|old| !stale(old)).cloned();
    inventory::write(client, &spec.name, &rest.chain(known.iter().cloned()).collect(), ours).await?;
    ends.into_result(writing, ours)
}

/// What did not end well.
#[derive(Default)]
struct Ends {
    /// With whether it may go better in a moment.
    refused: Vec<(ObjectId, Refusal, bool)>,
    /// What was not tried, and what it waits for.
    waits: Vec<(ObjectId, String)>,
    newer: Vec<(ObjectId, Generation)>,
}

impl Ends {
    /// What an object needs of what was refused before it.
    async fn missing(&self, client: &Client, set: &Set, id: &ObjectId) -> Result<Option<String>, StepError> {
        for (refused, _, _) in &self.refused {
            let needed = match refused.kind.as_str() {
                "Namespace" if id.namespace.as_ref() == Some(&refused.name) => {
                    api::find(client, &format!("/api/v1/namespaces/{}", refused.name)).await?.is_none()
                }
                "CustomResourceDefinition" => set.kinds.path(id).is_none() && set.defines(refused, id),
                _other => false,
            };
            if needed {
                return Ok(Some(refused.to_string()));
            }
        }
        Ok(None)
    }

    fn into_result(self, writing: &Writing, ours: Generation) -> Result<Done, StepError> {
        if let Some((_, first, _)) = self.refused.first() {
            let parts: Vec<String> =
                self.refused.iter().map(|(id, refusal, _)| format!("{id}: {}", refusal.why)).collect();
            let mut text = match parts.as_slice() {
                [one] => one.clone(),
                all => format!("{} objects are refused: {}", all.len(), all.join("; ")),
            };
            if !self.waits.is_empty() {
                let waits: Vec<String> = self.waits.iter().map(|(id, what)| format!("{id} waits for {what}")).collect();
                text.push_str(&format!("; {}", waits.join(", ")));
            }
            let mut step = StepError::failed(text);
            if let Some(help) = &first.help {
                step = step.help(help);
            }
            return Err(if self.refused.iter().any(|(_, _, passes)| *passes) { step.retry() } else { step });
        }
        // Seen before, or met while it was written.
        let seen = writing.newer.first().map(|(id, by)| (id, by.clone()));
        let met = self.newer.first().map(|(id, by)| (id, by.to_string()));
        match seen.or(met) {
            Some((id, by)) => Err(StepError::waits(format!("a newer catalog than {ours}: generation {by} wrote {id}"))),
            None => Ok(Done::default()),
        }
    }
}

impl Set {
    /// An object by the name that it had when the change was decided.
    fn known(&self, id: &ObjectId) -> ObjectId {
        let same = self.objects.iter().find(|object| object.id.same_object(id));
        let named = || self.objects.iter().find(|object| id.names(&object.id));
        same.or_else(named).map_or_else(|| id.clone(), |object| object.id.clone())
    }

    /// Objects whose kind's definition was refused.
    fn undefined(&self, refused: &[(ObjectId, Refusal, bool)]) -> Vec<ObjectId> {
        let ids = self.objects.iter().map(|object| &object.id);
        ids.filter(|id| refused.iter().any(|(definition, _, _)| self.defines(definition, id))).cloned().collect()
    }

    /// Whether a definition of this set is the one of an object's kind.
    fn defines(&self, definition: &ObjectId, id: &ObjectId) -> bool {
        let object = self.objects.iter().find(|object| object.id.same_object(definition));
        let spec = object.map(|object| &object.written["spec"]);
        spec.is_some_and(|spec| spec["group"] == id.group() && spec["names"]["kind"] == id.kind)
    }
}

/// Writes one object, over what is there now.
async fn one(ctx: &Context, client: &Client, set: &Set, id: &ObjectId, replace: bool) -> Result<(), Left> {
    let refused = |why: String, help: &str, passes: bool| Left::Refused {
        refusal: Refusal { why, help: Some(help.to_owned()) },
        passes,
    };
    let Some(object) = set.objects.iter().find(|object| object.id.same_object(id)) else {
        return Err(refused("it was planned and is not in the set: this is a bug".to_owned(), "report it", false));
    };
    let wanted = match &object.wanted {
        Ok(wanted) => wanted,
        Err(refusal) => return Err(Left::Refused { refusal: refusal.clone(), passes: false }),
    };
    let Some(path) = set.kinds.path(id) else {
        let help = "is its CustomResourceDefinition in this set, or in one that this comes after?";
        return Err(refused(format!("the cluster does not know the kind {}", id.kind), help, true));
    };
    let ours = ctx.scope.generation;
    let dressed = marks::dressed(wanted, id, &set.name, ours);
    if replace {
        take_away(client, &path, ours).await.map_err(|error| error.of(wanted))?;
    }
    wait_until_gone(ctx, client, &path).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        match put(client, &path, &dressed, ours).await {
            Ok(()) => return Ok(()),
            Err(Put::Newer(by)) => return Err(Left::Newer(by)),
            // A namespace that was made a moment ago, a Service that was deleted, a controller that wrote in between.
            Err(Put::Api(error)) if tries < 20 && may_pass(&error) => ctx.clock.sleep(TICK).await,
            Err(error) => return Err(error.of(wanted)),
        }
    }
}

fn may_pass(error: &ApiError) -> bool {
    // What it cannot make sense of is an internal error to the API server, too.
    let sense = matches!(error, ApiError::Refused { message, .. } if message.contains("failed to create typed"));
    let ending = matches!(error, ApiError::Refused { code: 403, message, .. } if message.contains("being terminated"));
    (error.is_not_found() || error.is_conflict() || error.passes() || taken(error) || ending) && !sense
}

/// Why an object could not be put.
#[derive(Debug)]
enum Put {
    Newer(Generation),
    Api(ApiError),
}

impl From<ApiError> for Put {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Put {
    fn of(self, wanted: &Value) -> Left {
        match self {
            Self::Newer(by) => Left::Newer(by),
            Self::Api(error @ ApiError::Refused { .. }) => {
                Left::Refused { refusal: refusal(&error, wanted), passes: may_pass(&error) }
            }
            Self::Api(error) => Left::Silent(error),
        }
    }
}

/// Applies over what is there now. What a newer generation wrote is left alone: who leads no longer may not know it yet.
async fn put(client: &Client, path: &str, dressed: &Value, ours: Generation) -> Result<(), Put> {
    let Some(live) = api::find(client, path).await? else {
        api::apply(client, path, dressed).await?;
        return Ok(());
    };
    if let Some(newer) = marks::newer(&live, ours) {
        return Err(Put::Newer(newer));
    }
    let mut dressed = marks::over(dressed.clone(), &live);
    // What comes in between makes the write fail, and is looked at.
    dressed["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    api::apply(client, path, &dressed).await?;
    Ok(())
}

/// Deletes an object that is to be made anew: its pods end before it is gone, so that the old and the new never run at once.
async fn take_away(client: &Client, path: &str, ours: Generation) -> Result<(), Put> {
    const MOST: u32 = 5;
    for tries in 1.. {
        let Some(live) = api::find(client, path).await? else { break };
        if marks::is_going(&live) {
            break;
        }
        if let Some(newer) = marks::newer(&live, ours) {
            return Err(Put::Newer(newer));
        }
        let metadata = &live["metadata"];
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        });
        match api::delete(client, path, &options).await {
            // A controller wrote in between.
            Err(error) if error.is_conflict() && tries < MOST => {}
            end => return Ok(end?),
        }
    }
    Ok(())
}

/// An object that is being deleted would take with it what is written over it.
async fn wait_until_gone(ctx: &Context, client: &Client, path: &str) -> Result<(), Left> {
    let most = GOING.as_millis() / TICK.as_millis();
    for tries in 0.. {
        let live = match api::find(client, path).await {
            Ok(live) => live.filter(marks::is_going),
            Err(error) => return Err(Left::Silent(error)),
        };
        let Some(live) = live else { break };
        if tries >= most {
            let why = format!("it is being deleted for long; its finalizers are {}", live["metadata"]["finalizers"]);
            let help = "who set them takes them away: what does that controller wait for?".to_owned();
            return Err(Left::Refused { refusal: Refusal { why, help: Some(help) }, passes: true });
        }
        ctx.clock.sleep(TICK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::cluster::MANAGER;

    const OURS: Generation = Generation { epoch: 1, counter: 7 };

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

    async fn put_over(metadata: Value) -> (Result<(), Put>, Vec<Value>) {
        let (client, applied) = holding(json!({ "metadata": metadata }));
        let end = put(&client, "/web", &json!({"metadata": {"annotations": {}}}), OURS).await;
        let applied = applied.lock().unwrap().clone();
        (end, applied)
    }

    #[tokio::test]
    async fn an_overtaken_leader_leaves_newer_content_alone() {
        for (written, by, times) in [
            ("1.8", MANAGER, 0),
            ("2.1", MANAGER, 0),
            ("1.7", MANAGER, 1),
            ("1.6", MANAGER, 1),
            // Somebody wrote the mark by hand.
            ("2.1", "kubectl-annotate", 1),
        ] {
            let annotations = json!({marks::GENERATION: written});
            let metadata =
                json!({"resourceVersion": "5", "annotations": annotations, "managedFields": marks::managed(by)});
            let (end, applied) = put_over(metadata).await;
            assert_eq!((applied.len(), matches!(end, Err(Put::Newer(_)))), (times, times == 0), "{written} by {by}");
            // And what comes in between makes the write fail.
            assert!(applied.iter().all(|object| object["metadata"]["resourceVersion"] == "5"));
        }
    }

    #[tokio::test]
    async fn what_was_there_before_any_set_is_remembered() {
        for (metadata, expected) in [
            (json!({"name": "coredns"}), json!("true")),
            (json!({"labels": {marks::SET: "a"}, "annotations": {marks::ADOPTED: "true"}}), json!("true")),
            (json!({"labels": {marks::SET: "a"}, "annotations": {marks::GENERATION: "1.6"}}), Value::Null),
            // Its label was taken off by hand.
            (json!({"annotations": {marks::GENERATION: "1.6"}}), Value::Null),
        ] {
            let (_, applied) = put_over(metadata).await;
            assert_eq!(applied[0]["metadata"]["annotations"][marks::ADOPTED], expected);
        }
    }

    fn refused(code: u16, message: &str) -> ApiError {
        let (path, reason) = ("/web".to_owned(), "Invalid".to_owned());
        ApiError::Refused { verb: "apply", path, code, reason, message: message.to_owned() }
    }

    #[test]
    fn a_port_that_is_taken_may_be_free_soon_and_what_is_wrong_stays_wrong() {
        let port = "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated";
        assert!(may_pass(&refused(422, port)));
        assert!(may_pass(&refused(503, "etcdserver: leader changed")));
        assert!(!may_pass(&refused(422, "spec.ports: Required value")));
        assert!(!may_pass(&refused(500, "failed to create typed patch object: .spec.x: field not declared in schema")));
    }
}
