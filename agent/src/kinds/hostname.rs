//! `[[hostname]]`: the kernel's name of this node, and the file from which a boot takes it.

use muster_catalog::kinds::hostname::HostnameSpec;
use muster_plan::kinds::hostname::{Change, Observed};

use crate::{Context, Done, StepError};

/// kubelet's identity: there on every member of a cluster.
const MEMBER: &str = "/etc/kubernetes/kubelet.conf";

pub async fn observe(ctx: &Context, _spec: &HostnameSpec) -> Result<Observed, StepError> {
    let text = |path: &str| {
        let content = ctx.files.read(path)?;
        Ok::<_, StepError>(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
    };
    // hostname(5): blank lines and comments count for nothing.
    let first = |text: String| {
        let name = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
        text.lines().find(name).map(|line| line.trim().to_owned())
    };
    Ok(Observed {
        live: text(HostnameSpec::LIVE)?.unwrap_or_default().trim().to_owned(),
        kept: text(HostnameSpec::FILE)?.and_then(first),
        member: ctx.files.stat(MEMBER)?.is_some(),
    })
}

pub async fn apply(ctx: &Context, spec: &HostnameSpec, change: &Change) -> Result<Done, StepError> {
    if change.member {
        let message = "this node is a member of a cluster, which knows it by the name that it has";
        return Err(StepError::failed(message).help("take it out of the cluster first, or take the [[hostname]] away"));
    }
    if change.kept {
        ctx.files.write(HostnameSpec::FILE, format!("{}\n", spec.name).as_bytes(), 0o644, 0, 0)?;
    }
    if change.live {
        ctx.files.write_in_place(HostnameSpec::LIVE, format!("{}\n", spec.name).as_bytes())?;
    }
    Ok(Done::default())
}
