//! systemd over D-Bus. Every action waits for its job's end, as systemctl does.
//!
//! Units are asked for by whatever name they are known by, and acted on by their own: systemd enables no alias.

mod left;
mod look;
mod stand;

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, stream, stream::BoxStream};
use tokio::runtime;
use zbus_systemd::{
    systemd1::ManagerProxy,
    zbus::{self, Connection, MatchRule, MessageStream, message::Type},
};

use super::journal;
use crate::ports::{Commands, UnitError, UnitEvent, UnitState, Units};

/// Longer than systemd's own default time-outs of start and stop, which end the job first.
const JOB: Duration = Duration::from_secs(300);

/// One call: systemd names a job at once, and its end is waited for by a signal. Only `Reload` does its work first.
const CALL: Duration = Duration::from_secs(120);

pub struct Systemd {
    /// For questions. Made at first use, again when it broke, and for another runtime: its reader is a task of the one it was
    /// made in.
    bus: tokio::sync::Mutex<Option<(runtime::Id, Connection)>>,
    /// For the journal, for what systemd says of a unit file, and for init scripts.
    commands: Arc<dyn Commands>,
}

/// A connection of one's own, for whoever listens: signals that one listener leaves lying would hold up the answers to all
/// others on it.
async fn connect() -> Result<Connection, UnitError> {
    zbus::connection::Builder::system().method_timeout(CALL).build().await.map_err(unreachable)
}

