//! kubeadm as a program: the phase by arguments, everything else by its standard input.

use std::time::{Duration, Instant};

use muster_catalog::kinds::cluster_member::ClusterMemberSpec;

use super::{fragments::Fragments, processes};
use crate::{
    Context, StepError,
    ports::{CommandError, FileKind, Invocation},
};

/// Long enough for a slow disk and a few hundred megabytes of images; kubeadm's own limits are shorter.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Runs `kubeadm ARGUMENTS --config /dev/stdin` with these documents. Tickets stand in no process list, and in no file but the
/// one in which kubeadm leaves kubelet the bootstrap token.
pub async fn run(ctx: &Context, arguments: &[&str], documents: &str) -> Result<(), StepError> {
    let mut argv = vec!["kubeadm"];
    argv.extend(arguments);
    argv.extend(["--config", "/dev/stdin"]);
    execute(ctx, argv, documents).await.map(drop)
}

/// As [`run`], for what it prints.
pub async fn print(ctx: &Context, arguments: &[&str], documents: &str) -> Result<String, StepError> {
    let mut argv = vec!["kubeadm"];
    argv.extend(arguments);
    argv.extend(["--config", "/dev/stdin"]);
    execute(ctx, argv, documents).await
}

/// Runs `kubeadm reset`: removes this node's etcd member, where there is one, and all that kubeadm wrote.
pub async fn reset(ctx: &Context) -> Result<(), StepError> {
    let argv = vec!["kubeadm", "reset", "--force", "--cri-socket", super::documents::CRI_SOCKET];
    execute(ctx, argv, "").await.map(drop)
}

/// Waits for a kubeadm that a killed agent left running: two at once could each make a CA of their own.
pub async fn wait_for_others(ctx: &Context) -> Result<(), StepError> {
    let begun = Instant::now();
    while !processes::find(&*ctx.files, |words| processes::is(words, "kubeadm"))?.is_empty() {
        if begun.elapsed() > TIMEOUT {
            return Err(StepError::failed("a kubeadm that somebody else started does not end").retry());
        }
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn execute(ctx: &Context, argv: Vec<&str>, stdin: &str) -> Result<String, StepError> {
    let what: Vec<_> = argv.iter().copied().take_while(|word| !word.starts_with('-')).collect();
    let what = what.join(" ");
    let begun = Instant::now();
    let invocation = Invocation::new(argv).stdin(stdin).timeout(TIMEOUT);
    let output = ctx.commands.run(invocation).await.map_err(|error| match error {
        CommandError::NotFound { program } => StepError::failed(format!("`{program}` is not installed"))
            .help("the role needs the packages kubeadm and kubelet before the cluster_member"),
        error @ (CommandError::Start { .. } | CommandError::TimedOut { .. } | CommandError::NoSandbox { .. }) => {
            StepError::failed(format!("{what} did not end well")).because(error).retry()
        }
    })?;
    let took = begun.elapsed().as_millis();
    tracing::info!(took, status = output.status, "{what}");
    if output.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let reason = reason(&String::from_utf8_lossy(&output.stderr));
    if former_node(&reason) {
        return Err(StepError::waits("the cluster to see that the former node of this name is gone"));
    }
    Err(StepError::failed(format!("{what} failed: {reason}"))
        .help("`journalctl -u kubelet` on the node says what kubelet made of it; the agent goes on by itself")
        .retry())
}

/// kubeadm refuses to join beside a Node of the same name that still counts as Ready: for about forty seconds after the machine
/// before this one died.
fn former_node(reason: &str) -> bool {
    reason.contains("a Node with name") && reason.contains("already exists in the cluster")
}

/// kubeadm's own words for what went wrong: its errors, without warnings and stack traces.
fn reason(stderr: &str) -> String {
    let errors: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("error") || line.starts_with("[ERROR") || line.starts_with("error:"))
        .collect();
    if !errors.is_empty() {
        return errors.join("; ");
    }
    let all: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(3)..].join("; ")
}

/// The admin's fragments from the folder that the specification names.
pub fn fragments(ctx: &Context, spec: &ClusterMemberSpec) -> Result<Fragments, StepError> {
    let Some(folder) = &spec.settings else { return Ok(Fragments::default()) };
    let mut files = Vec::new();
    for name in ctx.files.list(folder)?.unwrap_or_default() {
        let path = format!("{folder}/{name}");
        let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if !yaml || ctx.files.stat(&path)?.is_none_or(|stat| stat.kind == FileKind::Directory) {
            continue;
        }
        if let Some(text) = ctx.files.read(&path)? {
            files.push((path, String::from_utf8_lossy(&text).into_owned()));
        }
    }
    Fragments::parse(&files).map_err(|error| {
        let message = error.to_string();
        let step = StepError::failed(message).help("the folder of `settings` holds kubeadm's documents, one file each");
        match std::error::Error::source(&error).map(ToString::to_string) {
            Some(source) => step.because(source),
            None => step,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{former_node, reason};

    #[test]
    fn a_former_node_of_the_name_is_waited_for() {
        let stderr = "error: error execution phase kubelet-start: a Node with name \"workers-1\" and status \"Ready\" already \
                      exists in the cluster. You must delete the existing Node or change the name of this new joining Node\n";
        assert!(former_node(&reason(stderr)));
        assert!(!former_node("[ERROR FileAvailable]: /etc/kubernetes/kubelet.conf already exists"));
    }

    #[test]
    fn the_reason_is_kubeadms_own() {
        let stderr = "W1122 warning\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\
                      \t[ERROR Port-6443]: Port 6443 is in use\n[preflight] If you know\nTo see the stack trace\n";
        assert_eq!(
            reason(stderr),
            "error execution phase preflight: [preflight] Some fatal errors occurred:; [ERROR Port-6443]: Port 6443 is in use"
        );
        assert_eq!(reason("a\n\nb\nc\nd\n"), "b; c; d");
    }
}
