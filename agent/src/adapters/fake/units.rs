//! A systemd whose units run, fail or hang as told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, stream::BoxStream};
use muster_plan::kinds::service::STANDS_AGAIN;

use crate::ports::{UnitError, UnitEvent, UnitState, Units};

#[derive(Default)]
pub struct FakeUnits {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    units: BTreeMap<String, UnitState>,
    /// Other names of units, and their own.
    aliases: BTreeMap<String, String>,
    fails: BTreeSet<String>,
    ends: BTreeSet<String>,
    hangs: BTreeSet<String>,
    /// Each stops the other when it is started.
    excludes: Vec<[String; 2]>,
    /// "restart x.service", in order.
    did: Vec<String>,
    /// How often a start of a unit came to its end.
    runs: BTreeMap<String, u32>,
    listeners: Vec<tokio::sync::mpsc::UnboundedSender<UnitEvent>>,
}

impl State {
    fn own_name(&self, name: &str) -> String {
        self.aliases.get(name).map_or(name, String::as_str).to_owned()
    }

    fn tell(&mut self, event: &UnitEvent) {
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }
}

impl FakeUnits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A unit file appears; the unit is neither enabled nor running.
    pub fn add(&self, name: &str) {
        let state = UnitState {
            id: name.to_owned(),
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

    /// Another name of a unit.
    pub fn alias(&self, name: &str, of: &str) {
        self.lock().aliases.insert(name.to_owned(), of.to_owned());
    }

    /// Somebody masks it.
    pub fn mask(&self, name: &str) {
        self.add(name);
        let mut state = self.lock();
        if let Some(unit) = state.units.get_mut(name) {
            (unit.loaded, unit.masked, unit.file) = (false, true, "masked".into());
        }
    }

    /// What systemd sees of it from now on.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut UnitState)) {
        self.add(name);
        if let Some(unit) = self.lock().units.get_mut(name) {
            change(unit);
        }
    }

    /// Starts whenever it is told to and ends a moment later; or stands again.
    pub fn ends(&self, name: &str, ends: bool) {
        let mut state = self.lock();
        if ends {
            state.ends.insert(name.to_owned());
        } else {
            state.ends.remove(name);
        }
    }

    /// The start of one stops the other.
    pub fn exclude(&self, one: &str, other: &str) {
        self.lock().excludes.push([one.to_owned(), other.to_owned()]);
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
        state.tell(&UnitEvent::Changed(name.to_owned()));
    }

    pub fn did(&self) -> Vec<String> {
        self.lock().did.clone()
    }

    async fn job(&self, verb: &'static str, name: &str, active: bool) -> Result<(), UnitError> {
        let (hangs, own) = {
            let mut state = self.lock();
            let own = state.own_name(name);
            match state.units.get(&own) {
                None => return Err(UnitError::NotFound { name: name.to_owned() }),
                Some(unit) if unit.masked && active => return Err(UnitError::Masked { name: name.to_owned() }),
                Some(_) => {}
            }
            state.did.push(format!("{verb} {own}"));
            (state.hangs.contains(&own), own)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut state = self.lock();
        let fails = active && state.fails.contains(&own);
        if matches!(verb, "start" | "restart") {
            *state.runs.entry(own.clone()).or_default() += 1;
        }
        if let Some(unit) = state.units.get_mut(&own) {
            let (active, sub) = match (active, fails) {
                (true, false) => ("active", "running"),
                (true, true) => ("failed", "failed"),
                (false, _) => ("inactive", "dead"),
            };
            (unit.active, unit.sub) = (active.into(), sub.into());
            (unit.again, unit.left) = (None, Vec::new());
        }
        let others = state.excludes.iter().filter(|two| active && two.contains(&own)).flatten();
        let others: Vec<String> = others.filter(|other| **other != own).cloned().collect();
        for other in others {
            if let Some(unit) = state.units.get_mut(&other) {
                (unit.active, unit.sub) = ("inactive".into(), "dead".into());
            }
        }
        state.tell(&UnitEvent::Changed(own));
        if fails {
            let (tail, how) = ("it ends at once".to_owned(), "its program ended with status 1".to_owned());
            return Err(UnitError::Job { verb, name: name.to_owned(), result: "failed".to_owned(), how, tail });
        }
        Ok(())
    }

    fn file(&self, verb: &'static str, name: &str, file: &str) -> Result<(), UnitError> {
        let mut state = self.lock();
        let own = state.own_name(name);
        let Some(unit) = state.units.get_mut(&own) else { return Err(UnitError::NotFound { name: name.to_owned() }) };
        unit.file = file.to_owned();
        state.did.push(format!("{verb} {own}"));
        Ok(())
    }
}

#[async_trait::async_trait]
impl Units for FakeUnits {
    async fn state(&self, name: &str) -> Result<UnitState, UnitError> {
        let gone = UnitState { active: "inactive".into(), sub: "dead".into(), ..UnitState::default() };
        let state = self.lock();
        Ok(state.units.get(&state.own_name(name)).cloned().unwrap_or(UnitState { id: name.to_owned(), ..gone }))
    }

    async fn states(&self, names: &[String]) -> Result<Vec<UnitState>, UnitError> {
        let mut states = Vec::new();
        for name in names {
            states.push(self.state(name).await?);
        }
        Ok(states)
    }

    async fn run(&self, name: &str) -> Result<String, UnitError> {
        let state = self.lock();
        let own = state.own_name(name);
        Ok(state.runs.get(&own).copied().unwrap_or_default().to_string())
    }

    async fn daemon_reload(&self) -> Result<(), UnitError> {
        let mut state = self.lock();
        for unit in state.units.values_mut() {
            unit.needs_reload = false;
        }
        state.tell(&UnitEvent::Reloaded);
        Ok(())
    }

    async fn enable(&self, name: &str) -> Result<(), UnitError> {
        self.file("enable", name, "enabled")
    }

    async fn disable(&self, name: &str) -> Result<(), UnitError> {
        self.file("disable", name, "disabled")
    }

    async fn unmask(&self, name: &str) -> Result<(), UnitError> {
        self.file("unmask", name, "disabled")?;
        if let Some(unit) = self.lock().units.get_mut(name) {
            (unit.loaded, unit.masked) = (true, false);
        }
        Ok(())
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

    async fn stands(&self, name: &str) -> Result<(), UnitError> {
        let mut state = self.lock();
        let own = state.own_name(name);
        if !state.ends.contains(&own) {
            if let Some(again) = state.units.get_mut(&own).and_then(|unit| unit.again.as_mut()) {
                again.seconds = again.seconds.max(STANDS_AGAIN);
            }
            return Ok(());
        }
        if let Some(unit) = state.units.get_mut(&own) {
            (unit.active, unit.sub) = ("failed".into(), "failed".into());
        }
        state.tell(&UnitEvent::Changed(own));
        let (how, tail) = ("its program ended with status 3".to_owned(), "its last words".to_owned());
        Err(UnitError::Ended { name: name.to_owned(), how, tail })
    }

    async fn changes(&self) -> Result<BoxStream<'static, UnitEvent>, UnitError> {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        self.lock().listeners.push(tell);
        Ok(tokio_stream::wrappers::UnboundedReceiverStream::new(told).boxed())
    }
}
