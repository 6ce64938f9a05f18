//! Programs in a container that runs.

use std::time::Duration;

use bollard::{
    container::LogOutput,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::{container::short, engine::Engine, error::DockerError};

/// None of what is run takes a second. Docker's own limit ends with the answer's head.
const LIMIT: Duration = Duration::from_secs(60);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub code: i64,
    pub out: String,
    pub err: String,
}

impl Engine {
    /// Runs a program in a container, by its name or id, with `input` as its standard input; none where that is empty.
    pub async fn exec(&self, container: &str, command: &[&str], input: &str) -> Result<Ran, DockerError> {
        tokio::time::timeout(LIMIT, self.exec_without_limit(container, command, input)).await.unwrap_or_else(|_| {
            let (what, limit) = (doing(container, command), LIMIT.as_secs());
            Err(DockerError::Slow { what: format!("{what}: it did not end within {limit} s") })
        })
    }

    /// The same; `None` where there is no such container, or it does not run.
    pub async fn exec_if_running(
        &self,
        container: &str,
        command: &[&str],
        input: &str,
    ) -> Result<Option<Ran>, DockerError> {
        match self.exec(container, command, input).await {
            Ok(ran) => Ok(Some(ran)),
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn exec_without_limit(&self, container: &str, command: &[&str], input: &str) -> Result<Ran, DockerError> {
        let failed = |error| DockerError::of(doing(container, command), error);
        let config = ExecConfig {
            cmd: Some(command.iter().map(ToString::to_string).collect()),
            attach_stdin: Some(!input.is_empty()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let made = self.docker.create_exec(container, config).await.map_err(failed)?;
        let started = self.docker.start_exec(&made.id, None::<StartExecOptions>).await.map_err(failed)?;
        let (mut out, mut err) = (String::new(), String::new());
        // Only one that is told to detach does not attach.
        if let StartExecResults::Attached { mut output, input: mut to } = started {
            if !input.is_empty() {
                let written = async {
                    to.write_all(input.as_bytes()).await?;
                    to.shutdown().await
                };
                written.await.map_err(|error: std::io::Error| failed(error.into()))?;
            }
            while let Some(part) = output.next().await {
                match part.map_err(failed)? {
                    LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
                    LogOutput::StdOut { message } | LogOutput::Console { message } => {
                        out.push_str(&String::from_utf8_lossy(&message));
                    }
                    LogOutput::StdIn { .. } => {}
                }
            }
        }
        let code = self.docker.inspect_exec(&made.id).await.map_err(failed)?.exit_code.unwrap_or(-1);
        Ok(Ran { code, out, err })
    }
}

fn doing(container: &str, command: &[&str]) -> String {
    // An id is long, a name is what people know.
    let id = container.len() == 64 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    let container = if id { short(container) } else { container.to_owned() };
    format!("run {} in container {container}", command.first().unwrap_or(&""))
}
