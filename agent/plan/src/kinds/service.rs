//! `[[service]]`: the difference of a unit's state, and what a notification does to it.

use muster_catalog::kinds::service::{Disrupts, OnNotify, ServiceSpec};

use super::Describe;
use crate::row::Action;

/// A unit as systemd sees it, in its words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// There is a unit file that can be used.
    pub loaded: bool,
    pub masked: bool,
    /// Why its unit file cannot be used.
    pub bad: Option<String>,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    pub sub: String,
    /// `enabled`, `disabled`, `static`, …
    pub file: String,
    /// Links that enable it are there without its unit file.
    pub dangling: bool,
    /// The unit file is newer than what systemd read.
    pub needs_reload: bool,
    pub can_reload: bool,
    /// Of a oneshot service that does not stay active: how it ended since the boot.
    pub once: Option<Once>,
    /// It runs because systemd started it again after it ended.
    pub again: Option<Again>,
    /// Processes of it that are there though it is not active, as in `sleep (412)`.
    pub left: Vec<String>,
    /// It runs on as it did before this package was upgraded, which asked for a restart.
    pub outdated_by: Option<String>,
}

/// How a service that ends by itself ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    NotRun,
    Succeeded,
    Failed,
}

/// systemd's own restarts of a service since it was told to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    pub times: u32,
    /// How long it has run since the last one.
    pub seconds: u64,
}

/// A service that systemd started again has to stand for so long before it is believed, in seconds.
pub const STANDS_AGAIN: u64 = 10;
/// One that it started again at least so often, for so long.
const LOOP: u32 = 3;
const STANDS_AFTER_A_LOOP: u64 = 60;

impl Again {
    fn proven(self) -> bool {
        self.seconds >= if self.times >= LOOP { STANDS_AFTER_A_LOOP } else { STANDS_AGAIN }
    }

    fn said(self) -> String {
        let times = if self.times == 1 { "once".to_owned() } else { format!("{} times", self.times) };
        format!("systemd started it again {times}, {} s ago the last time", self.seconds)
    }
}

impl Observed {
    /// Runs, or is on its way there. A unit that waits to be started again after it ended counts as not running.
    pub fn running(&self) -> bool {
        match self.active.as_str() {
            "active" | "reloading" | "refreshing" => true,
            "activating" => !self.sub.starts_with("auto-restart"),
            _words => false,
        }
    }

    /// Nothing of it runs or will by itself.
    fn ended(&self) -> bool {
        matches!(self.active.as_str(), "" | "inactive" | "failed" | "maintenance") && self.left.is_empty()
    }

    /// Did all that it is for, and ended.
    fn did_once(&self) -> bool {
        self.once == Some(Once::Succeeded) && self.active == "inactive"
    }

    /// Starts at boot, or cannot be made to by itself (`static` and the like have no `[Install]`).
    fn enabled(&self) -> bool {
        matches!(self.file.as_str(), "enabled" | "static" | "indirect" | "generated" | "alias" | "transient")
    }

    fn disabled(&self) -> bool {
        !matches!(self.file.as_str(), "enabled" | "enabled-runtime") && !self.dangling
    }

    /// Why it does not run, for people.
    fn state(&self) -> String {
        match (&self.bad, self.active.as_str(), self.once) {
            (Some(bad), _, _) => format!("its unit file is bad: {bad}"),
            (None, "activating", _) => "ended, and systemd would start it again".to_owned(),
            (None, _, Some(Once::NotRun)) => "has not run since the boot".to_owned(),
            (None, active, _) => format!("is {}", said(active)),
        }
    }
}

/// What would be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub unmask: bool,
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
    /// Nothing but waiting until it has stood long enough.
    Stand,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match (self.enable, self.run) {
            (None, Some(Run::Restart | Run::Reload | Run::Stand)) => Action::Run,
            (_, _) => Action::Change,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }

    fn disrupts(&self) -> Disrupts {
        self.disrupts
    }

    fn of_our_doing(&self) -> bool {
        let Self { unmask, daemon_reload, enable, run, owed, disrupts: _, detail: _ } = self;
        *owed || (!unmask && !daemon_reload && enable.is_none() && *run == Some(Run::Stand))
    }

    fn begins_a_run(&self) -> bool {
        matches!(self.run, Some(Run::Start | Run::Restart))
    }

    fn before_a_new_start(self) -> Option<Self> {
        // A restart reads its unit file again by itself, and systemd counts from none.
        let nothing = self.run == Some(Run::Stand) && self.enable.is_none() && !self.unmask;
        (!nothing).then_some(self)
    }
}