async fn manager(connection: &Connection) -> Result<ManagerProxy<'static>, UnitError> {
    let proxy = ManagerProxy::builder(connection).cache_properties(zbus::proxy::CacheProperties::No);
    proxy.build().await.map_err(unreachable)
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
            // The bus may have gone away under us (dbus restarted): a cheap call tells. Debian's bus denies its clients the
            // `Ping` of all peers.
            let bus = Some("org.freedesktop.DBus");
            let alive = connection.call_method(bus, "/org/freedesktop/DBus", bus, "GetId", &());
            if alive.await.is_ok() {
                return Ok(connection.clone());
            }
        }
        let connection = connect().await?;
        *bus = Some((here, connection.clone()));
        Ok(connection)
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, UnitError> {
        manager(&self.connection().await?).await
    }

    async fn job(&self, verb: Verb, name: &str) -> Result<(), UnitError> {
        let manager = manager(&connect().await?).await?;
        // Listening before asking, or a quick job would have ended unheard.
        manager.subscribe().await.map_err(unreachable)?;
        let mut removed = manager.receive_job_removed().await.map_err(unreachable)?;
        let (unit, mode) = (name.to_owned(), "replace".to_owned());
        let began = SystemTime::now();
        if matches!(verb, Verb::Start | Verb::Restart) {
            // What was tried too often before may be mended now. Of a unit that nobody knows yet there is nothing to forget.
            let _unknown = manager.reset_failed_unit(unit.clone()).await;
        }
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
        let run = stand::Run::read(&manager, name).await;
        let tail = self.tail(&run, began).await;
        Err(UnitError::Job { verb: verb.as_str(), name: name.to_owned(), result, how: run.how(), tail })
    }

    /// What the unit's program said last, and systemd about it since then.
    async fn tail(&self, run: &stand::Run, since: SystemTime) -> String {
        journal::tail(&*self.commands, &run.id, run.pid, run.started.map_or(since, |started| started.min(since))).await
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
        zbus::Error::MethodError(kind, words, _) => match kind.as_str().rsplit_once('.') {
            Some(("org.freedesktop.systemd1", "NoSuchUnit")) => UnitError::NotFound { name: name.to_owned() },
            Some(("org.freedesktop.systemd1", "OnlyByDependency")) => {
                UnitError::NotByHand { verb, name: name.to_owned() }
            }
            Some(("org.freedesktop.systemd1", "UnitMasked")) => UnitError::Masked { name: name.to_owned() },
            Some(("org.freedesktop.systemd1", "BadUnitSetting" | "LoadFailed")) => {
                UnitError::Bad { name: name.to_owned(), words: words.clone().unwrap_or_default() }
            }
            Some(_) | None => UnitError::Refused { verb, name: name.to_owned(), source: Box::new(error) },
        },
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
        self.look(names).await
    }

    async fn run(&self, name: &str) -> Result<String, UnitError> {
        let manager = self.manager().await?;
        let Ok(path) = manager.load_unit(name.to_owned()).await else { return Ok(String::new()) };
        let id: Option<Vec<u8>> = property(&manager, &path, "Unit", "InvocationID").await;
        Ok(id.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    async fn daemon_reload(&self) -> Result<(), UnitError> {
        self.manager().await?.reload().await.map_err(unreachable)
    }

    async fn enable(&self, name: &str) -> Result<(), UnitError> {
        let (manager, unit) = (self.manager().await?, self.own_name(name).await?);
        if self.is_init_script(&unit).await? {
            return self.init_script("enable", &unit).await;
        }
        let enabled = manager.enable_unit_files(vec![unit.clone()], false, true).await;
        enabled.map_err(|error| refused("enable", &unit, error))?;
        manager.reload().await.map_err(unreachable)
    }

    async fn disable(&self, name: &str) -> Result<(), UnitError> {
        let (manager, unit) = (self.manager().await?, self.own_name(name).await?);
        if self.is_init_script(&unit).await? {
            return self.init_script("disable", &unit).await;
        }
        // Links until the next boot are links, too. Where neither links nor a file are there is nothing to do.
        for runtime in [false, true] {
            match manager.disable_unit_files(vec![unit.clone()], runtime).await {
                Ok(_links) => {}
                Err(error) => match refused("disable", &unit, error) {
                    UnitError::NotFound { .. } => {}
                    other => return Err(other),
                },
            }
        }
        manager.reload().await.map_err(unreachable)
    }

    async fn unmask(&self, name: &str) -> Result<(), UnitError> {
        let manager = self.manager().await?;
        for runtime in [false, true] {
            let unmasked = manager.unmask_unit_files(vec![name.to_owned()], runtime).await;
            unmasked.map_err(|error| refused("unmask", name, error))?;
        }
        manager.reload().await.map_err(unreachable)
    }

    async fn start(&self, name: &str) -> Result<(), UnitError> {
        self.job(Verb::Start, name).await
    }

    async fn stop(&self, name: &str) -> Result<(), UnitError> {
        let before = self.state(name).await?;
        if !matches!(before.active.as_str(), "inactive" | "failed") {
            self.job(Verb::Stop, name).await?;
        }
        self.end_what_is_left(name).await
    }

    async fn restart(&self, name: &str) -> Result<(), UnitError> {
        self.job(Verb::Restart, name).await
    }

    async fn reload(&self, name: &str) -> Result<(), UnitError> {
        self.job(Verb::Reload, name).await?;
        self.outlives_its_reload(name).await
    }

    async fn stands(&self, name: &str) -> Result<(), UnitError> {
        self.wait_until_it_stands(name).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, UnitEvent>, UnitError> {
        let connection = connect().await?;
        manager(&connection).await?.subscribe().await.map_err(unreachable)?;
        let rule = || MatchRule::builder().msg_type(Type::Signal).sender("org.freedesktop.systemd1");
        let changed = rule()
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .path_namespace("/org/freedesktop/systemd1/unit")
            .build()
            .map_err(unreachable)?;
        let reloading =
            rule().interface("org.freedesktop.systemd1.Manager").member("Reloading").build().map_err(unreachable)?;
        let most = NonZeroUsize::new(64);
        let changed = MessageStream::for_match_rule(changed, &connection, most).await.map_err(unreachable)?;
        let reloading = MessageStream::for_match_rule(reloading, &connection, most).await.map_err(unreachable)?;
        let changed = changed.filter_map(|message| async move {
            let message = message.ok()?;
            let header = message.header();
            let path = header.path()?.as_str().strip_prefix("/org/freedesktop/systemd1/unit/")?;
            Some(UnitEvent::Changed(unescape(path)))
        });
        let reloaded = reloading.filter_map(|message| async move {
            // True as it begins.
            let begins: bool = message.ok()?.body().deserialize().ok()?;
            (!begins).then_some(UnitEvent::Reloaded)
        });
        // Either's end is the connection's.
        Ok(stream::select(changed.map(Some).chain(ended()), reloaded.map(Some).chain(ended()))
            .take_while(|event| std::future::ready(event.is_some()))
            .filter_map(std::future::ready)
            .boxed())
    }
}

fn ended() -> impl futures::Stream<Item = Option<UnitEvent>> {
    stream::once(std::future::ready(None))
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
