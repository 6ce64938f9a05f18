//! `[[user]]`: useradd, usermod, userdel.

use muster_catalog::kinds::user::UserSpec;
use muster_plan::kinds::user::{Account, Change, Observed};

use super::{accounts::Accounts, program};
use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &UserSpec) -> Result<Observed, StepError> {
    let accounts = Accounts::new(&*ctx.files);
    let groups = accounts.groups()?;
    let own_group = groups.iter().any(|group| group.name == spec.name);
    let current = accounts.users()?.iter().find(|user| user.name == spec.name).map(|user| Account {
        uid: user.uid,
        group: groups
            .iter()
            .find(|group| group.gid == user.gid)
            .map_or_else(|| user.gid.to_string(), |group| group.name.clone()),
        groups: groups
            .iter()
            .filter(|group| group.gid != user.gid && group.members.contains(&user.name))
            .map(|group| group.name.clone())
            .collect(),
        home: user.home.clone(),
        shell: user.shell.clone(),
    });
    Ok(Observed { current, own_group })
}

pub async fn apply(ctx: &Context, spec: &UserSpec, change: &Change) -> Result<Done, StepError> {
    let mut argv: Vec<String> = Vec::new();
    let mut option = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
    let program = match change {
        Change::Create { own_group } => {
            if let Some(uid) = spec.uid {
                option("--uid", &uid.to_string());
            }
            match &spec.group {
                Some(group) => option("--gid", group),
                None if *own_group => option("--gid", &spec.name),
                None => argv.push("--user-group".into()),
            }
            let mut option = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
            if !spec.groups.is_empty() {
                option("--groups", &spec.groups.join(","));
            }
            if let Some(home) = &spec.home {
                option("--home-dir", home);
            }
            if let Some(shell) = &spec.shell {
                option("--shell", shell);
            }
            argv.push(if spec.system { "--system" } else { "--create-home" }.into());
            "useradd"
        }
        Change::Modify { options, .. } => {
            for (name, value) in options {
                option(name, value);
            }
            "usermod"
        }
        // The home stays: data outlives accounts.
        Change::Remove => "userdel",
    };
    argv.insert(0, program.to_owned());
    argv.push(spec.name.clone());
    program::must(ctx, argv).await?;
    Ok(Done::default())
}
