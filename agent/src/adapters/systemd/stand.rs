//! Whether what was started stands.
//!
//! systemd calls a service of `Type=simple` started when its process was made, and one of `exec` when its program was found:
//! both may end a moment later. The other types say when they are ready, and the job waits for that.

use std::time::{Duration, Instant, SystemTime};

use muster_plan::kinds::service::STANDS_AGAIN;
use tokio::time::sleep;
use zbus_systemd::systemd1::ManagerProxy;

use super::{Systemd, look::age, property};
use crate::ports::UnitError;

/// So long a program that cannot say that it is ready has to run.
const SETTLES: Duration = Duration::from_secs(3);
/// So long after a reload a program is watched that the signal may have ended.
const RELOADED: Duration = Duration::from_secs(1);
/// What is said of a program of which no more is known.
const BY_ITSELF: &str = "its program ended with status 0";
/// Between two looks; the first come sooner.
const LOOK: Duration = Duration::from_millis(500);

/// A service's run.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The unit's own name.
    pub(super) id: String,
    kind: String,
    active: String,
    sub: String,
    result: String,
    /// Times that systemd started it again by itself.
    restarts: u32,
    /// Its main process, the last one where it ended.
    pub(super) pid: Option<u32>,
    /// When that began.
    pub(super) started: Option<SystemTime>,
    /// How it ended, as waitpid(2) has it.
    code: i32,
    status: i32,
    up_for: Duration,
    /// What kept it from starting.
    condition: Option<String>,
}

impl Run {
    pub(super) async fn read(manager: &ManagerProxy<'_>, name: &str) -> Self {
        let Ok(path) = manager.load_unit(name.to_owned()).await else {
            return Self { id: name.to_owned(), ..Self::default() };
        };
        let unit = |key| property::<String>(manager, &path, "Unit", key);
        let service = |key| property::<String>(manager, &path, "Service", key);
        let number = |key| property::<i32>(manager, &path, "Service", key);
        let since: u64 = property(manager, &path, "Unit", "ActiveEnterTimestamp").await.unwrap_or(0);
        let began: u64 = property(manager, &path, "Service", "ExecMainStartTimestamp").await.unwrap_or(0);
        let met: bool = property(manager, &path, "Unit", "ConditionResult").await.unwrap_or(true);
        let asked: u64 = property(manager, &path, "Unit", "ConditionTimestamp").await.unwrap_or(0);
        let mut run = Self {
            id: unit("Id").await.unwrap_or_else(|| name.to_owned()),
            kind: service("Type").await.unwrap_or_default(),
            active: unit("ActiveState").await.unwrap_or_default(),
            sub: unit("SubState").await.unwrap_or_default(),
            result: service("Result").await.unwrap_or_default(),
            restarts: property(manager, &path, "Service", "NRestarts").await.unwrap_or(0),
            pid: property(manager, &path, "Service", "ExecMainPID").await.filter(|pid: &u32| *pid != 0),
            started: (began > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(began)),
            code: number("ExecMainCode").await.unwrap_or(0),
            status: number("ExecMainStatus").await.unwrap_or(0),
            up_for: age(since),
            condition: None,
        };
        if asked > 0 && !met {
            let all: Option<Vec<(String, bool, bool, String, i32)>> =
                property(manager, &path, "Unit", "Conditions").await;
            let unmet = all.unwrap_or_default().into_iter().find(|(.., state)| *state < 0);
            run.condition =
                unmet.map(|(what, _, negated, value, _)| format!("{what}={}{value}", if negated { "!" } else { "" }));
        }
        run
    }

    fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// Whether its type says nothing about being ready.
    fn is_silent(&self) -> bool {
        matches!(self.kind.as_str(), "simple" | "exec" | "idle")
    }

