//! `[[kernel_module]]`: modprobe, and a file that loads it at boot. A module built into the kernel counts as loaded.

use muster_catalog::kinds::kernel_module::KernelModuleSpec;
use muster_plan::kinds::kernel_module::{Change, Observed};

use super::program;
use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &KernelModuleSpec) -> Result<Observed, StepError> {
    let kept = ctx.files.read(&spec.file())?.map(|content| String::from_utf8_lossy(&content).into_owned());
    Ok(Observed { loaded: loaded(ctx, &spec.name)?, kept })
}

fn loaded(ctx: &Context, name: &str) -> Result<bool, StepError> {
    let name = name.replace('-', "_");
    // Loaded modules, and built-in ones with parameters or a version.
    if ctx.files.stat(&format!("/sys/module/{name}"))?.is_some() {
        return Ok(true);
    }
    let release = ctx.files.read("/proc/sys/kernel/osrelease")?.unwrap_or_default();
    let list = format!("/lib/modules/{}/modules.builtin", String::from_utf8_lossy(&release).trim());
    let text = ctx.files.read(&list)?.unwrap_or_default();
    let wanted = format!("/{name}.ko");
    if String::from_utf8_lossy(&text).lines().any(|line| line.replace('-', "_").ends_with(&wanted)) {
        return Ok(true);
    }
    // A kernel without a list of its own (a container's node shares its host's) shows some by what they bring.
    let traces: &[&str] = match name.as_str() {
        "overlay" => &["overlay"],
        "br_netfilter" => &[],
        _other => &[],
    };
    let filesystems = ctx.files.read("/proc/filesystems")?.unwrap_or_default();
    let filesystems = String::from_utf8_lossy(&filesystems).into_owned();
    let known = |name: &&str| filesystems.split_whitespace().any(|word| word == *name);
    let bridged = name == "br_netfilter" && ctx.files.stat("/proc/sys/net/bridge")?.is_some();
    Ok(bridged || traces.iter().any(known))
}

pub async fn apply(ctx: &Context, spec: &KernelModuleSpec, change: &Change) -> Result<Done, StepError> {
    if change.removed {
        ctx.files.remove(&spec.file(), false)?;
    }
    if change.load {
        program::must(ctx, vec!["modprobe".into(), "--".into(), spec.name.clone()]).await.map_err(|error| {
            error
                .help("is the module part of this kernel? on a node that is a container the host's kernel must have it")
        })?;
    }
    if let Some(text) = &change.kept {
        ctx.files.write(&spec.file(), text.as_bytes(), 0o644, 0, 0)?;
    }
    Ok(Done::default())
}
