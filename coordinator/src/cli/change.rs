//! `plan` and `apply`: what would change, then exactly that.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use muster_catalog::SiteFiles;
use muster_ids::Generation;
use muster_proto::v1;
use serde_json::json;

use super::{
    Away, Ended,
    args::{Apply, Global},
    connect::{self, Client},
    failure,
    follow::{self, Followed},
    look,
    progress::Stage,
    remembered, render, site,
};
use crate::{
    local::start,
    plan::{SavedPlan, render as plan_text, summary},
    wire,
};

/// `muster plan`.
pub async fn plan(global: &Global, wait: u32) -> anyhow::Result<Ended> {
    let Some((files, site)) = site::load(global)? else { return Ok(Ended::Error) };
    let mut client = connect::connect(global, &site).await?;
    let Some(plan) = make(&mut client, global, &files, wait).await? else { return Ok(Ended::Error) };
    if plan.changes() {
        // For completion alone: a plan that was made is shown whatever becomes of it.
        let kept =
            remembered::folder(&start::scope(&site)).and_then(|folder| remembered::remember_plan(&folder, &plan.id));
        if let Err(error) = kept {
            tracing::debug!(error = format!("{error:#}"), "the plan is not remembered");
        }
    }
    if global.json {
        render::print_json(&plan)?;
    } else {
        render::put(plan_text(&plan));
    }
    Ok(planned(&plan))
}

/// How a plan that was shown ends the program: what a node could not plan, or did not answer, is not known, and an error
/// whatever else would change.
fn planned(plan: &SavedPlan) -> Ended {
    match (plan.counts.failed + plan.counts.silent, plan.changes()) {
        (1.., _) => Ended::Error,
        (0, true) => Ended::Changes,
        (0, false) => Ended::Good,
    }
}

/// How an apply that found nothing to do ends the program: a node that does not answer follows when it is back.
fn unchanged(plan: &SavedPlan) -> Ended {
    if plan.counts.failed > 0 { Ended::Error } else { Ended::Good }
}

/// Has the coordinator plan this site. `None`: it found errors, which are printed.
pub async fn make(
    client: &mut Client,
    global: &Global,
    files: &SiteFiles,
    wait: u32,
) -> anyhow::Result<Option<SavedPlan>> {
    let mut stage = Stage::begin("planning");
    let request = v1::PlanRequest { site: Some(wire::files(files)), wait };
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
    let mut client = connect::connect(global, &site).await?;
    let only = args.only.as_deref();
    let went = match &args.plan {
        Some(id) => {
            render::warnings(&site.warnings);
            publish(&mut client, id, only).await?
        }
        None => {
            let approve = |plan: &SavedPlan| {
                show(global, plan);
                agreed(global, "Apply this?")
            };
            plan_and_publish(&mut client, global, &files, only, approve).await?
        }
    };
    match went {
        Went::Published { plan, generation, catalog } => {
            let followed = match args.no_wait {
                true => None,
                false => Some(follow::until_written(&mut client, Some(&catalog)).await?),
            };
            if global.json {
                render::print_json(&applied(&plan, generation, followed.as_ref()))?;
            }
            Ok(Ended::Good)
        }
        Went::NothingToDo(plan) => {
            // What an earlier apply rolls out may come to nothing: what does not differ is not yet as written.
            let open = look::ask(&mut client).await.is_ok_and(|status| !status.written());
            if open && unchanged(&plan) == Ended::Good {
                eprintln!("{}", no_difference(args.no_wait));
                if !args.no_wait {
                    follow::until_written(&mut client, None).await?;
                }
            }
            match global.json {
                true => render::print_json(&plan)?,
                false if open && args.no_wait => {}
                false => render::say(nothing_to_do(&plan)),
            }
            Ok(unchanged(&plan))
        }
        went @ (Went::Wrong | Went::Declined | Went::Stale { .. }) => went.told(global),
    }
}

/// An apply that went well, for programs. Not followed, nothing is known of the nodes.
fn applied(plan: &str, generation: Option<Generation>, followed: Option<&Followed>) -> serde_json::Value {
    let aside = followed.map(|followed| &followed.aside);
    json!({ "plan": plan, "generation": generation, "followed": followed.is_some(), "aside": aside })
}

/// Shows a plan before somebody is asked about it; standard output is the result's where programs read it.
pub fn show(global: &Global, plan: &SavedPlan) {
    if global.json {
        eprint!("{}", plan_text(plan));
    } else {
        render::put(plan_text(plan));
    }
}

/// Nothing is to be changed, and not all is as written yet.
fn no_difference(no_wait: bool) -> &'static str {
    match no_wait {
        true => "Nothing differs from the site, and not everything is as written yet: muster status says what is open.",
        false => "Nothing differs from the site; waiting for what is not as written yet.",
    }
}

