//! What a unit is like: one call for all, and for each what its state makes worth asking.

use std::time::{Duration, SystemTime};

use futures::{StreamExt, stream};
use muster_plan::kinds::service::{Again, Once};
use zbus_systemd::{systemd1::ManagerProxy, zbus::OwnedObjectPath};

use super::{Systemd, left, property, refused, unreachable};
use crate::{
    adapters::journal,
    ports::{Invocation, UnitError, UnitState},
};

/// So many units are asked about at once.
const AT_ONCE: usize = 16;
/// Where links that start units at boot lie.
const LINKS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];

impl Systemd {
    pub(super) async fn look(&self, names: &[String]) -> Result<Vec<UnitState>, UnitError> {
        let manager = self.manager().await?;
        let listed = manager.list_units_by_names(names.to_vec()).await.map_err(unreachable)?;
        // In the order of the names, each by its own name: an alias is not among them.
        if listed.len() != names.len() {
            let mut states = Vec::with_capacity(names.len());
            for name in names {
                states.push(self.look_at_one(&manager, name).await?);
            }
            return Ok(states);
        }
        let each = listed.into_iter().map(|(id, _, load, active, sub, _, path, ..)| {
            let state = UnitState {
                id,
                loaded: load == "loaded",
                masked: load == "masked",
                active,
                sub,
                ..UnitState::default()
            };
            self.more(&manager, state, load, path)
        });
        Ok(stream::iter(each).buffered(AT_ONCE).collect().await)
    }

    async fn look_at_one(&self, manager: &ManagerProxy<'_>, name: &str) -> Result<UnitState, UnitError> {
        let path = manager.load_unit(name.to_owned()).await.map_err(|error| refused("load", name, error))?;
        let text = |property_name| property::<String>(manager, &path, "Unit", property_name);
        let load = text("LoadState").await.unwrap_or_default();
        let state = UnitState {
            id: text("Id").await.unwrap_or_else(|| name.to_owned()),
            loaded: load == "loaded",
            masked: load == "masked",
            active: text("ActiveState").await.unwrap_or_default(),
            sub: text("SubState").await.unwrap_or_default(),
            ..UnitState::default()
        };
        Ok(self.more(manager, state, load, path).await)
    }

    async fn more(
        &self,
        manager: &ManagerProxy<'_>,
        mut state: UnitState,
        load: String,
        path: OwnedObjectPath,
    ) -> UnitState {
        // Fresh from disk, where the unit's own property is remembered from the last reload.
        state.file = manager.get_unit_file_state(state.id.clone()).await.unwrap_or_default();
        if state.loaded {
            state.needs_reload = property(manager, &path, "Unit", "NeedDaemonReload").await.unwrap_or(false);
            state.can_reload = property(manager, &path, "Unit", "CanReload").await.unwrap_or(false);
        }
        match load.as_str() {
            "bad-setting" | "error" => state.bad = Some(self.words(manager, &state.id, &path).await),
            "not-found" => state.dangling = is_linked(&state.id),
            _usable => {}
        }
        if state.file == "linked" && !install(&path_of(manager, &path).await).1 {
            // Nothing in it says when it would start by itself.
            state.file = "static".to_owned();
        }
        if state.file == "indirect" {
            state.file = if also_enabled(manager, &path).await { "enabled" } else { "disabled" }.to_owned();
        }
        if state.file == "generated" && self.is_init_script(&state.id).await.unwrap_or(false) {
            state.file = if init_script_starts(&state.id) { "enabled" } else { "disabled" }.to_owned();
        }
        if state.id.ends_with(".service") {
            match state.active.as_str() {
                "active" | "activating" | "reloading" => state.again = again(manager, &path).await,
                "inactive" | "failed" => {
                    state.once = self.once(manager, &state, &path).await;
                    state.left = left::processes(manager, &state.id, &path).await;
                }
                _moving => {}
            }
        }
        state
    }

    /// Why a unit file cannot be used: line by line where systemd's own checker says it.
    async fn words(&self, manager: &ManagerProxy<'_>, id: &str, path: &OwnedObjectPath) -> String {
        let verify = Invocation::new(["systemd-analyze", "verify", "--recursive-errors=no", id]);
        let said = match self.commands.run(verify.timeout(Duration::from_secs(20))).await {
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(_) => String::new(),
        };
        let mut lines: Vec<&str> = said.lines().filter(|line| line.contains(id)).collect();
        lines.dedup();
        if lines.is_empty() {
            let error: Option<(String, String)> = property(manager, path, "Unit", "LoadError").await;
            return error.map_or_else(|| "systemd does not say why".to_owned(), |(_, words)| words);
        }
        lines.join("; ")
    }

