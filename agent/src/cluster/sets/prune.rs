//! Deleting what left sets, and nothing else.
//!
//! This comes after all sets of the catalog are written. What any of them names stays, whatever the inventory of the set
//! that it left says. What others need goes last, as it came first. An object goes with its UID and version as
//! preconditions, and only where its label says that it is the set's. A namespace or a definition of a kind that takes
//! others' objects along stays. So does what was there before a set named it: it is let go.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use kube::Client;
use muster_catalog::kinds::manifest::{ObjectId, Prune};
use muster_plan::kinds::manifest::{Fate, Leaving, Left};
use serde_json::json;

use super::{guests, inventory, marks, words::words};
use crate::{
    Context, Done, StepError,
    cluster::{
        api::{self, ApiError},
        objects::{self, Kinds},
    },
};

/// What left sets, and what becomes of it. Reads only.
pub async fn left(ctx: &Context, client: &Client, prune: &Prune) -> Result<Left, StepError> {
    let mut left = Left::default();
    let mut leaving: Vec<(ObjectId, String)> = Vec::new();
    for set in prune.sets.iter().chain(&prune.gone) {
        let Some(held) = inventory::read(client, set).await? else { continue };
        let gone = prune.gone.contains(set);
        let names: Vec<&ObjectId> = ctx.scope.objects.iter().filter(|(of, _)| of == set).map(|(_, id)| id).collect();
        let (stays, goes): (BTreeSet<_>, BTreeSet<_>) =
            held.into_iter().partition(|id| !gone && names.iter().any(|name| name.names(id)));
        if gone || !goes.is_empty() {
            left.inventories.insert(set.clone(), (!gone).then_some(stays));
        }
        leaving.extend(goes.into_iter().map(|id| (id, set.clone())));
    }
    leaving.sort_by_key(|(id, _)| Reverse(objects::rank(&id.kind)));
    let kinds = Kinds::discover(client, leaving.iter().map(|(id, _)| id.api_version.clone())).await?;
    let mut going = Vec::new();
    for (id, set) in leaving {
        let id = served(client, &kinds, id).await?;
        let fate = fate(ctx, client, &id, &set, &going).await?;
        if fate == Fate::Deleted {
            going.push(id.id.clone());
        }
        left.objects.push(Leaving { id: id.id, set, fate });
    }
    Ok(left)
}

/// An object, and its path where its kind is served.
struct Found {
    id: ObjectId,
    path: Option<String>,
}

/// Finds the path of an object, by its group's preferred version where the one that it was written by is served no longer.
async fn served(client: &Client, kinds: &Kinds, id: ObjectId) -> Result<Found, StepError> {
    if let Some(path) = kinds.path(&id) {
        return Ok(Found { path: Some(path), id });
    }
    let group = match id.group() {
        "" => None,
        group => api::find(client, &format!("/apis/{group}")).await?,
    };
    let preferred = group.as_ref().and_then(|group| group["preferredVersion"]["groupVersion"].as_str());
    let Some(version) = preferred.filter(|version| *version != id.api_version) else {
        return Ok(Found { id, path: None });
    };
    let kinds = Kinds::discover(client, [version.to_owned()]).await?;
    let path = kinds.path(&ObjectId { api_version: version.to_owned(), ..id.clone() });
    Ok(Found { id, path })
}

/// What becomes of one object. `going` are those that go before it.
async fn fate(ctx: &Context, client: &Client, found: &Found, set: &str, going: &[ObjectId]) -> Result<Fate, StepError> {
    let Found { id, path } = found;
    if let Some((to, _)) = ctx.scope.objects.iter().find(|(_, name)| name.names(id)) {
        return Ok(Fate::Moved { to: to.clone() });
    }
    // A kind that is no longer served took its objects along.
    let Some(path) = path else { return Ok(Fate::Gone) };
    let Some(live) = api::find(client, path).await?.filter(|live| !marks::is_going(live)) else {
        return Ok(Fate::Gone);
    };
    if let Some(newer) = marks::newer(&live, ctx.scope.generation) {
        return Err(super::newer(&id.to_string(), newer, ctx.scope.generation));
    }
    match marks::set_of(&live) {
        Some(of) if of == set => {}
        Some(of) => return Ok(Fate::Stays(format!("it belongs to {of} by now"))),
        None => return Ok(Fate::Stays(format!("its label {} was taken off", marks::SET))),
    }
    if marks::adopted(&live) {
        return Ok(Fate::Released);
    }
    let guest = guests::of(ctx, client, set, &live, going).await?;
    Ok(guest.map_or(Fate::Deleted, |guest| Fate::Stays(format!("with it would go {guest}"))))
}

