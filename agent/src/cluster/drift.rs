//! What tells the agent at once that somebody changed the cluster's part of its node: the kernel about routes and
//! devices, the API server about objects of our sets. Only wakes the converge loop, which looks for itself.

mod nodes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client,
    core::{DynamicObject, GroupVersionKind},
    discovery::ApiResource,
    runtime::{WatchStreamExt, watcher},
};
use muster_catalog::{Catalog, kinds::Signal};
use muster_ids::{Digest, ResourceId};

use super::{
    differences,
    lease::{self, Holder},
    network,
    objects::{self, Kinds},
    sets::marks,
};
use crate::Context;

/// Resources that were touched. Never ends; made anew for each catalog.
pub fn watch(ctx: Context, catalog: Arc<Catalog>) -> BoxStream<'static, ResourceId> {
    let mut sources: Vec<BoxStream<'static, ResourceId>> = vec![stream::pending().boxed()];
    for resource in &catalog.resource {
        let id = resource.id();
        for signal in resource.spec.signals() {
            match signal {
                Signal::Routes(address) => match network::changes(address.parse().ok()) {
                    Ok(changes) => {
                        let id = id.clone();
                        sources.push(changes.map(move |()| id.clone()).boxed());
                    }
                    Err(error) => tracing::warn!(%error, "routes are looked at by the timer alone"),
                },
                Signal::Objects { set: name, text } => sources.push(set(ctx.clone(), name, &text, id.clone())),
                Signal::Node(name) => sources.push(nodes::own(ctx.clone(), name).map(to(&id)).boxed()),
                Signal::Cluster => {
                    sources.push(nodes::all(ctx.clone()).map(to(&id)).boxed());
                    sources.push(nodes::dns(ctx.clone()).map(to(&id)).boxed());
                }
                Signal::Path(_)
                | Signal::Inside(_)
                | Signal::Unit(_)
                | Signal::Container(_)
                | Signal::Image(_)
                | Signal::Mounts
                | Signal::Swaps => {}
            }
        }
    }
    stream::select_all(sources).boxed()
}

fn to(id: &ResourceId) -> impl FnMut(()) -> ResourceId + Send + use<> {
    let id = id.clone();
    move |()| id.clone()
}

/// Objects of one set, while this node leads.
fn set(ctx: Context, name: String, text: &str, id: ResourceId) -> BoxStream<'static, ResourceId> {
    // What cannot be read is the converge's to report.
    let kinds: BTreeSet<(String, String)> = objects::parse(text)
        .unwrap_or_default()
        .iter()
        .map(|object| {
            let word = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            (word("apiVersion"), word("kind"))
        })
        .collect();
    stream::once(async move {
        let client = leading(&ctx).await;
        let watches = kinds.into_iter().map(|(version, kind)| {
            let (ctx, client, name) = (ctx.clone(), client.clone(), name.clone());
            let watch = async move {
                let plural = served(&ctx, &client, &version, &kind).await;
                touched(&client, &name, &version, &kind, &plural)
            };
            stream::once(watch).flatten().boxed()
        });
        stream::select_all(watches.collect::<Vec<_>>())
    })
    .flatten()
    .map(move |()| id.clone())
    .boxed()
}

/// Waits until the cluster knows a kind, which the set itself may define; its name in paths.
async fn served(ctx: &Context, client: &Client, version: &str, kind: &str) -> String {
    loop {
        let kinds = Kinds::discover(client, [version.to_owned()]).await.unwrap_or_default();
        if let Some(plural) = kinds.plural(version, kind) {
            return plural;
        }
        ctx.clock.sleep(Duration::from_secs(10)).await;
    }
}

/// Waits until this node leads.
async fn leading(ctx: &Context) -> Client {
    loop {
        if let Ok(client) = ctx.kube.client().await
            && let Ok(Holder::This) = lease::holder(&client, ctx.scope.node.as_str()).await
        {
            return client;
        }
        ctx.clock.sleep(Duration::from_secs(5)).await;
    }
}

/// One item each time an object of the set is changed in what is written, or deleted; its status does not count.
fn touched(client: &Client, set: &str, api_version: &str, kind: &str, plural: &str) -> BoxStream<'static, ()> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let config = watcher::Config::default().labels(&format!("{}={set}", marks::SET));
    let events = watcher(api, config).default_backoff();
    events
        .scan(BTreeMap::<String, Digest>::new(), |known, event| {
            let item = match event {
                Ok(watcher::Event::InitApply(object)) => {
                    known.insert(key(&object), digest(&object));
                    None
                }
                Ok(watcher::Event::Apply(object)) => {
                    let digest = digest(&object);
                    (known.insert(key(&object), digest) != Some(digest)).then_some(())
                }
                Ok(watcher::Event::Delete(object)) => known.remove(&key(&object)).map(drop),
                Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a watch on objects began anew");
                    None
                }
            };
            std::future::ready(Some(item))
        })
        .filter_map(std::future::ready)
        .boxed()
}

fn key(object: &DynamicObject) -> String {
    object.metadata.uid.clone().unwrap_or_default()
}

fn digest(object: &DynamicObject) -> Digest {
    let value = serde_json::to_value(object).unwrap_or_default();
    Digest::of(differences::comparable(&value).to_string())
}
