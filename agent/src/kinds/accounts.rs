//! Users and groups of this machine, read from `/etc/passwd` and `/etc/group`; those of directory services by name.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use tokio::sync::{Mutex, MutexGuard};

use crate::{
    Context, StepError,
    ports::{CommandError, Files, Invocation, Output},
};

/// One program at a time changes accounts: each locks the files, and one that waits too long for that fails.
static CHANGES: Mutex<()> = Mutex::const_new(());

pub async fn changing() -> MutexGuard<'static, ()> {
    CHANGES.lock().await
}

/// The line of an account that this node's own files do not have, from whatever else `/etc/nsswitch.conf` names.
/// `database` is `passwd` or `group`.
pub async fn elsewhere(ctx: &Context, database: &str, name: &str) -> Result<Option<String>, StepError> {
    let text = ctx.files.read("/etc/nsswitch.conf")?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let sources =
        text.lines().find_map(|line| line.trim_start().strip_prefix(database)?.trim_start().strip_prefix(':'));
    if !sources.unwrap_or_default().split_whitespace().any(|source| !matches!(source, "files" | "compat")) {
        return Ok(None);
    }
    match ctx.commands.run(Invocation::new(["getent", database, name]).read_only()).await {
        Ok(output) if output.success() => Ok(output.stdout().lines().next().map(str::to_owned)),
        Ok(output) if output.status == NOT_KNOWN => Ok(None),
        Ok(output) => Err(super::program::failed(&["getent".to_owned()], &output)),
        Err(CommandError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// getent's status for a name that nobody has.
const NOT_KNOWN: i32 = 2;

/// Numbers of accounts that this node's own files do not have, by name; an error's words where the service did not answer.
#[derive(Debug, Clone, Default)]
pub struct Foreign {
    users: BTreeMap<String, Answer>,
    groups: BTreeMap<String, Answer>,
}

type Answer = Result<Option<u32>, String>;

impl Foreign {
    /// Asks for those of these owners and groups that are not the node's own.
    pub async fn of(ctx: &Context, owned: impl IntoIterator<Item = (&str, &str)>) -> Result<Self, StepError> {
        let mut foreign = Self::default();
        {
            let accounts = Accounts::new(&*ctx.files);
            for (owner, group) in owned {
                // What is no number that can be is said where it is used.
                if !foreign.users.contains_key(owner) && matches!(accounts.uid(owner), Ok(None)) {
                    foreign.users.insert(owner.to_owned(), Ok(None));
                }
                if !foreign.groups.contains_key(group) && matches!(accounts.gid(group), Ok(None)) {
                    foreign.groups.insert(group.to_owned(), Ok(None));
                }
            }
        }
        for (name, answer) in &mut foreign.users {
            *answer = ask(ctx, "passwd", name, |line| user(line).map(|user| user.uid)).await;
        }
        for (name, answer) in &mut foreign.groups {
            *answer = ask(ctx, "group", name, |line| group(line).map(|group| group.gid)).await;
        }
        Ok(foreign)
    }

    fn number(answers: &BTreeMap<String, Answer>, name: &str) -> Result<Option<u32>, StepError> {
        match answers.get(name) {
            Some(Ok(number)) => Ok(*number),
            Some(Err(said)) => Err(StepError::failed(format!("who `{name}` is cannot be found out: {said}")).retry()),
            None => Ok(None),
        }
    }
}

async fn ask(ctx: &Context, database: &str, name: &str, number: impl Fn(&str) -> Option<u32>) -> Answer {
    match elsewhere(ctx, database, name).await {
        Ok(line) => Ok(line.and_then(|line| number(&line))),
        Err(error) => Err(error.to_string()),
    }
}

/// The owner and the group of one resource, as `elsewhere` has them where the node has not.
pub async fn of_one<'a>(ctx: &'a Context, owner: &str, group: &str) -> Result<Accounts<'a>, StepError> {
    Ok(Accounts::with(&*ctx.files, Foreign::of(ctx, [(owner, group)]).await?))
}

/// Read once, at the first name that needs it.
pub struct Accounts<'a> {
    files: &'a dyn Files,
    foreign: Foreign,
    passwd: OnceCell<Vec<User>>,
    group: OnceCell<Vec<Group>>,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub gid: u32,
    pub members: BTreeSet<String>,
}

impl<'a> Accounts<'a> {
    pub fn new(files: &'a dyn Files) -> Self {
        Self::with(files, Foreign::default())
    }

    pub fn with(files: &'a dyn Files, foreign: Foreign) -> Self {
        Self { files, foreign, passwd: OnceCell::new(), group: OnceCell::new() }
    }

