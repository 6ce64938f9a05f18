//! `[[swap]]`: made, switched on and off, and its line of `/etc/fstab`.
//!
//! A file is written whole beside its place and moved there when it has its signature, so what is at the path is swap or somebody else's. It is
//! switched on before its line is written, because a line that cannot be switched on holds up the boot.

use std::time::Duration;

use muster_catalog::kinds::swap::SwapSpec;
use muster_plan::{
    fstab,
    kinds::swap::{Change, Content, Observed, There, active, is_swap},
    mounts::clean,
};

use super::{fstab_file, place::must_be_roots, program};
use crate::{
    Context, Done, StepError,
    ports::{FileKind, Found, Invocation},
};

/// So much of a file shows whether it is swap.
const BEGINS: usize = 65536;
/// A large file on a slow disk.
const WRITE: Duration = Duration::from_secs(3 * 3600);
/// File systems whose files the kernel can swap to (swapon(8)).
const GOOD: &[&str] = &["btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs"];

pub async fn observe(ctx: &Context, spec: &SwapSpec) -> Result<Observed, StepError> {
    let path = ctx.mounts.resolve(&spec.path)?;
    let text = ctx.files.read(fstab::PATH)?.unwrap_or_default();
    let swaps = ctx.files.read("/proc/swaps")?.unwrap_or_default();
    let active = active(&String::from_utf8_lossy(&swaps)).into_iter().find(|active| active.path == path);
    let mut spellings = Vec::new();
    for entry in fstab::entries(&text).into_iter().filter(|entry| entry.line.fstype == "swap") {
        let source = entry.line.source;
        let same = match ctx.mounts.find(&source).await? {
            Found::Device { path: found, .. } | Found::File { path: found } => found == path,
            Found::Word | Found::Folder { .. } | Found::Missing => clean(&source) == path,
        };
        if same {
            spellings.push(clean(&source));
        }
    }
    Ok(Observed { there: there(ctx, spec, &path, active.is_some()).await?, path, active, fstab: text, spellings })
}

async fn there(ctx: &Context, spec: &SwapSpec, path: &str, active: bool) -> Result<There, StepError> {
    if let Found::Device { path, .. } = ctx.mounts.find(&spec.path).await? {
        let content = if active { Content::Swap } else { content(ctx, &path).await? };
        return Ok(There::Device { content });
    }
    Ok(match ctx.files.look(path, BEGINS)? {
        None => There::Nothing,
        Some((stat, begins)) if stat.kind == FileKind::File && is_swap(&begins) => {
            There::File { bytes: stat.size, private: stat.mode & 0o077 == 0 && stat.uid == 0 }
        }
        Some(_) => There::Other,
    })
}

/// What is on a device, by its signatures.
async fn content(ctx: &Context, device: &str) -> Result<Content, StepError> {
    let argv = ["blkid", "--probe", "--output", "export", device];
    let output = ctx.commands.run(Invocation::new(argv).read_only()).await?;
    let text = output.stdout();
    let named = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    match (named("TYPE=").or_else(|| named("PTTYPE=")), output.status) {
        (Some(kind), _) if kind == "swap" => Ok(Content::Swap),
        (Some(kind), _) => Ok(Content::Other(kind)),
        // Nothing that it knows (blkid(8)).
        (None, 2) => Ok(Content::Nothing),
        (None, 8) => Ok(Content::Other("several things at once".to_owned())),
        (None, _) => Err(program::failed(&argv.map(str::to_owned), &output)),
    }
}

pub async fn apply(ctx: &Context, spec: &SwapSpec, change: &Change) -> Result<Done, StepError> {
    if let Some(what) = &change.occupied {
        return Err(StepError::failed(what.clone()).help(
            "nothing was written to it: move what is there away, wipe the device with `wipefs`, or name another place",
        ));
    }
    let path = change.path.as_str();
    must_be_roots(ctx, &spec.path)?;
    if change.make.is_some() {
        can_hold(ctx, path)?;
    }
    if change.off {
        run(ctx, &["swapoff", "--", path]).await.map_err(|error| {
            error.help("is there memory enough for what is swapped out? stop something, the next run tries again")
        })?;
    }
    if change.remove {
        ctx.files.remove(path, false)?;
    }
    if let Some(bytes) = change.make {
        make(ctx, path, bytes).await?;
    }
    if change.close {
        ctx.files.set(path, 0o600, 0, 0)?;
    }
    if change.sign {
        run(ctx, &["mkswap", "--", path]).await?;
    }
    if change.on {
        let priority = spec.priority.map(|priority| priority.to_string());
        let mut argv = vec!["swapon"];
        if let Some(priority) = &priority {
            argv.extend(["--priority", priority]);
        }
        argv.extend(["--", path]);
        run(ctx, &argv).await.map_err(|error| {
            error.help("a node that is a container cannot switch swap on: use `when = 'facts.virtualization != \"container\"'`")
        })?;
    }
    if let Some(line) = &change.fstab {
        fstab_file::change(ctx, |text| line.edit(text)).await?;
    }
    Ok(Done::default())
}

async fn run(ctx: &Context, argv: &[&str]) -> Result<(), StepError> {
    program::must(ctx, argv.iter().map(|&word| word.to_owned()).collect()).await.map(drop)
}

/// The file system that the file would be on, if swap can be.
fn can_hold(ctx: &Context, path: &str) -> Result<String, StepError> {
    let table = ctx.mounts.table()?;
    let fstype = table.holding(path).map_or("nothing", |mount| mount.fstype.as_str());
    if GOOD.contains(&fstype) {
        return Ok(fstype.to_owned());
    }
    Err(StepError::failed(format!("{path} would be on {fstype}, which cannot hold a swap file"))
        .help(format!("name a path on {}, or a device", GOOD.join(", "))))
}

async fn make(ctx: &Context, path: &str, bytes: u64) -> Result<(), StepError> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let temporary = format!("{folder}/.{name}.muster-swap");
    // One that a kill left.
    ctx.files.remove(&temporary, false)?;
    let made = fill(ctx, &temporary, path, bytes).await;
    if made.is_err() {
        // The error that counts is the one before.
        let _ = ctx.files.remove(&temporary, false);
    }
    made
}

async fn fill(ctx: &Context, temporary: &str, path: &str, bytes: u64) -> Result<(), StepError> {
    ctx.files.write(temporary, b"", 0o600, 0, 0)?;
    if can_hold(ctx, temporary)? == "btrfs" {
        // Only while it is empty; the kernel refuses a file that is copied on write.
        run(ctx, &["chattr", "+C", temporary]).await?;
    }
    // Written and not allocated: what is allocated is a hole to some file systems.
    let words = ["dd", "if=/dev/zero", "bs=1M", "iflag=count_bytes", "conv=notrunc,fsync", "status=none"];
    let mut argv: Vec<String> = words.map(str::to_owned).into();
    argv.extend([format!("of={temporary}"), format!("count={bytes}")]);
    let output = ctx.commands.run(Invocation::new(argv.clone()).timeout(WRITE)).await?;
    if !output.success() {
        return Err(program::failed(&argv, &output).help("is there room for it? `df` on the node shows"));
    }
    run(ctx, &["mkswap", "--", temporary]).await?;
    run(ctx, &["mv", "--no-target-directory", "--", temporary, path]).await
}

#[cfg(test)]
mod tests;