pub fn diff(spec: &ServiceSpec, observed: &Observed) -> Option<Change> {
    let mut detail = Vec::new();
    let unmask = spec.unmask && observed.masked;
    if unmask {
        detail.push("unmask".to_owned());
    }
    // Of what does not run and is not to, and has no file any more, systemd forgets the rest by itself.
    let gone = !spec.running && observed.file.is_empty() && observed.ended();
    let daemon_reload = observed.loaded && observed.needs_reload && !gone;
    if daemon_reload {
        detail.push("its unit file changed".to_owned());
    }
    let enable = match spec.enabled() {
        true if !observed.enabled() => Some(true),
        false if !observed.disabled() => Some(false),
        true | false => None,
    };
    match enable {
        Some(true) => detail.push(format!("enable (is {})", said(&observed.file))),
        Some(false) if observed.dangling => detail.push("disable (its unit file is gone already)".to_owned()),
        Some(false) => detail.push("disable".to_owned()),
        None => {}
    }
    let run = match (spec.running, observed.running()) {
        (true, false) if observed.did_once() => None,
        (true, false) => Some(Run::Start),
        // A restart gives it a new beginning.
        (true, true) if observed.outdated_by.is_some() => Some(Run::Restart),
        (true, true) => observed.again.is_some_and(|again| !again.proven()).then_some(Run::Stand),
        (false, _) => (!observed.ended()).then_some(Run::Stop),
    };
    let owed = detail.is_empty() && run == Some(Run::Restart);
    match run {
        Some(Run::Start) => detail.push(format!("start ({})", observed.state())),
        Some(Run::Stop) if observed.left.is_empty() => detail.push("stop".to_owned()),
        Some(Run::Stop) => detail.push(format!("end what it left behind: {}", observed.left.join(", "))),
        Some(Run::Stand) => detail.extend(observed.again.map(Again::said)),
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
        Some(Run::Start | Run::Reload | Run::Stand) | None => Disrupts::Nothing,
    };
    Some(Change { unmask, daemon_reload, enable, run, disrupts, detail, owed })
}