    pub fn users(&self) -> Result<&[User], StepError> {
        if let Some(users) = self.passwd.get() {
            return Ok(users);
        }
        let text = self.files.read("/etc/passwd")?.unwrap_or_default();
        let users = String::from_utf8_lossy(&text).lines().filter_map(user).collect();
        Ok(self.passwd.get_or_init(|| users))
    }

    pub fn groups(&self) -> Result<&[Group], StepError> {
        if let Some(groups) = self.group.get() {
            return Ok(groups);
        }
        let text = self.files.read("/etc/group")?.unwrap_or_default();
        let groups = String::from_utf8_lossy(&text).lines().filter_map(group).collect();
        Ok(self.group.get_or_init(|| groups))
    }

    /// The id of a user by name, or a number as it is; none where there is no such user.
    pub fn uid(&self, name: &str) -> Result<Option<u32>, StepError> {
        if name == "root" {
            return Ok(Some(0));
        }
        if let Some(number) = number(name)? {
            return Ok(Some(number));
        }
        match self.users()?.iter().find(|user| user.name == name) {
            Some(user) => Ok(Some(user.uid)),
            None => Foreign::number(&self.foreign.users, name),
        }
    }

    /// The id of a group by name, or a number as it is; none where there is no such group.
    pub fn gid(&self, name: &str) -> Result<Option<u32>, StepError> {
        if name == "root" {
            return Ok(Some(0));
        }
        if let Some(number) = number(name)? {
            return Ok(Some(number));
        }
        match self.groups()?.iter().find(|group| group.name == name) {
            Some(group) => Ok(Some(group.gid)),
            None => Foreign::number(&self.foreign.groups, name),
        }
    }
}

/// An account by its number; none where it is a name.
fn number(text: &str) -> Result<Option<u32>, StepError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // The highest one means "as it is" to the kernel.
    match text.parse() {
        Ok(number) if number != u32::MAX => Ok(Some(number)),
        Ok(_) | Err(_) => Err(StepError::failed(format!("there can be no account with the number {text}"))
            .help("the highest is 4294967294")),
    }
}

/// As the C library reads a line: blanks before it and before numbers do not count, and a shell may be missing.
pub fn user(line: &str) -> Option<User> {
    let mut fields = line.trim_start().split(':');
    Some(User {
        name: fields.next().filter(|name| is_name(name))?.to_owned(),
        uid: fields.nth(1)?.trim_start().parse().ok()?,
        gid: fields.next()?.trim_start().parse().ok()?,
        home: fields.nth(1)?.to_owned(),
        shell: fields.next().unwrap_or_default().to_owned(),
    })
}

/// Of comments and of what stands for a directory service (`+`, `-`) the library makes no accounts.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['#', '+', '-'])
}

pub fn group(line: &str) -> Option<Group> {
    let mut fields = line.trim_start().split(':');
    Some(Group {
        name: fields.next().filter(|name| is_name(name))?.to_owned(),
        gid: fields.nth(1)?.trim_start().parse().ok()?,
        members: fields
            .next()
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// The error of a program that changes accounts, with the way out where its words are known (useradd(8), groupadd(8)).
pub fn failed(argv: &[String], output: &Output) -> StepError {
    let said = output.tail(5);
    let step = super::program::failed(argv, output);
    let help = if said.contains("try again later") {
        "another program changes accounts at this moment, as vipw or passwd do: the next run tries again"
    } else if said.contains("is not unique") || (said.contains("GID") && said.contains("already exists")) {
        "another account has this number: `getent passwd NUMBER` or `getent group NUMBER` says which; choose a free one"
    } else if said.contains("does not exist") {
        "add the group as a group resource, or name the package that brings it in `after`"
    } else {
        return step;
    };
    step.help(help)
}

/// Runs to success.
pub async fn must(ctx: &Context, argv: Vec<String>) -> Result<Output, StepError> {
    let output = ctx.commands.run(Invocation::new(argv.clone())).await?;
    if output.success() { Ok(output) } else { Err(failed(&argv, &output)) }
}

/// Octal, as in `0644`.
pub fn mode(text: &str) -> Result<u32, StepError> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        Ok(_) | Err(_) => Err(StepError::failed(format!("`{text}` is no mode: write it in octal, as in 0644"))),
    }
}

/// An account that a file is to belong to, or what to do without it.
pub fn known(id: Option<u32>, what: &str, name: &str) -> Result<u32, StepError> {
    id.ok_or_else(|| {
        StepError::failed(format!("there is no {what} `{name}`")).help(format!(
            "add it as a {what} resource, and `after = [\"{what}.{name}\"]`; or does a package bring it?"
        ))
    })
}