    /// How its program ended and what systemd makes of it, for people; empty where there is nothing to say.
    pub(super) fn how(&self) -> String {
        let program = match (self.code, self.status) {
            (1, 203) => "its program cannot be run: status 203".to_owned(),
            (1, 217) => "its user cannot be had: status 217".to_owned(),
            (1, status) => format!("its program ended with status {status}"),
            (2 | 3, signal) => format!("its program was ended by signal {signal}"),
            (_, _) => String::new(),
        };
        let result = match self.result.as_str() {
            "" | "success" | "exit-code" | "signal" | "core-dump" => "",
            "start-limit-hit" => "systemd has given up starting it again: start-limit-hit",
            "timeout" => "it was not ready in time",
            "oom-kill" => "the kernel ended it for its memory: oom-kill",
            "protocol" => "it did not start as its `Type` promises: protocol",
            "resources" => "systemd could not make what it needs: resources",
            other => other,
        };
        let again = if self.sub.starts_with("auto-restart") { "systemd would start it again" } else { "" };
        let said = [program.as_str(), result, again].into_iter().filter(|part| !part.is_empty());
        said.collect::<Vec<_>>().join(", ")
    }
}

impl Systemd {
    pub(super) async fn wait_until_it_stands(&self, name: &str) -> Result<(), UnitError> {
        let (manager, began) = (self.manager().await?, SystemTime::now());
        let first = Run::read(&manager, name).await;
        let settles = match first.restarts {
            0 if first.is_silent() => SETTLES,
            0 => Duration::ZERO,
            _times => Duration::from_secs(STANDS_AGAIN),
        };
        let restarts = first.restarts;
        self.watch(name, began, first, |run| run.restarts > restarts, |run| run.up_for >= settles).await
    }

    pub(super) async fn outlives_its_reload(&self, name: &str) -> Result<(), UnitError> {
        let (manager, began, since) = (self.manager().await?, SystemTime::now(), Instant::now());
        let first = Run::read(&manager, name).await;
        let restarts = first.restarts;
        self.watch(name, began, first, |run| run.restarts > restarts, |_run| since.elapsed() >= RELOADED).await
    }

    async fn watch(
        &self,
        name: &str,
        began: SystemTime,
        first: Run,
        again: impl Fn(&Run) -> bool + Send,
        enough: impl Fn(&Run) -> bool + Send,
    ) -> Result<(), UnitError> {
        let manager = self.manager().await?;
        let (mut run, mut pause) = (first, Duration::from_millis(100));
        loop {
            if !run.is_up() || again(&run) {
                return self.ended(name, run, began).await;
            }
            if enough(&run) {
                return Ok(());
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK);
            run = Run::read(&manager, name).await;
        }
    }

    /// What did not stand: an error, unless it is right to have ended.
    async fn ended(&self, name: &str, run: Run, began: SystemTime) -> Result<(), UnitError> {
        if let Some(condition) = run.condition {
            return Err(UnitError::Condition { name: name.to_owned(), condition });
        }
        // Done is what it is for; and what is no service is seen by the look that follows.
        if run.kind.is_empty() || (run.kind == "oneshot" && run.result == "success") {
            return Ok(());
        }
        let mut how = run.how();
        if run.is_up() && run.restarts > 0 {
            how = format!("systemd has started it again {} times", run.restarts);
        }
        let tail = self.tail(&run, began).await;
        if how.is_empty() {
            // systemd forgets a unit that ended well and that nobody refers to; the log does not.
            if let Some((_, condition)) = tail.split_once("unmet condition check (") {
                let condition = condition.split(')').next().unwrap_or(condition).to_owned();
                return Err(UnitError::Condition { name: name.to_owned(), condition });
            }
            how = if run.active == "inactive" { BY_ITSELF.to_owned() } else { format!("it is {}", run.active) };
        }
        Err(UnitError::Ended { name: name.to_owned(), how, tail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_ended_is_said_in_words() {
        let run = |code, status, result: &str, sub: &str| Run {
            code,
            status,
            result: result.into(),
            sub: sub.into(),
            ..Run::default()
        };
        assert_eq!(run(1, 3, "exit-code", "failed").how(), "its program ended with status 3");
        assert_eq!(
            run(1, 1, "exit-code", "auto-restart").how(),
            "its program ended with status 1, systemd would start it again"
        );
        assert_eq!(run(2, 11, "signal", "failed").how(), "its program was ended by signal 11");
        assert_eq!(
            run(1, 1, "start-limit-hit", "failed").how(),
            "its program ended with status 1, systemd has given up starting it again: start-limit-hit"
        );
        assert_eq!(run(0, 0, "success", "dead").how(), "");
    }
}