/// Why nothing is applied: every node is as the site says, or has not said otherwise.
fn nothing_to_do(plan: &SavedPlan) -> String {
    match plan.counts.silent + plan.counts.failed {
        0 if plan.warnings.is_empty() => summary(plan),
        _ => plan_text(plan).trim_end().to_owned(),
    }
}

/// How a plan and its publishing went.
pub enum Went {
    Published {
        plan: String,
        /// What nodes follow now.
        generation: Option<Generation>,
        /// The first digits of the site's digest.
        catalog: String,
    },
    NothingToDo(Box<SavedPlan>),
    /// The site has errors, which are printed.
    Wrong,
    Declined,
    /// Nothing was changed, because these things are no longer as the plan showed them.
    Stale {
        plan: String,
        differs: Vec<String>,
    },
}

impl Went {
    /// Tells what is not told yet, and how the program ends.
    pub fn told(self, global: &Global) -> anyhow::Result<Ended> {
        match self {
            Self::Published { .. } | Self::NothingToDo(_) => Ok(Ended::Good),
            Self::Wrong => Ok(Ended::Error),
            Self::Declined => render::unchanged(global.json).map(|()| Ended::Good),
            Self::Stale { differs, .. } if global.json => {
                render::print_json(&json!({ "stale": differs })).map(|()| Ended::Stale)
            }
            Self::Stale { plan, differs } => {
                eprintln!("error: plan {plan} is stale; nothing was changed. What differs now:");
                differs.iter().for_each(|line| eprintln!("  {line}"));
                eprintln!("  help: muster plan, and apply what it shows");
                Ok(Ended::Stale)
            }
        }
    }
}

/// Plans, has it approved and publishes it. What moves between the two (a node that answers again) makes the plan stale, and
/// a coordinator that goes away forgets it; nobody chose that plan by name, so it is made, and approved, anew.
pub async fn plan_and_publish(
    client: &mut Client,
    global: &Global,
    files: &SiteFiles,
    only: Option<&str>,
    approve: impl Fn(&SavedPlan) -> anyhow::Result<bool>,
) -> anyhow::Result<Went> {
    const MOST: u32 = 5;
    // One that is not there now is not waited for.
    look::ask(client).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        match once(client, global, files, only, &approve).await {
            Ok(Went::Stale { differs, .. }) if tries < MOST => {
                eprintln!("planned anew, because meanwhile: {}", differs.first().map_or("", String::as_str));
            }
            Err(error) if error.is::<Away>() && tries < MOST => {
                eprintln!("planned anew, because meanwhile the coordinator went away");
                back(client).await?;
            }
            went => return went,
        }
    }
}

async fn once(
    client: &mut Client,
    global: &Global,
    files: &SiteFiles,
    only: Option<&str>,
    approve: impl Fn(&SavedPlan) -> anyhow::Result<bool>,
) -> anyhow::Result<Went> {
    let Some(plan) = make(client, global, files, 10).await? else { return Ok(Went::Wrong) };
    if !plan.changes() {
        return Ok(Went::NothingToDo(Box::new(plan)));
    }
    if !approve(&plan)? {
        return Ok(Went::Declined);
    }
    publish(client, &plan.id, only).await
}

/// Waits for a coordinator that is being started again.
async fn back(client: &mut Client) -> anyhow::Result<()> {
    const LONG: Duration = Duration::from_secs(60);
    let began = Instant::now();
    loop {
        match look::ask(client).await {
            Err(error) if error.is::<Away>() && began.elapsed() < LONG => {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            answer => return answer.map(drop),
        }
    }
}

/// Publishes a plan, if all is still as it showed.
async fn publish(client: &mut Client, plan: &str, only: Option<&str>) -> anyhow::Result<Went> {
    let request = v1::ApplyRequest { plan: plan.to_owned(), only: only.unwrap_or_default().to_owned() };
    let v1::ApplyReply { generation, stale, catalog } = client.apply(request).await.map_err(failure)?.into_inner();
    let plan = plan.to_owned();
    Ok(match stale.is_empty() {
        true => Went::Published { plan, generation: generation.map(Into::into), catalog },
        false => Went::Stale { plan, differs: stale },
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::saved;

    #[test]
    fn a_plan_with_a_node_that_could_not_plan_or_did_not_answer_is_an_error() {
        let mut plan = saved();
        assert!(plan.changes());
        assert_eq!((planned(&plan), unchanged(&plan)), (Ended::Error, Ended::Error));
        plan.counts.failed = 0;
        // One did not answer: an apply leaves it out, and a plan does not know.
        assert_eq!((planned(&plan), unchanged(&plan)), (Ended::Error, Ended::Good));
        plan.counts.silent = 0;
        assert_eq!(planned(&plan), Ended::Changes);
    }
}
