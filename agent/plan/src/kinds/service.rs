//! `[[service]]`: the difference of a unit's state, and what a notification does to it.

use muster_catalog::kinds::service::{Disrupts, OnNotify, ServiceSpec};

use super::Describe;
use crate::row::Action;

/// A unit as systemd sees it, in its words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// There is a unit file.
    pub loaded: bool,
    pub masked: bool,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    pub sub: String,
    /// `enabled`, `disabled`, `static`, …
    pub file: String,
    /// The unit file is newer than what systemd read.
    pub needs_reload: bool,
    /// It runs on as it did before this package was upgraded, which asked for a restart.
    pub outdated_by: Option<String>,
}

impl Observed {
    /// Runs, or is on its way there. A unit that waits to be started again after it ended counts as not running.
    pub fn running(&self) -> bool {
        match self.active.as_str() {
            "active" | "reloading" | "refreshing" => true,
            "activating" => self.sub != "auto-restart",
            _words => false,
        }
    }

    /// Starts at boot, or cannot be made to by itself (`static` and the like have no `[Install]`).
    fn enabled(&self) -> bool {
        matches!(
            self.file.as_str(),
            "enabled" | "enabled-runtime" | "static" | "indirect" | "generated" | "alias" | "transient"
        )
    }

    fn disabled(&self) -> bool {
        !matches!(self.file.as_str(), "enabled" | "enabled-runtime")
    }
}

/// What would be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub daemon_reload: bool,
    pub enable: Option<bool>,
    pub run: Option<Run>,
    pub disrupts: Disrupts,
    pub detail: Vec<String>,
    /// Nothing differs but that a restart is owed since an upgrade.
    pub owed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Start,
    Stop,
    Restart,
    Reload,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match (self.enable, self.run) {
            (None, Some(Run::Restart | Run::Reload)) => Action::Run,
            (_, _) => Action::Change,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }

    fn disrupts(&self) -> Disrupts {
        self.disrupts
    }
}

pub fn diff(spec: &ServiceSpec, observed: &Observed) -> Option<Change> {
    if !observed.loaded && !spec.running && !spec.enabled {
        return None;
    }
    let mut detail = Vec::new();
    let daemon_reload = observed.loaded && observed.needs_reload;
    if daemon_reload {
        detail.push("its unit file changed".to_owned());
    }
    let enable = match spec.enabled {
        true if !observed.enabled() => Some(true),
        false if !observed.disabled() => Some(false),
        true | false => None,
    };
    match enable {
        Some(true) => detail.push(format!("enable (is {})", said(&observed.file))),
        Some(false) => detail.push("disable".to_owned()),
        None => {}
    }
    let run = match (spec.running, observed.running()) {
        (true, false) => Some(Run::Start),
        (false, true) => Some(Run::Stop),
        (true, true) => observed.outdated_by.as_ref().map(|_| Run::Restart),
        (false, false) => None,
    };
    let owed = detail.is_empty() && run == Some(Run::Restart);
    match run {
        Some(Run::Start) => detail.push(format!("start (is {})", said(&observed.active))),
        Some(Run::Stop) => detail.push("stop".to_owned()),
        Some(Run::Restart) => {
            let package = observed.outdated_by.as_deref().unwrap_or("its package");
            detail.push(format!("restart (runs as before the upgrade of {package})"));
        }
        Some(Run::Reload) | None => {}
    }
    if detail.is_empty() {
        return None;
    }
    // What does not run cannot be disturbed by being started.
    let disrupts = match run {
        Some(Run::Stop | Run::Restart) => spec.disrupts,
        Some(Run::Start | Run::Reload) | None => Disrupts::Nothing,
    };
    Some(Change { daemon_reload, enable, run, disrupts, detail, owed })
}

/// A restart or reload of what runs. What does not run is started by the difference, and that tells it enough.
pub fn on_notify(spec: &ServiceSpec, observed: &Observed) -> Option<Change> {
    if !spec.running || !observed.running() {
        return None;
    }
    let (run, disrupts, word) = match spec.on_notify {
        OnNotify::Restart => (Run::Restart, spec.disrupts, "restart"),
        OnNotify::Reload => (Run::Reload, Disrupts::Nothing, "reload"),
    };
    Some(Change {
        daemon_reload: observed.needs_reload,
        enable: None,
        run: Some(run),
        disrupts,
        detail: vec![word.to_owned()],
        owed: false,
    })
}

fn said(word: &str) -> &str {
    if word.is_empty() { "not there" } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ServiceSpec {
        ServiceSpec {
            name: "containerd".into(),
            enabled: true,
            running: true,
            on_notify: OnNotify::Restart,
            disrupts: Disrupts::Node,
        }
    }

    fn seen(active: &str, sub: &str, file: &str) -> Observed {
        Observed {
            loaded: true,
            masked: false,
            active: active.into(),
            sub: sub.into(),
            file: file.into(),
            needs_reload: false,
            outdated_by: None,
        }
    }

    #[test]
    fn a_first_start_disrupts_nothing_and_a_restart_does() {
        let stopped = seen("inactive", "dead", "disabled");
        let change = diff(&spec(), &stopped).unwrap();
        assert_eq!((change.run, change.enable, change.disrupts), (Some(Run::Start), Some(true), Disrupts::Nothing));
        assert_eq!(on_notify(&spec(), &stopped), None);
        let running = seen("active", "running", "enabled");
        assert_eq!(diff(&spec(), &running), None);
        assert_eq!(on_notify(&spec(), &running).unwrap().disrupts, Disrupts::Node);
    }

    #[test]
    fn a_unit_that_keeps_ending_does_not_run() {
        assert!(diff(&spec(), &seen("activating", "auto-restart", "enabled")).is_some());
        assert_eq!(diff(&spec(), &seen("activating", "start", "enabled")), None);
        assert_eq!(diff(&spec(), &seen("active", "running", "static")), None);
    }

    #[test]
    fn what_runs_as_before_an_upgrade_is_started_anew_in_its_turn() {
        let mut running = seen("active", "running", "enabled");
        running.outdated_by = Some("containerd".into());
        let change = diff(&spec(), &running).unwrap();
        assert_eq!((change.run, change.disrupts, change.owed), (Some(Run::Restart), Disrupts::Node, true));
        let stopped = Observed { active: "inactive".into(), ..running.clone() };
        assert!(!diff(&spec(), &stopped).unwrap().owed, "a start is no restart");
        let stops = ServiceSpec { running: false, ..spec() };
        assert_eq!(diff(&stops, &running).unwrap().run, Some(Run::Stop));
    }
}
