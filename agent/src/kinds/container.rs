//! `[[container]]`: by Docker's daemon. The label with the specification's digest says what it was made from.

use std::{collections::BTreeMap, time::Duration};

use muster_catalog::kinds::container::ContainerSpec;
use muster_plan::kinds::container::{Change, Current, Host, LABEL, Observed, Replace, Volume, digest};

use crate::{Context, Done, StepError, ports::ContainerState};

#[cfg(test)]
mod tests;

/// One that ends or is started again within this has not started.
const STANDS: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(250);
/// Seconds after which Docker itself takes one that it started again for well.
const SETTLED: u64 = 10;
/// Lines of one that does not stand.
const WORDS: u32 = 3;

pub async fn observe(ctx: &Context, spec: &ContainerSpec) -> Result<Observed, StepError> {
    let current = ctx.docker.container(&spec.name).await?;
    let aside = ctx.docker.container(&spec.aside()).await?;
    let users = match &current {
        Some(state) if !state.labels.contains_key(LABEL) || state.labels.contains_key(ENVIRONMENT) => {
            users(ctx, spec, state).await?
        }
        Some(_) | None => Vec::new(),
    };
    let failed = ctx.docker.container(&spec.failed()).await?;
    let host = host(ctx, spec, current.as_ref()).await?;
    Ok(Observed { current: current.map(seen), aside: aside.map(seen), failed: failed.map(seen), host, users })
}

async fn host(ctx: &Context, spec: &ContainerSpec, current: Option<&ContainerState>) -> Result<Host, StepError> {
    let (Some(name), Some(current)) = (spec.lives_in(), current) else { return Ok(Host::Same) };
    // Without one Docker says what is missing.
    let Some(host) = ctx.docker.container(name).await? else { return Ok(Host::Same) };
    Ok(match &current.lives_in {
        Some(id) if *id != host.id => Host::Another,
        // Of the same second nobody can tell.
        Some(_) if current.running && host.running && host.up + 1 < current.up => Host::StartedLater,
        Some(_) | None => Host::Same,
    })
}

fn seen(state: ContainerState) -> Current {
    let ours = !state.labels.contains_key(ENVIRONMENT);
    // Between two ends of one that Docker starts again and again it runs, too.
    let settled = state.restarts == 0 || state.up >= SETTLED;
    Current {
        running: state.running && settled,
        kept_up: state.kept_up,
        down: state.down,
        digest: state.labels.get(LABEL).filter(|_| ours).cloned(),
        image: state.image_name,
        volumes: state.volumes,
    }
}

/// The label of what a coordinator makes with Docker: its nodes, its load balancers and itself.
const ENVIRONMENT: &str = "muster";

async fn users(ctx: &Context, spec: &ContainerSpec, state: &ContainerState) -> Result<Vec<String>, StepError> {
    let manager = |label: &str, who: &str| state.labels.get(label).map(|what| format!("{who} {what}"));
    let managers = [
        manager("com.docker.compose.project", "the Docker Compose project"),
        manager("com.docker.swarm.service.name", "the Docker Swarm service"),
        manager("io.kubernetes.pod.name", "the pod"),
        manager(ENVIRONMENT, "the muster environment"),
        state.goes_when_it_ends.then(|| "whoever started it with --rm".to_owned()),
    ];
    let lodgers = ctx.docker.lodgers(&spec.name).await?.into_iter().map(|name| format!("the container {name}"));
    Ok(managers.into_iter().flatten().chain(lodgers).collect())
}

pub async fn apply(ctx: &Context, spec: &ContainerSpec, change: &Change) -> Result<Done, StepError> {
    match change {
        Change::Create => {
            fetch(ctx, spec).await?;
            create(ctx, spec, &[]).await?;
            if let Err(error) = ctx.docker.start(&spec.name).await {
                // Half a container would pass for one that was stopped by hand.
                ctx.docker.remove(&spec.name).await?;
                return Err(error.into());
            }
            stands(ctx, spec).await?;
        }
        Change::Replace(change) => replace(ctx, spec, change).await?,
        Change::Start => {
            ctx.docker.start(&spec.name).await?;
            stands(ctx, spec).await?;
        }
        Change::KeepUp => ctx.docker.keep_up(&spec.name).await?,
        Change::Clear => clear(ctx, spec).await?,
        Change::Restart | Change::Rejoin => {
            ctx.docker.restart(&spec.name).await?;
            stands(ctx, spec).await?;
        }
        Change::Remove { .. } => {
            clear(ctx, spec).await?;
            ctx.docker.remove(&spec.name).await?;
        }
        Change::Refuse { why, help } => return Err(StepError::failed(why).help(help)),
    }
    Ok(Done::default())
}

