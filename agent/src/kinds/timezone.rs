//! `[[timezone]]`: `/etc/localtime`, which programs read, and `/etc/timezone`, which Debian's scripts do.

use muster_catalog::kinds::timezone::TimezoneSpec;
use muster_plan::kinds::timezone::{Change, Observed};

use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &TimezoneSpec) -> Result<Observed, StepError> {
    // A link may be written from its folder: `../usr/share/zoneinfo/…`.
    let whole = |target: String| match target.strip_prefix("../") {
        Some(below) => format!("/{below}"),
        None => target,
    };
    let name = ctx.files.read(TimezoneSpec::FILE)?;
    Ok(Observed {
        // A folder of zones is none, nor is a list of them.
        known: ctx.files.read(&spec.zone()).ok().flatten().is_some_and(|zone| zone.starts_with(b"TZif")),
        link: ctx.files.target(TimezoneSpec::LINK)?.map(whole),
        name: name.map(|name| String::from_utf8_lossy(&name).into_owned()),
    })
}

pub async fn apply(ctx: &Context, spec: &TimezoneSpec, change: &Change) -> Result<Done, StepError> {
    if !change.known {
        let message = format!("this node has no time zone {}", spec.name);
        let help = if ctx.files.stat("/usr/share/zoneinfo")?.is_some() {
            "`timedatectl list-timezones` shows those that it has"
        } else {
            "the package tzdata brings them: add it"
        };
        return Err(StepError::failed(message).help(help));
    }
    if change.link {
        ctx.files.link(TimezoneSpec::LINK, &spec.zone())?;
    }
    if change.name {
        ctx.files.write(TimezoneSpec::FILE, format!("{}\n", spec.name).as_bytes(), 0o644, 0, 0)?;
    }
    Ok(Done::default())
}
