//! `[[user]]`: useradd, usermod, userdel.

use muster_catalog::kinds::user::UserSpec;
use muster_plan::kinds::user::{Account, Change, Observed, Takes, further};

use super::accounts::{self, Accounts, Group, User};
use crate::{Context, Done, StepError, ports::Invocation};

/// So many processes are named.
const NAMED: usize = 5;
/// userdel's and usermod's status where processes run as the user.
const BUSY: i32 = 8;

pub async fn observe(ctx: &Context, spec: &UserSpec) -> Result<Observed, StepError> {
    let (own, groups, users) = {
        let accounts = Accounts::new(&*ctx.files);
        let users = accounts.users()?.to_vec();
        (users.iter().find(|user| user.name == spec.name).cloned(), accounts.groups()?.to_vec(), users)
    };
    let foreign = match &own {
        Some(_) => None,
        None => accounts::elsewhere(ctx, "passwd", &spec.name).await?.and_then(|line| accounts::user(&line)),
    };
    let mut observed = Observed {
        own_group: groups.iter().any(|group| group.name == spec.name),
        foreign: foreign.is_some(),
        ..Observed::default()
    };
    let Some(user) = own.or(foreign) else { return Ok(observed) };
    if spec.absent {
        observed.takes = takes(ctx, &user, &users, &groups)?;
    }
    if spec.absent || spec.uid.is_some_and(|uid| uid != user.uid) {
        observed.processes = processes(ctx, user.uid)?;
    }
    let primary = match groups.iter().find(|group| group.gid == user.gid) {
        Some(group) => group.name.clone(),
        None if observed.foreign => {
            let line = accounts::elsewhere(ctx, "group", &user.gid.to_string()).await?;
            line.and_then(|line| accounts::group(&line)).map_or_else(|| user.gid.to_string(), |group| group.name)
        }
        None => user.gid.to_string(),
    };
    observed.current = Some(Account {
        uid: user.uid,
        group: primary,
        groups: groups
            .iter()
            .filter(|group| group.gid != user.gid && group.members.contains(&user.name))
            .map(|group| group.name.clone())
            .collect(),
        home: user.home,
        shell: user.shell,
    });
    Ok(observed)
}

/// As userdel decides it.
fn takes(ctx: &Context, user: &User, users: &[User], groups: &[Group]) -> Result<Takes, StepError> {
    let Some(group) = groups.iter().find(|group| group.name == user.name) else { return Ok(Takes::Nothing) };
    let others = users.iter().any(|other| other.gid == group.gid && other.name != user.name);
    if group.gid != user.gid || others || group.members.iter().any(|member| *member != user.name) {
        return Ok(Takes::Nothing);
    }
    let settings = ctx.files.read("/etc/login.defs")?.unwrap_or_default();
    let settings = String::from_utf8_lossy(&settings).into_owned();
    let enabled = settings
        .lines()
        .filter_map(|line| line.trim().strip_prefix("USERGROUPS_ENAB"))
        .any(|value| value.trim() == "yes");
    Ok(match (enabled, ctx.scope.groups.contains(&group.name)) {
        (false, _) => Takes::Nothing,
        (true, false) => Takes::Group,
        (true, true) => Takes::KeptGroup,
    })
}

/// The first few processes that run as this user.
fn processes(ctx: &Context, uid: u32) -> Result<Vec<String>, StepError> {
    let mut found = Vec::new();
    for pid in ctx.files.list("/proc")?.unwrap_or_default() {
        if pid.parse::<u32>().is_err() || found.len() == NAMED {
            continue;
        }
        // One that has ended meanwhile is in nobody's way.
        let Ok(Some(status)) = ctx.files.read(&format!("/proc/{pid}/status")) else { continue };
        let status = String::from_utf8_lossy(&status).into_owned();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        if field("Uid:").split_whitespace().any(|id| id.parse() == Ok(uid)) {
            found.push(format!("{pid} ({})", field("Name:")));
        }
    }
    Ok(found)
}

pub async fn apply(ctx: &Context, spec: &UserSpec, change: &Change) -> Result<Done, StepError> {
    let _one = accounts::changing().await;
    match change {
        Change::Create { own_group, .. } => {
            let mut argv: Vec<String> = vec!["useradd".into()];
            let mut option = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
            if let Some(uid) = spec.uid {
                option("--uid", &uid.to_string());
            }
            match &spec.group {
                Some(group) => option("--gid", group),
                None if *own_group => option("--gid", &spec.name),
                None => argv.push("--user-group".into()),
            }
            let mut option = |name: &str, value: &str| argv.extend([name.to_owned(), value.to_owned()]);
            let groups: Vec<String> = further(spec, None).into_iter().flatten().collect();
            if !groups.is_empty() {
                option("--groups", &groups.join(","));
            }
            if let Some(home) = &spec.home {
                option("--home-dir", home);
            }
            if let Some(shell) = &spec.shell {
                option("--shell", shell);
            }
            argv.push(if spec.system { "--system" } else { "--create-home" }.into());
            argv.push(spec.name.clone());
            let output = accounts::must(ctx, argv).await?;
            // As that the home is there already and keeps its owner.
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(Done { notes: said.lines().map(str::to_owned).collect() })
        }
        Change::Modify { options, .. } => {
            let mut argv: Vec<String> = vec!["usermod".into()];
            argv.extend(options.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
            changed(ctx, spec, argv).await
        }
        Change::Remove { takes, .. } => {
            match takes {
                Takes::Nothing | Takes::Group => {}
                // userdel leaves a group that is not the user's own. A home that is not there keeps usermod from handing over files.
                Takes::KeptGroup => {
                    let aside = ["usermod", "--home", "/nonexistent", "--gid", "nogroup"].map(str::to_owned);
                    changed(ctx, spec, aside.to_vec()).await?;
                }
            }
            // The home stays: data outlives accounts.
            changed(ctx, spec, vec!["userdel".into()]).await
        }
        Change::Foreign(_) => {
            Err(StepError::failed(format!("the user {} comes from a directory service and differs", spec.name))
                .help("change it there, or write here what it has"))
        }
    }
}

/// Runs to success, or says what is in the way.
async fn changed(ctx: &Context, spec: &UserSpec, mut argv: Vec<String>) -> Result<Done, StepError> {
    argv.push(spec.name.clone());
    let output = ctx.commands.run(Invocation::new(argv.clone())).await?;
    if output.success() {
        return Ok(Done::default());
    }
    if output.status == BUSY {
        let uid = Accounts::new(&*ctx.files).uid(&spec.name)?;
        let who = uid.map_or_else(|| Ok(Vec::new()), |uid| processes(ctx, uid))?;
        let who = if who.is_empty() { output.tail(1) } else { who.join(", ") };
        let message = format!("processes run as the user {}: {who}", spec.name);
        return Err(StepError::failed(message)
            .help(format!(
                "end them first: a [[service]] that runs them gets running = false, and this user after = [\"service.…\"]; \
                 somebody logged in: `loginctl terminate-user {}`",
                spec.name
            ))
            .retry());
    }
    Err(accounts::failed(&argv, &output))
}