/// Does what was decided. What cannot be deleted stops nothing else, and stays in its set's inventory.
pub async fn prune(ctx: &Context, client: &Client, left: &Left) -> Result<Done, StepError> {
    let kinds = Kinds::discover(client, left.objects.iter().map(|object| object.id.api_version.clone())).await?;
    let mut notes = Vec::new();
    let mut failed: BTreeMap<&str, BTreeSet<ObjectId>> = BTreeMap::new();
    let mut errors = Vec::new();
    let mut gone: Vec<ObjectId> = Vec::new();
    for Leaving { id, set, fate } in &left.objects {
        let ended = match fate {
            Fate::Deleted => {
                let found = served(client, &kinds, id.clone()).await?;
                delete(ctx, client, &found, set, &gone).await?
            }
            Fate::Released => {
                let found = served(client, &kinds, id.clone()).await?;
                notes.push(format!("{id} left {set} and is not deleted: it was there before"));
                release(client, &found).await.map_err(|error| error.to_string())
            }
            Fate::Stays(why) => {
                notes.push(format!("{id} left {set} and is not deleted: {why}"));
                Ok(())
            }
            Fate::Moved { .. } | Fate::Gone => Ok(()),
        };
        match ended {
            Ok(()) if matches!(fate, Fate::Deleted | Fate::Gone) => gone.push(id.clone()),
            Ok(()) => {}
            Err(error) => {
                errors.push(format!("{id}: {error}"));
                failed.entry(set).or_default().insert(id.clone());
            }
        }
    }
    for (set, rest) in &left.inventories {
        match (rest, failed.remove(set.as_str())) {
            (None, None) => inventory::forget(client, set, ctx.scope.generation).await?,
            (rest, failed) => {
                let ids = rest.iter().flatten().cloned().chain(failed.into_iter().flatten()).collect();
                inventory::write(client, set, &ids, ctx.scope.generation).await?;
            }
        }
    }
    if errors.is_empty() {
        return Ok(Done { notes });
    }
    Err(StepError::failed(format!("what left its set cannot be deleted: {}", errors.join("; "))).retry())
}

/// Deletes an object as it is now, if that is still what was decided about. The inner error is this object's alone.
async fn delete(
    ctx: &Context,
    client: &Client,
    found: &Found,
    set: &str,
    gone: &[ObjectId],
) -> Result<Result<(), String>, StepError> {
    const MOST: u32 = 5;
    let Some(path) = &found.path else { return Ok(Ok(())) };
    for tries in 1.. {
        let Some(live) = api::find(client, path).await?.filter(|live| !marks::is_going(live)) else { break };
        let again = fate(ctx, client, found, set, gone).await?;
        if again != Fate::Deleted {
            return Ok(Err("it changed meanwhile".to_owned()));
        }
        let metadata = &live["metadata"];
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        });
        match api::delete(client, path, &options).await {
            Ok(()) => break,
            // A controller wrote in between.
            Err(error) if error.is_conflict() && tries < MOST => {}
            Err(error @ ApiError::Refused { .. }) => return Ok(Err(words(&error, &live))),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Ok(()))
}

/// Takes our marks off, and leaves the object as it is.
async fn release(client: &Client, found: &Found) -> Result<(), ApiError> {
    let Some(path) = &found.path else { return Ok(()) };
    let Some(live) = api::find(client, path).await? else { return Ok(()) };
    let patch = json!({"metadata": {
        "resourceVersion": live["metadata"]["resourceVersion"],
        "labels": {marks::SET: null},
        "annotations": {marks::GENERATION: null, marks::ADOPTED: null},
    }});
    api::merge(client, path, &patch).await.map(drop)
}

#[cfg(test)]
mod tests;
