//! A systemd whose units run, fail or hang as told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, stream::BoxStream};

use crate::ports::{UnitError, UnitState, Units};

#[derive(Default)]
pub struct FakeUnits {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    units: BTreeMap<String, UnitState>,
    fails: BTreeSet<String>,
    hangs: BTreeSet<String>,
    /// "restart x.service", in order.
    did: Vec<String>,
    listeners: Vec<tokio::sync::mpsc::UnboundedSender<String>>,
}

impl FakeUnits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A unit file appears; the unit is neither enabled nor running.
    pub fn add(&self, name: &str) {
        let state = UnitState {
            loaded: true,
            active: "inactive".into(),
            sub: "dead".into(),
            file: "disabled".into(),
            ..UnitState::default()
        };
        self.lock().units.entry(name.to_owned()).or_insert(state);
    }

    /// Enabled and running, as if since boot.
    pub fn add_running(&self, name: &str) {
        self.add(name);
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(name) {
            (unit.active, unit.sub, unit.file) = ("active".into(), "running".into(), "enabled".into());
        }
    }

    /// Ends at once whenever it is started.
    pub fn fails(&self, name: &str) {
        self.lock().fails.insert(name.to_owned());
    }

    /// Its jobs never end, or do again.
    pub fn hangs(&self, name: &str, hangs: bool) {
        let mut state = self.lock();
        if hangs {
            state.hangs.insert(name.to_owned());
        } else {
            state.hangs.remove(name);
        }
    }

    /// Stopped by hand, past the agent.
    pub fn stop_by_hand(&self, name: &str) {
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(name) {
            (unit.active, unit.sub) = ("inactive".into(), "dead".into());
        }
        state.listeners.retain(|listener| listener.send(name.to_owned()).is_ok());
    }

    pub fn did(&self) -> Vec<String> {
        self.lock().did.clone()
    }

    async fn job(&self, verb: &'static str, name: &str, active: bool) -> Result<(), UnitError> {
        let hangs = {
            let mut state = self.lock();
            if !state.units.contains_key(name) {
                return Err(UnitError::NotFound { name: name.to_owned() });
            }
            state.did.push(format!("{verb} {name}"));
            state.hangs.contains(name)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut state = self.lock();
        let fails = active && state.fails.contains(name);
        if let Some(unit) = state.units.get_mut(name) {
            let (active, sub) = match (active, fails) {
                (true, false) => ("active", "running"),
                (true, true) => ("failed", "failed"),
                (false, _) => ("inactive", "dead"),
            };
            (unit.active, unit.sub) = (active.into(), sub.into());
        }
        state.listeners.retain(|listener| listener.send(name.to_owned()).is_ok());
        if fails {
            let tail = "it ends at once".to_owned();
            return Err(UnitError::Job { verb, name: name.to_owned(), result: "failed".to_owned(), tail });
        }
        Ok(())
    }

    fn file(&self, verb: &'static str, name: &str, file: &str) -> Result<(), UnitError> {
        let mut state = self.lock();
        let Some(unit) = state.units.get_mut(name) else { return Err(UnitError::NotFound { name: name.to_owned() }) };
        unit.file = file.to_owned();
        state.did.push(format!("{verb} {name}"));
        Ok(())
    }
}

#[async_trait::async_trait]
impl Units for FakeUnits {
    async fn state(&self, name: &str) -> Result<UnitState, UnitError> {
        let gone = UnitState { active: "inactive".into(), sub: "dead".into(), ..UnitState::default() };
        Ok(self.lock().units.get(name).cloned().unwrap_or(gone))
    }

    async fn states(&self, names: &[String]) -> Result<Vec<UnitState>, UnitError> {
        let mut states = Vec::new();
        for name in names {
            states.push(self.state(name).await?);
        }
        Ok(states)
    }

    async fn daemon_reload(&self) -> Result<(), UnitError> {
        for unit in self.lock().units.values_mut() {
            unit.needs_reload = false;
        }
        Ok(())
    }

    async fn enable(&self, name: &str) -> Result<(), UnitError> {
        self.file("enable", name, "enabled")
    }

    async fn disable(&self, name: &str) -> Result<(), UnitError> {
        self.file("disable", name, "disabled")
    }

    async fn start(&self, name: &str) -> Result<(), UnitError> {
        self.job("start", name, true).await
    }

    async fn stop(&self, name: &str) -> Result<(), UnitError> {
        self.job("stop", name, false).await
    }

    async fn restart(&self, name: &str) -> Result<(), UnitError> {
        self.job("restart", name, true).await
    }

    async fn reload(&self, name: &str) -> Result<(), UnitError> {
        self.job("reload", name, true).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, String>, UnitError> {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        self.lock().listeners.push(tell);
        Ok(tokio_stream::wrappers::UnboundedReceiverStream::new(told).boxed())
    }
}
