//! Users and groups of this machine, read from `/etc/passwd` and `/etc/group`; those of directory services by name.

use std::{cell::OnceCell, collections::BTreeSet};

use tokio::sync::{Mutex, MutexGuard};

use crate::{
    Context, StepError,
    ports::{CommandError, Files, Invocation},
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

/// Read once, at the first name that needs it.
pub struct Accounts<'a> {
    files: &'a dyn Files,
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
        Self { files, passwd: OnceCell::new(), group: OnceCell::new() }
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
        if let Ok(number) = name.parse() {
            return Ok(Some(number));
        }
        Ok(self.users()?.iter().find(|user| user.name == name).map(|user| user.uid))
    }

    /// The id of a group by name, or a number as it is; none where there is no such group.
    pub fn gid(&self, name: &str) -> Result<Option<u32>, StepError> {
        if name == "root" {
            return Ok(Some(0));
        }
        if let Ok(number) = name.parse() {
            return Ok(Some(number));
        }
        Ok(self.groups()?.iter().find(|group| group.name == name).map(|group| group.gid))
    }
}

pub fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    Some(User {
        name: fields.next()?.to_owned(),
        uid: fields.nth(1)?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
        home: fields.nth(1)?.to_owned(),
        shell: fields.next()?.to_owned(),
    })
}

pub fn group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    Some(Group {
        name: fields.next()?.to_owned(),
        gid: fields.nth(1)?.parse().ok()?,
        members: fields.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    })
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
