//! `[[sysctl]]`: the live value below `/proc/sys`, and a file that keeps it.

use std::{collections::BTreeMap, io::ErrorKind};

use muster_catalog::kinds::sysctl::SysctlSpec;
use muster_plan::kinds::sysctl::{Change, Observed, equal};

use crate::{Context, Done, StepError};

/// Where systemd-sysctl looks, the first with a file's name wins.
const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

pub async fn observe(ctx: &Context, spec: &SysctlSpec) -> Result<Observed, StepError> {
    Ok(Observed { live: live(ctx, spec)?, kept: text(ctx, &spec.file())?, later: later(ctx, spec)? })
}

fn text(ctx: &Context, path: &str) -> Result<Option<String>, StepError> {
    Ok(ctx.files.read(path)?.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

fn live(ctx: &Context, spec: &SysctlSpec) -> Result<Option<String>, StepError> {
    match ctx.files.read(&spec.live_file()) {
        Ok(content) => Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned())),
        // root itself may not read those that only set something off, as `net.ipv4.route.flush`.
        Err(error) if error.source.kind() == ErrorKind::PermissionDenied && !spec.absent => {
            Err(StepError::failed(format!("{} cannot be read, so it is no setting that could be kept", spec.key))
                .help("a [[command]] can write it when something notifies it"))
        }
        Err(_) if spec.absent => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The last file that a boot reads after ours and that sets the key. Patterns of keys count for nothing: ours is exact.
fn later(ctx: &Context, spec: &SysctlSpec) -> Result<Option<(String, String)>, StepError> {
    let ours = spec.file();
    let ours = ours.rsplit('/').next().unwrap_or_default();
    let mut after: BTreeMap<String, &str> = BTreeMap::new();
    for folder in FOLDERS {
        let names = ctx.files.list(folder)?.unwrap_or_default();
        for name in names.into_iter().filter(|name| name.as_str() > ours && name.ends_with(".conf")) {
            after.entry(name).or_insert(folder);
        }
    }
    let path = SysctlSpec::path(&spec.key);
    for (name, folder) in after.into_iter().rev() {
        let file = format!("{folder}/{name}");
        let content = text(ctx, &file)?.unwrap_or_default();
        let set = content.lines().rev().find_map(|line| {
            let (key, value) = line.trim_start().split_once('=')?;
            let key = key.trim();
            let ours = !key.starts_with(['#', ';']) && SysctlSpec::path(key.strip_prefix('-').unwrap_or(key)) == path;
            ours.then(|| value.trim().to_owned())
        });
        if let Some(value) = set {
            return Ok(Some((file, value)));
        }
    }
    Ok(None)
}

pub async fn apply(ctx: &Context, spec: &SysctlSpec, change: &Change) -> Result<Done, StepError> {
    if change.removed {
        ctx.files.remove(&spec.file(), false)?;
    }
    // First: what the kernel refuses it would refuse at each boot.
    let other = if change.live { set(ctx, spec)? } else { None };
    if let Some(text) = &change.kept {
        ctx.files.write(&spec.file(), text.as_bytes(), 0o644, 0, 0)?;
    }
    if let Some(made) = other {
        let help =
            format!("it rounds, has a limit, or has no room for more: write value = \"{made}\", or what it can keep");
        return Err(StepError::failed(format!("the kernel makes {made} of {} = {}", spec.key, spec.value)).help(help));
    }
    match &change.overruled {
        Some(how) => Err(StepError::failed(format!("{} would not hold over a boot: {how}", spec.key))
            .help("take the line out of that file, or remove the file: [[file]] with absent = true")),
        None => Ok(Done::default()),
    }
}

/// Gives the value that the kernel made of ours, where it is another one.
fn set(ctx: &Context, spec: &SysctlSpec) -> Result<Option<String>, StepError> {
    let place = spec.live_file();
    let Some(stat) = ctx.files.stat(&place)? else {
        let of_interface = place.contains("/conf/") || place.contains("/neigh/");
        let brings = if of_interface { "what makes its interface" } else { "a kernel_module that brings it" };
        return Err(StepError::failed(format!("this kernel has no setting {}", spec.key))
            .help(format!("does something else come first? name {brings} in `after`")));
    };
    if stat.mode & 0o222 == 0 {
        return Err(StepError::failed(format!("{} can be read and not set", spec.key))
            .help("the kernel says something by it; another key, or a parameter of the boot, may decide it"));
    }
    ctx.files.write_in_place(&place, format!("{}\n", spec.value).as_bytes()).map_err(|error| {
        let kind = error.source.kind();
        let step = StepError::from(error);
        match kind {
            ErrorKind::InvalidInput => step.help(format!("the kernel takes no `{}` for {}", spec.value, spec.key)),
            ErrorKind::NotFound => step.help(format!(
                "this kernel has no `{}` for {}: does a kernel_module bring it? name it in `after`",
                spec.value, spec.key
            )),
            _other => step,
        }
    })?;
    let made = live(ctx, spec)?.unwrap_or_default();
    Ok((!equal(&made, &spec.value)).then(|| made.split_whitespace().collect::<Vec<_>>().join(" ")))
}
