//! An operator's first certificate: signed within the coordinator's container, by the right to use Docker.

use anyhow::{Context, bail};
use bollard::{
    API_DEFAULT_VERSION, Docker,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
};
use futures::StreamExt;
use muster_ids::OperatorName;
use muster_proto::{OperatorRole, identity::Realm};
use tokio::io::AsyncWriteExt;

use crate::cloud::docker::own_socket;

/// Seconds.
const TIMEOUT: u64 = 120;

/// The coordinator's container.
pub fn container(realm: &Realm) -> String {
    format!("muster-{}-{}-coordinator", realm.cluster, realm.environment)
}

/// Signs a request. Returns the chain and the CA.
pub async fn issue(
    realm: &Realm,
    name: &OperatorName,
    role: OperatorRole,
    request_pem: &str,
) -> anyhow::Result<(String, String)> {
    let mut args = vec!["/usr/local/bin/muster", "coordinator", "issue-operator", "--name", name.as_str()];
    if role != OperatorRole::Admin {
        // Unsaid it is admin, which a coordinator from before there were roles understands, too.
        args.extend(["--role", role.as_str()]);
    }
    let chain = exec(realm, &args, request_pem).await?;
    Ok((chain, ca(realm).await?))
}

/// The CA's certificate that the coordinator has now.
pub async fn ca(realm: &Realm) -> anyhow::Result<String> {
    exec(realm, &["/usr/local/bin/muster", "coordinator", "ca"], "").await
}

async fn exec(realm: &Realm, args: &[&str], input: &str) -> anyhow::Result<String> {
    let container = container(realm);
    let socket = own_socket()?;
    let docker = Docker::connect_with_socket(&socket.to_string_lossy(), TIMEOUT, API_DEFAULT_VERSION)
        .context("Docker is not reachable")?;
    let options = ExecConfig {
        cmd: Some(args.iter().map(ToString::to_string).collect()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let made = docker.create_exec(&container, options).await.map_err(|error| {
        anyhow::Error::new(error).context(format!("no coordinator runs for {realm} on this machine\n  help: muster up"))
    })?;
    let StartExecResults::Attached { mut output, input: mut to } =
        docker.start_exec(&made.id, None::<StartExecOptions>).await?
    else {
        bail!("Docker did not attach to {container}");
    };
    to.write_all(input.as_bytes()).await?;
    to.shutdown().await?;
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(part) = output.next().await {
        match part? {
            bollard::container::LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
            bollard::container::LogOutput::StdOut { message } | bollard::container::LogOutput::Console { message } => {
                out.push_str(&String::from_utf8_lossy(&message));
            }
            bollard::container::LogOutput::StdIn { .. } => {}
        }
    }
    let code = docker.inspect_exec(&made.id).await?.exit_code.unwrap_or(-1);
    if code != 0 {
        bail!("{} in {container} ended with {code}: {}", args[1..].join(" "), err.trim());
    }
    Ok(out)
}
