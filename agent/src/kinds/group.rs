//! `[[group]]`: groupadd, groupmod, groupdel.

use muster_catalog::kinds::group::GroupSpec;
use muster_plan::kinds::group::{Change, Observed};

use super::{accounts::Accounts, program};
use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &GroupSpec) -> Result<Observed, StepError> {
    let accounts = Accounts::new(&*ctx.files);
    Ok(Observed { gid: accounts.groups()?.iter().find(|group| group.name == spec.name).map(|group| group.gid) })
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
    }
    argv.push(spec.name.clone());
    program::must(ctx, argv).await?;
    Ok(Done::default())
}
