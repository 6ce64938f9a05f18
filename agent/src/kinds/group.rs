//! `[[group]]`: groupadd, groupmod, groupdel.

use muster_catalog::kinds::group::GroupSpec;
use muster_plan::kinds::group::{Change, Observed};

use super::accounts::{self, Accounts};
use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &GroupSpec) -> Result<Observed, StepError> {
    let own = Accounts::new(&*ctx.files).groups()?.iter().find(|group| group.name == spec.name).map(|group| group.gid);
    if own.is_some() {
        return Ok(Observed { gid: own, foreign: false });
    }
    let other = accounts::elsewhere(ctx, "group", &spec.name).await?.and_then(|line| accounts::group(&line));
    Ok(Observed { foreign: other.is_some(), gid: other.map(|group| group.gid) })
}

pub async fn apply(ctx: &Context, spec: &GroupSpec, change: &Change) -> Result<Done, StepError> {
    let mut argv: Vec<String> = Vec::new();
    match change {
        Change::Create => {
            argv.push("groupadd".into());
            if spec.system {
                argv.push("--system".into());
            }
            if let Some(gid) = spec.gid {
                argv.extend(["--gid".into(), gid.to_string()]);
            }
        }
        Change::Gid { to, .. } => argv.extend(["groupmod".into(), "--gid".into(), to.to_string()]),
        Change::Remove => argv.push("groupdel".into()),
        Change::Foreign(_) => {
            return Err(StepError::failed(format!(
                "the group {} comes from a directory service and differs",
                spec.name
            ))
            .help("change it there, or write here what it has"));
        }
    }
    argv.push(spec.name.clone());
    let _one = accounts::changing().await;
    accounts::must(ctx, argv).await?;
    Ok(Done::default())
}
