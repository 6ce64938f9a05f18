//! systemd over D-Bus. Every action waits for its job's end, as systemctl does.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, stream::BoxStream};
use tokio::runtime;
use zbus_systemd::{
    systemd1::ManagerProxy,
    zbus::{self, Connection, MatchRule, MessageStream, message::Type},
};

use super::journal;
use crate::ports::{Commands, UnitError, UnitState, Units};

/// Longer than systemd's own default time-outs of start and stop, which end the job first.
const JOB: Duration = Duration::from_secs(300);

/// One call: systemd names a job at once, and its end is waited for by a signal. Only `Reload` does its work first.
const CALL: Duration = Duration::from_secs(120);

pub struct Systemd {
    /// Made at first use, again when it broke, and for another runtime: its reader is a task of the one it was made in.
    bus: tokio::sync::Mutex<Option<(runtime::Id, Connection)>>,
    /// For the last log lines of what failed.
    commands: Arc<dyn Commands>,
}

fn unreachable(error: zbus::Error) -> UnitError {
    UnitError::Unreachable(Box::new(error))
}

impl Systemd {
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        Self { bus: tokio::sync::Mutex::new(None), commands }
    }

    async fn connection(&self) -> Result<Connection, UnitError> {
        let here = runtime::Handle::current().id();
        let mut bus = self.bus.lock().await;
        if let Some((home, connection)) = &*bus
            && *home == here
        {
            // The bus may have gone away under us (dbus restarted): a cheap call tells.
            let ping = connection.call_method(
                Some("org.freedesktop.DBus"),
                "/org/freedesktop/DBus",
                Some("org.freedesktop.DBus.Peer"),
                "Ping",
                &(),
            );
            if ping.await.is_ok() {
                return Ok(connection.clone());
            }
        }
        let connection = zbus::connection::Builder::system().method_timeout(CALL).build().await.map_err(unreachable)?;
        *bus = Some((here, connection.clone()));
        Ok(connection)
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, UnitError> {
        let connection = self.connection().await?;
        ManagerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .map_err(unreachable)
    }

    async fn job(&self, verb: Verb, name: &str) -> Result<(), UnitError> {
        let manager = self.manager().await?;
        // Listening before asking, or a quick job would have ended unheard.
        manager.subscribe().await.map_err(unreachable)?;
        let mut removed = manager.receive_job_removed().await.map_err(unreachable)?;
        let (unit, mode) = (name.to_owned(), "replace".to_owned());
        let began = SystemTime::now();
        let asked = match verb {
            Verb::Start => manager.start_unit(unit, mode).await,
            Verb::Stop => manager.stop_unit(unit, mode).await,
            Verb::Restart => manager.restart_unit(unit, mode).await,
            Verb::Reload => manager.reload_or_restart_unit(unit, mode).await,
        };
        let job = asked.map_err(|error| refused(verb.as_str(), name, error))?;
        let wait = async {
            while let Some(signal) = removed.next().await {
                if let Ok(args) = signal.args()
                    && args.job == job
                {
                    return args.result.clone();
                }
            }
            "lost".to_owned()
        };
        let result = tokio::time::timeout(JOB, wait).await.unwrap_or_else(|_elapsed| "timeout".to_owned());
        if result == "done" {
            return Ok(());
        }
        let tail = journal::tail(&*self.commands, name, main_process(&manager, name).await, began).await;
        Err(UnitError::Job { verb: verb.as_str(), name: name.to_owned(), result, tail })
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

fn refused(verb: &'static str, name: &str, error: zbus::Error) -> UnitError {
    match &error {
        zbus::Error::MethodError(kind, _, _) if kind.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => {
            UnitError::NotFound { name: name.to_owned() }
        }
        zbus::Error::MethodError(..) => UnitError::Refused { verb, name: name.to_owned(), source: Box::new(error) },
        _transport => UnitError::Unreachable(Box::new(error)),
    }
}

#[async_trait::async_trait]
impl Units for Systemd {
    async fn state(&self, name: &str) -> Result<UnitState, UnitError> {
        let mut states = self.states(&[name.to_owned()]).await?;
        Ok(states.pop().unwrap_or_default())
    }

    async fn states(&self, names: &[String]) -> Result<Vec<UnitState>, UnitError> {
        let manager = self.manager().await?;
        let listed = manager.list_units_by_names(names.to_vec()).await.map_err(unreachable)?;
        let mut states = Vec::with_capacity(names.len());
        for name in names {
            let Some((_, _, load, active, sub, _, path, ..)) = listed.iter().find(|unit| unit.0 == *name) else {
                states.push(UnitState::default());
                continue;
            };
            let mut state = UnitState {
                loaded: load == "loaded",
                masked: load == "masked",
                active: active.clone(),
                sub: sub.clone(),
                file: String::new(),
                needs_reload: false,
            };
            if state.loaded {
                // Fresh from disk, where the unit's own property is remembered from the last reload.
                state.file = manager.get_unit_file_state(name.clone()).await.unwrap_or_default();
                state.needs_reload = property(&manager, path, "Unit", "NeedDaemonReload").await.unwrap_or(false);
            }
            states.push(state);
        }
        Ok(states)
    }

    async fn daemon_reload(&self) -> Result<(), UnitError> {
        self.manager().await?.reload().await.map_err(unreachable)
    }

    async fn enable(&self, name: &str) -> Result<(), UnitError> {
        let manager = self.manager().await?;
        let enabled = manager.enable_unit_files(vec![name.to_owned()], false, true).await;
        enabled.map_err(|error| refused("enable", name, error))?;
        manager.reload().await.map_err(unreachable)
    }

    async fn disable(&self, name: &str) -> Result<(), UnitError> {
        let manager = self.manager().await?;
        let disabled = manager.disable_unit_files(vec![name.to_owned()], false).await;
        disabled.map_err(|error| refused("disable", name, error))?;
        manager.reload().await.map_err(unreachable)
    }

    async fn start(&self, name: &str) -> Result<(), UnitError> {
        self.job(Verb::Start, name).await
    }

    async fn stop(&self, name: &str) -> Result<(), UnitError> {
        self.job(Verb::Stop, name).await
    }

    async fn restart(&self, name: &str) -> Result<(), UnitError> {
        self.job(Verb::Restart, name).await
    }

    async fn reload(&self, name: &str) -> Result<(), UnitError> {
        self.job(Verb::Reload, name).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, String>, UnitError> {
        let connection = self.connection().await?;
        self.manager().await?.subscribe().await.map_err(unreachable)?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.systemd1")
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .path_namespace("/org/freedesktop/systemd1/unit")
            .build()
            .map_err(unreachable)?;
        let changed =
            MessageStream::for_match_rule(rule, &connection, NonZeroUsize::new(64)).await.map_err(unreachable)?;
        let names = changed.filter_map(|message| async move {
            let message = message.ok()?;
            let header = message.header();
            let path = header.path()?.as_str().strip_prefix("/org/freedesktop/systemd1/unit/")?;
            Some(unescape(path))
        });
        Ok(names.boxed())
    }
}

/// A property of a unit on the bus; none where it cannot be had. `interface` as in `Unit`, `Service`.
async fn property<T: TryFrom<zbus::OwnedVariant>>(
    manager: &ManagerProxy<'_>,
    path: &zbus::OwnedObjectPath,
    interface: &str,
    name: &str,
) -> Option<T> {
    let asked = (format!("org.freedesktop.systemd1.{interface}"), name);
    let call = manager.inner().connection().call_method(
        Some("org.freedesktop.systemd1"),
        path,
        Some("org.freedesktop.DBus.Properties"),
        "Get",
        &asked,
    );
    T::try_from(call.await.ok()?.body().deserialize::<zbus::OwnedVariant>().ok()?).ok()
}

/// The process that a service runs or ran last.
async fn main_process(manager: &ManagerProxy<'_>, name: &str) -> Option<u32> {
    let path = manager.get_unit(name.to_owned()).await.ok()?;
    property(manager, &path, "Service", "ExecMainPID").await.filter(|pid| *pid != 0)
}

/// A unit's name from its place on the bus: `_2e` is the byte 0x2e.
fn unescape(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut name = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'_').then(|| path.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                name.push(byte);
                at += 3;
            }
            None => {
                name.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&name).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_come_back_from_the_bus() {
        assert_eq!(super::unescape("systemd_2dlogind_2eservice"), "systemd-logind.service");
    }
}
