//! `plan` and `apply`: what would change, then exactly that.

use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use muster_catalog::SiteFiles;
use muster_proto::v1;

use super::{
    Ended,
    args::{Apply, Global},
    connect::{self, Client},
    failure, follow,
    progress::Stage,
    render, site,
};
use crate::plan::{SavedPlan, render as plan_text};

/// `muster plan`.
pub async fn plan(global: &Global, wait: u32) -> anyhow::Result<Ended> {
    let Some((files, site)) = site::load(global)? else { return Ok(Ended::Error) };
    let mut client = connect::connect(&site).await?;
    let Some(plan) = make(&mut client, global, &files, wait).await? else { return Ok(Ended::Error) };
    if global.json {
        render::print_json(&plan)?;
    } else {
        print!("{}", plan_text(&plan));
    }
    Ok(if plan.changes() { Ended::Changes } else { Ended::Good })
}

/// Has the coordinator plan this site. `None`: it found errors, which are printed.
pub async fn make(
    client: &mut Client,
    global: &Global,
    files: &SiteFiles,
    wait: u32,
) -> anyhow::Result<Option<SavedPlan>> {
    let mut stage = Stage::begin("planning");
    let request = v1::PlanRequest { site: Some(v1::SiteFiles { files: files.0.clone().into_iter().collect() }), wait };
    let mut events = client.plan(request).await.map_err(failure)?.into_inner();
    while let Some(event) = events.message().await.map_err(failure)? {
        match event.event {
            Some(v1::plan_event::Event::Progress(text)) => stage.update(text),
            Some(v1::plan_event::Event::PlanJson(json)) => {
                let plan = serde_json::from_str(&json)
                    .context("the coordinator's plan cannot be read: is it of another version?")?;
                stage.done("");
                return Ok(Some(plan));
            }
            Some(v1::plan_event::Event::DiagnosticsJson(json)) => {
                drop(stage);
                render::diagnostics(&serde_json::from_str(&json)?, global.json)?;
                return Ok(None);
            }
            None => {}
        }
    }
    bail!("the coordinator ended without a plan\n  help: muster events")
}

/// `muster apply [PLAN]`.
pub async fn apply(global: &Global, args: &Apply) -> anyhow::Result<Ended> {
    let Some((files, site)) = site::load(global)? else { return Ok(Ended::Error) };
    let mut client = connect::connect(&site).await?;
    let id = match &args.plan {
        Some(id) => id.clone(),
        None => {
            let Some(plan) = make(&mut client, global, &files, 10).await? else { return Ok(Ended::Error) };
            if !plan.changes() {
                if global.json {
                    render::print_json(&plan)?;
                } else {
                    println!("Nothing to do: all is as the site says.");
                }
                return Ok(Ended::Good);
            }
            if !global.json {
                print!("{}", plan_text(&plan));
            }
            if !agreed(global, "Apply this?")? {
                println!("Nothing was changed.");
                return Ok(Ended::Good);
            }
            plan.id
        }
    };
    match publish(&mut client, global, &id, args.only.as_deref()).await? {
        Ended::Good if !args.no_wait => follow::until_written(&mut client).await,
        ended => Ok(ended),
    }
}

/// Publishes a plan. A stale one changes nothing and shows the differences.
pub async fn publish(client: &mut Client, global: &Global, plan: &str, only: Option<&str>) -> anyhow::Result<Ended> {
    let request = v1::ApplyRequest { plan: plan.to_owned(), only: only.unwrap_or_default().to_owned() };
    let reply = client.apply(request).await.map_err(failure)?.into_inner();
    if reply.stale.is_empty() {
        return Ok(Ended::Good);
    }
    if global.json {
        render::print_json(&serde_json::json!({ "stale": reply.stale }))?;
    } else {
        eprintln!("error: plan {plan} is stale; nothing was changed. What differs now:");
        for line in &reply.stale {
            eprintln!("  {line}");
        }
        eprintln!("  help: muster plan, and apply what it shows");
    }
    Ok(Ended::Stale)
}

/// Asks on a terminal; elsewhere only `--yes` agrees.
pub fn agreed(global: &Global, question: &str) -> anyhow::Result<bool> {
    if global.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("this would ask, and there is no terminal\n  help: add --yes");
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
