//! Putting the agent itself in its place: units, folders, and a first start. Run by the node's first boot; run again, it mends.

use std::time::Duration;

use crate::{
    Context, StepError,
    ports::{FileError, Invocation},
};

const UNIT: &str = "muster-agent.service";
const BINARY: &str = "/usr/local/bin/muster-agent";

/// What the agent brings along, and where it goes.
const FILES: &[(&str, &str)] = &[
    ("/etc/systemd/system/muster-agent.service", include_str!("../../systemd/muster-agent.service")),
    ("/etc/tmpfiles.d/muster-agent.conf", include_str!("../../systemd/muster-agent.tmpfiles")),
];

/// Installs the running binary and its units; enables it, and starts it unless `start` is false.
pub async fn install(ctx: &Context, start: bool) -> Result<Vec<String>, StepError> {
    let mut did = Vec::new();
    let own =
        std::env::current_exe().map_err(|error| StepError::failed("cannot find the running binary").because(error))?;
    if own.as_path() != std::path::Path::new(BINARY) {
        let content =
            std::fs::read(&own).map_err(|source| FileError { what: "read", path: own.clone(), source, help: None })?;
        if ctx.files.read(BINARY)?.as_deref() != Some(&content) {
            ctx.files.write(BINARY, &content, 0o755, 0, 0)?;
            did.push(format!("wrote {BINARY}"));
        }
    }
    for (path, content) in FILES {
        if ctx.files.read(path)?.as_deref() != Some(content.as_bytes()) {
            ctx.files.write(path, content.as_bytes(), 0o644, 0, 0)?;
            did.push(format!("wrote {path}"));
        }
    }
    let tmpfiles = Invocation::new(["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/muster-agent.conf"]);
    ctx.commands.run(tmpfiles.timeout(Duration::from_secs(30))).await?;
    ctx.units.daemon_reload().await?;
    let state = ctx.units.state(UNIT).await?;
    if state.file != "enabled" {
        ctx.units.enable(UNIT).await?;
        did.push(format!("enabled {UNIT}"));
    }
    if start {
        let verb = if did.is_empty() { "start" } else { "restart" };
        // Not waited for: first boot runs this from a unit that others wait for.
        let run = Invocation::new(["systemctl", "--no-block", verb, UNIT]).timeout(Duration::from_secs(30));
        let output = ctx.commands.run(run).await?;
        if !output.success() {
            return Err(StepError::failed(format!("{UNIT} cannot be started: {}", output.tail(2))));
        }
        if verb == "restart" {
            did.push(format!("started {UNIT}"));
        }
    }
    Ok(did)
}
