//! Following a converge until all is as written, or until nothing moves any more.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::{
    Ended, Interrupted,
    connect::Client,
    look,
    progress::Stage,
    render,
    wait::{Next, Silent, Wait},
};
use crate::status::Status;

const EVERY: Duration = Duration::from_millis(300);
/// Without any progress for this long, a person should look.
const PATIENCE: Duration = Duration::from_secs(300);

/// How a wait ended well.
pub struct Followed {
    pub status: Status,
    /// The nodes that were not waited for, a sentence each.
    pub aside: Vec<String>,
}

impl Followed {
    /// As in `4 nodes as written`.
    pub fn text(&self) -> String {
        format!("{} nodes as written", self.status.nodes.len() - self.aside.len())
    }
}

/// Follows an apply until every node is as written; those that are silent follow when they are back. `catalog`: what was
/// applied, to tell when another apply takes its place.
pub async fn until_written(client: &mut Client, catalog: Option<&str>) -> anyhow::Result<Followed> {
    let mut stage = Stage::begin("converging");
    let wait = Wait::new(PATIENCE, Silent::Aside, Instant::now());
    let wait = catalog.into_iter().fold(wait, Wait::of);
    let followed = until(client, &mut stage, wait).await?;
    stage.done(&followed.text());
    followed.aside.iter().for_each(|line| eprintln!("{line}"));
    Ok(followed)
}

/// Follows until all is as written. A coordinator that goes away in between is waited for: it goes on where it was.
pub async fn until(client: &mut Client, stage: &mut Stage, mut wait: Wait) -> anyhow::Result<Followed> {
    unless_interrupted(async {
        loop {
            let asked = look::ask(client).await;
            match wait.heard(asked.as_ref(), Instant::now()) {
                Next::Good { aside } => return Ok(Followed { status: asked?, aside }),
                Next::Wait { told } => stage.update(told),
                Next::Stuck { error } => bail!(error),
            }
            tokio::time::sleep(EVERY).await;
        }
    })
    .await
}

/// An interrupt ends the wait and nothing else: coordinator and nodes need nobody to look on.
pub async fn unless_interrupted<T>(wait: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Err(Interrupted.into()),
        ended = wait => ended,
    }
}

/// `muster status --watch`: the whole status again whenever it changes.
pub async fn watch(client: &mut Client, json: bool) -> anyhow::Result<Ended> {
    until_interrupted(show(client, json)).await
}

/// Ends well at an interrupt: what follows for ever has no other end.
pub async fn until_interrupted(work: impl Future<Output = anyhow::Result<Ended>>) -> anyhow::Result<Ended> {
    // Listened for all the time: an interrupt that comes while nobody listens is lost.
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(Ended::Good),
        ended = work => ended,
    }
}

async fn show(client: &mut Client, json: bool) -> anyhow::Result<Ended> {
    let mut last = String::new();
    loop {
        match look::ask(client).await {
            Ok(status) if json => {
                let text = serde_json::to_string(&status)?;
                if text != last {
                    render::say(&text);
                    last = text;
                }
            }
            Ok(status) => {
                let text = status.text();
                if text != last {
                    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                        // Home and clear: the screen holds one status.
                        render::put("\x1b[H\x1b[2J");
                    }
                    render::say(&text);
                    last = text;
                }
            }
            Err(error) => eprintln!("{}", render::Wrong::of(&error)),
        }
        tokio::time::sleep(EVERY).await;
    }
}
