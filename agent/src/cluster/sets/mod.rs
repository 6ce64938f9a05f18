//! Sets of Kubernetes objects: looked at, written, and pruned of what left them.
//!
//! An inventory of each set is written before its first object, so that a crash in between leaves nothing that nobody
//! remembers. What left a set stays in its inventory until the step that prunes, which comes after all sets are written,
//! has deleted it: an object that moves between two sets is never gone in between. One refused object stops itself and
//! what needs it, and no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::Client;
use muster_catalog::kinds::manifest::{ManifestSpec, ObjectId};
use muster_ids::Generation;
use muster_plan::kinds::manifest::Refusal;
use serde_json::Value;

use crate::{
    Context, StepError,
    cluster::objects::{self, Kinds},
};

mod guests;
pub mod inventory;
mod look;
pub mod marks;
mod prune;
mod words;
mod write;

pub use look::look;
pub use prune::{left, prune};
pub use write::write;

/// A set as written.
pub(super) struct Set {
    name: String,
    /// Kinds that may be replaced.
    replace: Vec<String>,
    objects: Vec<Object>,
    kinds: Kinds,
}

/// One object of a set.
struct Object {
    id: ObjectId,
    /// With its secrets in place; or why it cannot be written.
    wanted: Result<Value, Refusal>,
    /// As it stands in the site.
    written: Value,
}

impl Set {
    async fn read(ctx: &Context, client: &Client, spec: &ManifestSpec) -> Result<Self, StepError> {
        let parsed = objects::parse(spec.content.as_deref().unwrap_or_default()).map_err(|error| {
            let step = StepError::failed(format!("manifest {}: {error}", spec.name));
            match std::error::Error::source(&error) {
                Some(source) => step.because(source.to_string()),
                None => step,
            }
        })?;
        let versions = parsed.iter().filter_map(|object| object["apiVersion"].as_str().map(str::to_owned));
        let kinds = Kinds::discover(client, versions).await?;
        let mut secrets = BTreeMap::new();
        let mut objects = Vec::new();
        for written in parsed {
            let wanted = with_secrets(ctx, &written, &mut secrets).await?;
            objects.push(Object { id: kinds.id(&written), wanted, written });
        }
        let mut set = Self { name: spec.name.clone(), replace: spec.replace.clone(), objects, kinds };
        set.refuse_twice(ctx);
        Ok(set)
    }

    /// An object that stands twice, here or in two sets, would be written in two ways by turns.
    fn refuse_twice(&mut self, ctx: &Context) {
        let ids: Vec<ObjectId> = self.objects.iter().map(|object| object.id.clone()).collect();
        for object in &mut self.objects {
            let id = &object.id;
            let here = ids.iter().filter(|other| other.same_object(id)).count() > 1;
            let others = ctx.scope.objects.iter().filter(|(set, _)| *set != self.name);
            let also = others.into_iter().find(|(_, other)| other.names(id)).map(|(set, _)| set.clone());
            if here || also.is_some() {
                let places = also.unwrap_or_else(|| self.name.clone());
                let why =
                    if here { format!("it stands in {places} twice") } else { format!("it stands in {places}, too") };
                object.wanted = Err(Refusal { why, help: Some("take one of the two out of the site".to_owned()) });
            }
        }
    }

    /// Asks again for kinds that are not served. With `wait` for a while, but not for those in `hopeless`: a definition is
    /// served a moment after it was written. Objects are named anew, for a kind that is known tells whether it has
    /// namespaces.
    async fn serve(
        &mut self,
        ctx: &Context,
        client: &Client,
        wait: bool,
        hopeless: &[ObjectId],
    ) -> Result<(), StepError> {
        const MOST: u32 = 50;
        let open = |set: &Self| {
            let mut unknown = set.objects.iter().filter(|object| set.kinds.path(&object.id).is_none());
            unknown.any(|object| !hopeless.contains(&object.id))
        };
        for tries in 0..MOST {
            if !open(self) || tries > 0 && !wait {
                break;
            }
            if tries > 0 {
                ctx.clock.sleep(Duration::from_millis(200)).await;
            }
            let versions = self.objects.iter().map(|object| object.id.api_version.clone());
            self.kinds = Kinds::discover(client, versions).await?;
            for object in &mut self.objects {
                object.id = self.kinds.id(&object.written);
            }
        }
        Ok(())
    }

    fn ids(&self) -> BTreeSet<ObjectId> {
        self.objects.iter().map(|object| object.id.clone()).collect()
    }
}

/// The object with the values of the secrets that it names. A secret that cannot be had stops this object alone; that
/// nobody answers passes, and is waited for.
async fn with_secrets(
    ctx: &Context,
    object: &Value,
    known: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Result<Value, Refusal>, StepError> {
    for name in objects::references(object) {
        if known.contains_key(&name) {
            continue;
        }
        match ctx.secrets.get(&name).await.map_err(StepError::from) {
            Ok(value) => drop(known.insert(name, value)),
            Err(StepError::Failed(failure)) if !failure.retry => {
                let why = format!("the secret {name} cannot be had: {}", failure.message);
                return Ok(Err(Refusal { why, help: failure.help }));
            }
            Err(error) => return Err(error),
        }
    }
    let mut object = object.clone();
    objects::resolve(&mut object, known);
    Ok(Ok(object))
}

/// What waits for a newer catalog.
fn newer(what: &str, by: Generation, ours: Generation) -> StepError {
    StepError::waits(format!("a newer catalog than {ours}: generation {by} wrote {what}"))
}
