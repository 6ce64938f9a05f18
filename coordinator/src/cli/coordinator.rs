//! `muster coordinator …`: what runs in the coordinator's container, and its backup.

use std::{io::Read, path::Path};

use anyhow::{Context, ensure};
use muster_proto::{OperatorRole, v1};
use serde_json::json;

use super::{
    Ended,
    advice::Advice,
    args::{CoordinatorCommand, Global},
    connect, failure, remembered, render, site,
};
use crate::{app, authz::Deed, local};

/// Runs one of them.
pub async fn run(global: &Global, command: CoordinatorCommand) -> anyhow::Result<Ended> {
    match command {
        CoordinatorCommand::Serve { config } => {
            app::serve(app::Config::read(&config)?).await?;
            Ok(Ended::Good)
        }
        CoordinatorCommand::IssueOperator { config, name } => {
            let mut csr = String::new();
            std::io::stdin().take(64 << 10).read_to_string(&mut csr).context("no request on standard input")?;
            // As before there were roles; whoever enters the container may do everything anyway.
            let role = global.role.unwrap_or(OperatorRole::Admin);
            render::put(app::issue_operator(&app::Config::read(&config)?, &name.parse()?, role, &csr)?);
            Ok(Ended::Good)
        }
        CoordinatorCommand::Ca { config } => {
            render::put(app::ca(&app::Config::read(&config)?)?);
            Ok(Ended::Good)
        }
        CoordinatorCommand::Backup { file, to } => backup(global, &file, to).await,
        CoordinatorCommand::Restore { file, key, artefacts } => {
            let Some((_, site)) = site::load(global)? else { return Ok(Ended::Error) };
            let scope = local::start::scope(&site);
            connect::may(global, &scope, Deed::Restore)?;
            let (manifest, list) = Advice::new(global, &scope).manifest(artefacts.as_deref())?;
            remembered::remember(&remembered::folder(&scope)?, &list)?;
            local::restore::restore(&site, &file, &key, &manifest).await?;
            let text = format!("The coordinator runs from {}.", file.display());
            render::tell(global.json, &json!({ "restored": file }), text)?;
            Ok(Ended::Good)
        }
        CoordinatorCommand::Key { file } => {
            ensure!(!file.exists(), "{} exists and is not overwritten\n  help: name a new file", file.display());
            let identity = age::x25519::Identity::generate();
            let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
            let recipient = identity.to_public().to_string();
            // As age-keygen has it: who finds the file knows what to seal to.
            connect::write_private(&file, &format!("# public key: {recipient}\n{secret}\n"))?;
            render::tell(global.json, &json!({ "file": file, "recipient": recipient }), &recipient)?;
            Ok(Ended::Good)
        }
    }
}

async fn backup(global: &Global, file: &Path, recipients: Vec<String>) -> anyhow::Result<Ended> {
    let Some((_, site)) = site::load(global)? else { return Ok(Ended::Error) };
    let mut client = connect::connect(global, &site).await?;
    let mut chunks = client.backup(v1::BackupRequest { recipients }).await.map_err(failure)?.into_inner();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    let mut bytes = 0;
    while let Some(chunk) = chunks.message().await.map_err(failure)? {
        bytes += chunk.data.len();
        std::io::Write::write_all(&mut temporary, &chunk.data)?;
    }
    ensure!(bytes > 0, "the coordinator sent an empty backup\n  help: muster events");
    temporary.as_file().sync_all()?;
    temporary.persist(file).with_context(|| format!("cannot write {}", file.display()))?;
    let text = format!("{}: {bytes} bytes, sealed.", file.display());
    render::tell(global.json, &json!({ "file": file, "bytes": bytes }), text)?;
    Ok(Ended::Good)
}