/// What is left of replacements.
async fn clear(ctx: &Context, spec: &ContainerSpec) -> Result<(), StepError> {
    ctx.docker.remove(&spec.aside()).await?;
    Ok(ctx.docker.remove(&spec.failed()).await?)
}

/// A registry that does not answer must not cost the old container.
async fn fetch(ctx: &Context, spec: &ContainerSpec) -> Result<(), StepError> {
    if ctx.docker.image(&spec.image).await?.is_none() {
        ctx.docker.pull(&spec.image).await?;
    }
    Ok(())
}

async fn create(ctx: &Context, spec: &ContainerSpec, volumes: &[Volume]) -> Result<(), StepError> {
    let labels = BTreeMap::from([(LABEL.to_owned(), digest(spec))]);
    let Err(error) = ctx.docker.create(spec, &labels, volumes).await else { return Ok(()) };
    // There was none a moment ago: an agent that was killed asked for the same, and Docker went on with it.
    let there = ctx.docker.container(&spec.name).await?;
    let same = there.is_some_and(|state| state.labels.get(LABEL) == labels.get(LABEL));
    if same { Ok(()) } else { Err(error.into()) }
}

/// The old one is never gone before the new one stands. Cut off anywhere, one of the two bears the name or is set aside, and the
/// next look goes on from there.
async fn replace(ctx: &Context, spec: &ContainerSpec, change: &Replace) -> Result<(), StepError> {
    fetch(ctx, spec).await?;
    let aside = spec.aside();
    if change.aside {
        ctx.docker.remove(&spec.name).await?;
    } else {
        ctx.docker.remove(&aside).await?;
        ctx.docker.rename(&spec.name, &aside).await?;
    }
    let replaced = async {
        create(ctx, spec, &change.volumes).await?;
        // It holds ports that the new one needs.
        ctx.docker.stop(&aside).await?;
        ctx.docker.start(&spec.name).await?;
        stands(ctx, spec).await
    };
    let Err(error) = replaced.await else { return clear(ctx, spec).await };
    let kept = put_back(ctx, spec, change).await.map_err(|also| {
        StepError::failed(format!("{error}; and the old container is not back: {also}"))
            .help(format!("it is kept as {aside}, with its data: `docker rename {aside} {}`", spec.name))
            .retry()
    })?;
    Err(match error {
        StepError::Failed(mut failure) => {
            failure.message = format!("{}; the old container is back", failure.message);
            if kept {
                // What it says of the logs of this name is of the old one now.
                let help = failure.help.take().filter(|help| !help.contains("docker logs"));
                let (help, failed) = (help.map_or_else(String::new, |help| format!("{help}; ")), spec.failed());
                failure.help = Some(format!(
                    "{help}the new one is kept: `docker logs {failed}` says more; it is tried again after an hour, or once \
                     you change it or `docker rm {failed}`"
                ));
            }
            StepError::Failed(failure)
        }
        skip @ StepError::Skip(_) => skip,
    })
}

/// Whether the new one is kept for a look at it: where it was made.
async fn put_back(ctx: &Context, spec: &ContainerSpec, change: &Replace) -> Result<bool, StepError> {
    let made = ctx.docker.container(&spec.name).await?.is_some();
    if made {
        ctx.docker.stop(&spec.name).await?;
        ctx.docker.remove(&spec.failed()).await?;
        ctx.docker.rename(&spec.name, &spec.failed()).await?;
    }
    ctx.docker.rename(&spec.aside(), &spec.name).await?;
    // One that was set aside earlier was stopped then.
    if change.running || change.aside {
        ctx.docker.start(&spec.name).await?;
    }
    Ok(made)
}

/// Waits until it has run for a while on end.
async fn stands(ctx: &Context, spec: &ContainerSpec) -> Result<(), StepError> {
    let mut left = STANDS;
    let mut restarts = None;
    loop {
        let state = ctx.docker.container(&spec.name).await?.unwrap_or_default();
        if !state.running || state.restarts > *restarts.get_or_insert(state.restarts) {
            let words = ctx.docker.last_words(&spec.name, WORDS).await.unwrap_or_default();
            let words = if words.is_empty() { String::new() } else { format!(": {}", words.join(" | ")) };
            let message =
                format!("the container {} does not stay up; it ended with status {}{words}", spec.name, state.status);
            return Err(StepError::failed(message).help(format!("`docker logs {}` has more", spec.name)));
        }
        if left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
        left = left.saturating_sub(LOOK);
    }
}
