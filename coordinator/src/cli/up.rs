//! `up` and `down`: the local environment from nothing to an application that answers, and back to nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{
    Ended,
    advice::Advice,
    args::{Global, Up},
    change::{self, Went},
    connect, follow, left, program,
    progress::Stage,
    remembered, render,
    site::{self, Names},
    wait::{Silent, Wait},
};
use crate::{
    authz::Deed,
    local::{standing::Standing, start},
    plan::SavedPlan,
};

/// `muster up`: run again, it changes nothing; after a kill, it goes on.
pub async fn up(global: &Global, args: &Up) -> anyhow::Result<Ended> {
    let began = Instant::now();
    let Some((files, site)) = site::load(global)? else { return Ok(Ended::Error) };
    start::subnet(&site)?;
    render::warnings(&site.warnings);
    let scope = start::scope(&site);
    let advice = Advice::new(global, &scope);
    // A new state would have another CA: nodes that are there would never trust it, and their load balancers would go.
    let standing = Standing::look(&start::engine().await?, &scope).await?;
    if let Standing::Lost(_) = &standing {
        return Err(advice.of(&standing));
    }
    let (manifest, list) = advice.manifest(args.artefacts.as_deref())?;
    if manifest.kubernetes != site.kubernetes {
        bail!(
            "muster.toml: cluster.kubernetes is {}, and the artefacts on this machine are for {}\n  help: write kubernetes = \"{}\"",
            site.kubernetes,
            manifest.kubernetes,
            manifest.kubernetes
        );
    }
    remembered::remember(&remembered::folder(&scope)?, &list)?;
    let stage = Stage::begin("coordinator");
    start::start(&site, &manifest).await?;
    let mut client = connect::connect(global, &site).await?;
    stage.done("answers");

    let approve = |plan: &SavedPlan| {
        // Bringing up asks nothing; taking away does.
        if plan.counts.destroy + plan.counts.replace == 0 {
            return Ok(true);
        }
        change::show(global, plan);
        change::agreed(global, "This takes something away. Go on?")
    };
    match change::plan_and_publish(&mut client, global, &files, None, approve).await? {
        Went::Published { .. } | Went::NothingToDo(_) => {}
        went @ (Went::Wrong | Went::Declined | Went::Stale { .. }) => return went.told(global),
    }
    let patience = Duration::from_secs(args.patience);
    let mut stage = Stage::begin("nodes");
    // A node that boots is silent, too, and is what is waited for here.
    let followed = follow::until(&mut client, &mut stage, Wait::new(patience, Silent::Boot, Instant::now())).await?;
    stage.done(&followed.text());
    followed.aside.iter().for_each(|line| eprintln!("{line}"));
    let status = followed.status;

    for app in &status.apps {
        let Some(url) = &app.url else { continue };
        let stage = Stage::begin(format!("application {}", app.name));
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let address = if address.contains(':') { address } else { format!("{address}:80") };
        follow::unless_interrupted(start::answers(&address, &app.path, patience)).await.with_context(|| {
            format!(
                "application {0}\n  help: muster kubeconfig --output kubeconfig; kubectl --kubeconfig kubeconfig --namespace {0} get pods,events",
                app.name
            )
        })?;
        stage.done("answers");
    }
    if global.json {
        render::print_json(&status)?;
        return Ok(Ended::Good);
    }
    eprintln!("up in {:.1} s", began.elapsed().as_secs_f64());
    let flags = &advice.flags;
    for app in &status.apps {
        if let Some(url) = &app.url {
            render::say(format_args!("application {url}"));
        }
    }
    if let Some(api) = &status.api {
        render::say(format_args!("api {api}"));
    }
    let muster = program::typed();
    render::say(format_args!(
        "\nNext:\n  {muster} status --watch {flags}\n  {muster} kubeconfig {flags} --output kubeconfig\n  {muster} plan {flags}    # after an edit of the site\nTake all down:\n  {muster} down {flags}"
    ));
    Ok(Ended::Good)
}

/// `muster down`.
pub async fn down(global: &Global, unprotect: bool) -> anyhow::Result<Ended> {
    let Some(Names { scope, protected }) = site::names(global)? else { return Ok(Ended::Error) };
    if protected && !unprotect {
        bail!("environment {} is protected\n  help: add --unprotect if you mean it", scope.environment);
    }
    connect::may(global, &scope, Deed::TakeDown)?;
    let engine = start::engine().await?;
    let found = engine.containers(&scope).await?.len();
    let volumes = engine.volumes(&scope).await?.len();
    if found + volumes > 0
        && !change::agreed(
            global,
            &format!("Take down {scope}: {found} containers, {volumes} volumes with all their data?"),
        )?
    {
        return render::unchanged(global.json).map(|()| Ended::Good);
    }
    let stage = Stage::begin(format!("taking down {scope}"));
    let removed = engine.remove_all(&scope).await?;
    stage.done("");
    let left = left::of(&engine, &scope).await?;
    let (containers, volumes, networks) = (removed.containers, removed.volumes, removed.networks);
    let lines: String = left.iter().map(|left| format!("\n{left}")).collect();
    render::tell(
        global.json,
        &json!({ "containers": containers, "volumes": volumes, "networks": networks, "left": left }),
        format!("{containers} containers, {volumes} volumes, {networks} networks removed.{lines}"),
    )?;
    Ok(Ended::Good)
}