/// A restart or reload of what runs, another run of what ran once. What does not run is started by the difference, and that
/// tells it enough.
pub fn on_notify(spec: &ServiceSpec, observed: &Observed) -> Option<Change> {
    if !spec.running || !(observed.running() || observed.did_once()) {
        return None;
    }
    let (run, disrupts, word) = match spec.on_notify {
        _any if observed.did_once() => (Run::Restart, spec.disrupts, "run again"),
        OnNotify::Restart => (Run::Restart, spec.disrupts, "restart"),
        OnNotify::Reload if observed.can_reload => (Run::Reload, Disrupts::Nothing, "reload"),
        OnNotify::Reload => (Run::Restart, spec.disrupts, "restart (it cannot reload)"),
    };
    Some(Change {
        unmask: false,
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
            enabled: None,
            running: true,
            on_notify: OnNotify::Restart,
            disrupts: Disrupts::Node,
            unmask: false,
        }
    }

    fn off() -> ServiceSpec {
        ServiceSpec { enabled: Some(false), running: false, ..spec() }
    }

    fn seen(active: &str, sub: &str, file: &str) -> Observed {
        Observed { loaded: true, active: active.into(), sub: sub.into(), file: file.into(), ..Observed::default() }
    }

    fn run(spec: &ServiceSpec, observed: &Observed) -> Option<Run> {
        diff(spec, observed).and_then(|change| change.run)
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
        for sub in ["auto-restart", "auto-restart-queued"] {
            assert_eq!(run(&spec(), &seen("activating", sub, "enabled")), Some(Run::Start));
        }
        assert_eq!(diff(&spec(), &seen("activating", "start", "enabled")), None);
        assert_eq!(diff(&spec(), &seen("active", "running", "static")), None);
    }

    #[test]
    fn what_systemd_started_again_is_believed_after_a_while() {
        let again =
            |times, seconds| Observed { again: Some(Again { times, seconds }), ..seen("active", "running", "enabled") };
        let change = diff(&spec(), &again(1, 9)).unwrap();
        assert_eq!((change.run, change.of_our_doing()), (Some(Run::Stand), true));
        assert_eq!(change.detail, ["systemd started it again once, 9 s ago the last time"]);
        assert_eq!(change.before_a_new_start(), None);
        let edited = diff(&spec(), &Observed { needs_reload: true, ..again(1, 9) }).unwrap();
        assert!(!edited.of_our_doing() && edited.before_a_new_start().is_none());
        let stopped = diff(&spec(), &seen("failed", "failed", "enabled")).unwrap();
        assert!(stopped.before_a_new_start().is_some());
        assert_eq!(diff(&spec(), &again(1, 10)), None);
        assert!(diff(&spec(), &again(3, 59)).is_some() && diff(&spec(), &again(3, 60)).is_none());
    }

    #[test]
    fn what_is_gone_with_its_file_is_not_read_again() {
        let gone = Observed { needs_reload: true, ..seen("inactive", "dead", "") };
        assert_eq!(diff(&off(), &gone), None);
        let there = Observed { needs_reload: true, ..seen("inactive", "dead", "disabled") };
        assert!(diff(&off(), &there).unwrap().daemon_reload);
        assert!(diff(&spec(), &gone).unwrap().daemon_reload);
    }

    #[test]
    fn a_oneshot_that_succeeded_is_right_until_it_is_told() {
        let once = |once| Observed { once: Some(once), ..seen("inactive", "dead", "enabled") };
        assert_eq!(diff(&spec(), &once(Once::Succeeded)), None);
        assert_eq!(on_notify(&spec(), &once(Once::Succeeded)).unwrap().run, Some(Run::Restart));
        for other in [Once::NotRun, Once::Failed] {
            assert_eq!(run(&spec(), &once(other)), Some(Run::Start));
            assert_eq!(on_notify(&spec(), &once(other)), None);
        }
        assert_eq!(diff(&off(), &Observed { file: "disabled".into(), ..once(Once::Succeeded) }), None);
    }

    #[test]
    fn what_is_off_has_no_process_whatever_its_unit_file_is() {
        let gone = |active: &str| Observed { loaded: false, ..seen(active, "", "") };
        assert_eq!(run(&off(), &gone("active")), Some(Run::Stop));
        assert_eq!(diff(&off(), &gone("inactive")), None);
        assert_eq!(diff(&off(), &Observed::default()), None);
        assert_eq!(run(&off(), &seen("activating", "auto-restart", "disabled")), Some(Run::Stop));
        assert_eq!(run(&off(), &seen("deactivating", "stop-sigterm", "disabled")), Some(Run::Stop));
        let left = Observed { left: vec!["sleep (412)".into()], ..seen("inactive", "dead", "disabled") };
        assert_eq!(diff(&off(), &left).unwrap().detail, ["end what it left behind: sleep (412)"]);
        let dangling = Observed { dangling: true, ..gone("inactive") };
        assert_eq!(diff(&off(), &dangling).unwrap().enable, Some(false));
        assert_eq!(diff(&off(), &Observed { masked: true, ..gone("inactive") }), None);
    }

    #[test]
    fn what_is_enabled_until_the_next_boot_alone_is_not_enabled() {
        let seen = seen("active", "running", "enabled-runtime");
        assert_eq!(diff(&spec(), &seen).unwrap().enable, Some(true));
        assert_eq!(diff(&off(), &seen).unwrap().enable, Some(false));
    }

    #[test]
    fn a_mask_is_taken_away_where_that_is_written() {
        let masked = Observed { loaded: false, masked: true, ..seen("inactive", "dead", "masked") };
        let unmask = ServiceSpec { unmask: true, ..spec() };
        assert!(!diff(&spec(), &masked).unwrap().unmask);
        assert_eq!(diff(&unmask, &masked).unwrap().detail[0], "unmask");
    }

    #[test]
    fn what_cannot_reload_is_restarted_with_the_turn_of_a_restart() {
        let spec = ServiceSpec { on_notify: OnNotify::Reload, ..spec() };
        let running = seen("active", "running", "enabled");
        let change = on_notify(&spec, &running).unwrap();
        assert_eq!((change.run, change.disrupts), (Some(Run::Restart), Disrupts::Node));
        assert_eq!(change.detail, ["restart (it cannot reload)"]);
        let change = on_notify(&spec, &Observed { can_reload: true, ..running }).unwrap();
        assert_eq!((change.run, change.disrupts), (Some(Run::Reload), Disrupts::Nothing));
    }

    #[test]
    fn a_bad_unit_file_shows_in_the_plan() {
        let bad = Observed { loaded: false, bad: Some("x.service:2: no".into()), ..seen("inactive", "dead", "") };
        assert_eq!(diff(&spec(), &bad).unwrap().detail[1], "start (its unit file is bad: x.service:2: no)");
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