    /// How a oneshot service that does not stay active ended since the boot.
    async fn once(&self, manager: &ManagerProxy<'_>, state: &UnitState, path: &OwnedObjectPath) -> Option<Once> {
        let kind: String = property(manager, path, "Service", "Type").await?;
        let stays: bool = property(manager, path, "Service", "RemainAfterExit").await?;
        if kind != "oneshot" || stays || !state.loaded {
            return None;
        }
        if state.active == "failed" {
            return Some(Once::Failed);
        }
        let result: String = property(manager, path, "Service", "Result").await?;
        let began: u64 = property(manager, path, "Unit", "InactiveExitTimestamp").await?;
        match (began, result.as_str()) {
            // systemd forgets a unit that nobody refers to; the journal does not. The kernel's boot is not a container's.
            (0, _) => {
                let boot = Duration::from_micros(manager.userspace_timestamp().await.ok()?);
                let ran = journal::ran(&*self.commands, &state.id, SystemTime::UNIX_EPOCH + boot).await;
                Some(if ran { Once::Succeeded } else { Once::NotRun })
            }
            (_, "success") => Some(Once::Succeeded),
            (_, _) => Some(Once::Failed),
        }
    }

    pub(super) async fn own_name(&self, name: &str) -> Result<String, UnitError> {
        let manager = self.manager().await?;
        let path = manager.load_unit(name.to_owned()).await.map_err(|error| refused("load", name, error))?;
        Ok(property(&manager, &path, "Unit", "Id").await.unwrap_or_else(|| name.to_owned()))
    }

    /// A unit that systemd made of a script in `/etc/init.d`.
    pub(super) async fn is_init_script(&self, id: &str) -> Result<bool, UnitError> {
        let manager = self.manager().await?;
        let path = manager.load_unit(id.to_owned()).await.map_err(|error| refused("load", id, error))?;
        let source: String = property(&manager, &path, "Unit", "SourcePath").await.unwrap_or_default();
        Ok(source.starts_with("/etc/init.d/"))
    }

    /// systemctl hands it to the distribution's own program.
    pub(super) async fn init_script(&self, verb: &'static str, id: &str) -> Result<(), UnitError> {
        let refused = |text: String| UnitError::Refused { verb, name: id.to_owned(), source: text.into() };
        match self.commands.run(Invocation::new(["systemctl", verb, id])).await {
            Ok(output) if output.success() => Ok(()),
            Ok(output) => Err(refused(output.tail(3))),
            Err(error) => Err(refused(error.to_string())),
        }
    }
}

/// Whether systemd runs it because it started it again.
async fn again(manager: &ManagerProxy<'_>, path: &OwnedObjectPath) -> Option<Again> {
    let times: u32 = property(manager, path, "Service", "NRestarts").await.filter(|times| *times > 0)?;
    let since: u64 = property(manager, path, "Unit", "ActiveEnterTimestamp").await?;
    Some(Again { times, seconds: age(since).as_secs() })
}

/// How long ago that was: microseconds since the epoch.
pub(super) fn age(micros: u64) -> Duration {
    let then = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    SystemTime::now().duration_since(then).unwrap_or_default()
}

fn is_linked(id: &str) -> bool {
    LINKS.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let links = [".wants", ".requires", ".upholds"].iter().any(|end| name.to_string_lossy().ends_with(end));
        links && entry.path().join(id).symlink_metadata().is_ok()
    })
}

/// A unit is `indirect` where its `[Install]` has others to enable and nothing of its own, or where somebody linked it by
/// another name. The first is enabled when those are; the second is not.
async fn also_enabled(manager: &ManagerProxy<'_>, path: &OwnedObjectPath) -> bool {
    let (also, mut own) = install(&path_of(manager, path).await);
    for name in &also {
        let state = manager.get_unit_file_state(name.clone()).await.unwrap_or_default();
        own |= matches!(state.as_str(), "disabled" | "masked" | "linked" | "");
    }
    !also.is_empty() && !own
}

async fn path_of(manager: &ManagerProxy<'_>, path: &OwnedObjectPath) -> String {
    property(manager, path, "Unit", "FragmentPath").await.unwrap_or_default()
}

/// What a unit file's `[Install]` has: other units to enable, and whether anything of its own.
fn install(file: &str) -> (Vec<String>, bool) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let install =
        text.split("[Install]").skip(1).flat_map(|part| part.lines().take_while(|line| !line.starts_with('[')));
    let (mut also, mut own) = (Vec::new(), false);
    for (key, value) in install.filter_map(|line| line.split_once('=')) {
        match key.trim() {
            "Also" => also.extend(value.split_whitespace().map(str::to_owned)),
            "WantedBy" | "RequiredBy" | "UpheldBy" | "Alias" => own |= !value.trim().is_empty(),
            _other => {}
        }
    }
    (also, own)
}

/// As Debian's `systemd-sysv-install is-enabled` looks.
fn init_script_starts(id: &str) -> bool {
    let script = id.trim_end_matches(".service");
    ["/etc/rc5.d", "/etc/rcS.d"]
        .into_iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with('S') && name.get(3..) == Some(script)
        })
}
