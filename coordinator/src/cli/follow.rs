//! Following a converge until all is as written, or until nothing moves any more.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::{Ended, connect::Client, look, progress::Stage, render};
use crate::status::Status;

const EVERY: Duration = Duration::from_millis(300);
/// Without any progress for this long, a person should look.
const PATIENCE: Duration = Duration::from_secs(300);

/// Follows until every node is as written.
pub async fn until_written(client: &mut Client) -> anyhow::Result<Ended> {
    let mut stage = Stage::begin("converging");
    let status = until(client, &mut stage, PATIENCE, Status::written).await?;
    stage.done(&format!("{} nodes as written", status.nodes.len()));
    Ok(Ended::Good)
}

/// Follows until `good`. A coordinator that goes away in between is waited for: it goes on where it was.
pub async fn until(
    client: &mut Client,
    stage: &mut Stage,
    patience: Duration,
    good: impl Fn(&Status) -> bool,
) -> anyhow::Result<Status> {
    let mut moved = Instant::now();
    let mut last = String::new();
    loop {
        let told = match look::ask(client).await {
            Ok(status) if good(&status) => return Ok(status),
            Ok(status) => status.progress(),
            Err(error) => {
                format!("waiting for the coordinator: {}", error.to_string().lines().next().unwrap_or_default())
            }
        };
        if told != last {
            moved = Instant::now();
            stage.update(told.clone());
            last = told;
        }
        if moved.elapsed() > patience {
            let failing = match look::ask(client).await {
                Ok(status) => status.text(),
                Err(error) => error.to_string(),
            };
            bail!(
                "nothing moved for {} s: {last}\n{failing}\n  help: muster node why NODE; muster events; run this command again to go on",
                patience.as_secs()
            );
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// `muster status --watch`: the whole status again whenever it changes.
pub async fn watch(client: &mut Client, json: bool) -> anyhow::Result<Ended> {
    let mut last = String::new();
    loop {
        match look::ask(client).await {
            Ok(status) if json => {
                let text = serde_json::to_string(&status)?;
                if text != last {
                    println!("{text}");
                    last = text;
                }
            }
            Ok(status) => {
                let text = status.text();
                if text != last {
                    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                        // Home and clear: the screen holds one status.
                        print!("\x1b[H\x1b[2J");
                    }
                    println!("{text}");
                    last = text;
                }
            }
            Err(error) => eprintln!("{}", render::chain(&error)),
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(Ended::Good),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
