//! `[[mount]]`: a line of `/etc/fstab`, and mount or umount.

use muster_catalog::kinds::mount::MountSpec;
use muster_plan::kinds::mount::{Change, Does, Mounted, Observed, options};

use super::program;
use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &MountSpec) -> Result<Observed, StepError> {
    let text = |path: &str| {
        let content = ctx.files.read(path)?.unwrap_or_default();
        Ok::<_, StepError>(String::from_utf8_lossy(&content).into_owned())
    };
    let table = text("/proc/self/mountinfo")?;
    Ok(Observed {
        // The last one lies on top.
        mounted: table.lines().filter_map(|line| mounted(line, &spec.path)).next_back(),
        fstab: text("/etc/fstab")?,
        device: device(&spec.source),
    })
}

fn mounted(line: &str, path: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    if unescape(left.split(' ').nth(4)?) != path {
        return None;
    }
    let mut fields = right.split(' ');
    Some(Mounted { fstype: fields.next()?.to_owned(), source: unescape(fields.next()?) })
}

fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn device(source: &str) -> Option<String> {
    let link = if let Some(uuid) = source.strip_prefix("UUID=") {
        format!("/dev/disk/by-uuid/{uuid}")
    } else if let Some(label) = source.strip_prefix("LABEL=") {
        format!("/dev/disk/by-label/{label}")
    } else {
        source.to_owned()
    };
    let real = std::fs::canonicalize(link).ok()?;
    Some(real.to_string_lossy().into_owned())
}

pub async fn apply(ctx: &Context, spec: &MountSpec, change: &Change) -> Result<Done, StepError> {
    if let Some(text) = &change.fstab {
        ctx.files.write("/etc/fstab", text.as_bytes(), 0o644, 0, 0)?;
    }
    let mount = |options: String| {
        let words = ["mount", "-t", &spec.fstype, "-o", &options, "--", &spec.source, &spec.path];
        words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()
    };
    let umount = vec!["umount".to_owned(), "--".to_owned(), spec.path.clone()];
    match change.does {
        Does::Nothing => {}
        Does::Mount => {
            ctx.files.make_dir(&spec.path)?;
            program::must(ctx, mount(options(spec))).await?;
        }
        Does::Remount => {
            program::must(ctx, mount(format!("remount,{}", options(spec)))).await?;
        }
        Does::Replace => {
            program::must(ctx, umount).await?;
            program::must(ctx, mount(options(spec))).await?;
        }
        Does::Unmount => {
            program::must(ctx, umount).await?;
        }
    }
    Ok(Done::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let line = "36 35 98:0 / /srv/a\\040b rw,noatime shared:1 - tmpfs tmpfs rw,size=1024k";
        let found = mounted(line, "/srv/a b").unwrap();
        assert_eq!((found.source.as_str(), found.fstype.as_str()), ("tmpfs", "tmpfs"));
        assert_eq!(mounted(line, "/srv"), None);
    }
}
