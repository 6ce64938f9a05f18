//! `[[timer]]`: the difference of two unit files and of the state of the timer.

use muster_catalog::kinds::timer::{MARK, TimerSpec};

use super::Describe;
use crate::{row::Action, text};

/// A timer as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// What the files of the timer and of its service hold.
    pub timer: Option<String>,
    pub service: Option<String>,
    /// systemd has the timer under way.
    pub active: bool,
    pub enabled: bool,
    /// A file is newer than what systemd read.
    pub needs_reload: bool,
}

/// What would be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// It ends before its files change, so that a new time starts nothing that the old one missed.
    pub stop: bool,
    pub disable: bool,
    /// Paths and what they are to hold; nothing: they go.
    pub files: Vec<(String, Option<String>)>,
    pub enable: bool,
    pub start: bool,
    action: Action,
    detail: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        self.action
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

fn ours(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| text.starts_with(MARK))
}

pub fn diff(spec: &TimerSpec, observed: &Observed) -> Option<Change> {
    if spec.absent { absence(spec, observed) } else { presence(spec, observed) }
}

fn absence(spec: &TimerSpec, observed: &Observed) -> Option<Change> {
    let (mut files, mut detail) = (Vec::new(), Vec::new());
    if observed.active {
        detail.push("stop".to_owned());
    }
    if observed.enabled {
        detail.push("disable".to_owned());
    }
    // A service of that name that no timer wrote is somebody else's.
    for (path, there) in [(spec.timer_path(), observed.timer.is_some()), (spec.service_path(), ours(&observed.service))]
    {
        if there {
            detail.push(format!("remove {path}"));
            files.push((path, None));
        }
    }
    if detail.is_empty() {
        return None;
    }
    let (stop, disable) = (observed.active, observed.enabled);
    Some(Change { stop, disable, files, enable: false, start: false, action: Action::Remove, detail })
}

fn presence(spec: &TimerSpec, observed: &Observed) -> Option<Change> {
    let (mut files, mut detail) = (Vec::new(), Vec::new());
    let timer = spec.timer_text();
    let retimed = observed.timer.as_ref() != Some(&timer);
    if retimed {
        detail.extend(lines(&spec.timer_path(), observed.timer.as_deref(), &timer));
        files.push((spec.timer_path(), Some(timer)));
    }
    match spec.service_text() {
        Some(service) if observed.service.as_ref() != Some(&service) => {
            detail.extend(lines(&spec.service_path(), observed.service.as_deref(), &service));
            files.push((spec.service_path(), Some(service)));
        }
        // It started a program of its own until now.
        None if ours(&observed.service) => {
            detail.push(format!("remove {}", spec.service_path()));
            files.push((spec.service_path(), None));
        }
        Some(_) | None => {}
    }
    if files.is_empty() && observed.needs_reload {
        detail.push("its unit file changed".to_owned());
    }
    let enable = !observed.enabled;
    if enable {
        detail.push("enable".to_owned());
    }
    let stop = observed.active && retimed;
    let start = !observed.active || stop;
    match (observed.active, retimed) {
        (false, _) => detail.push("start".to_owned()),
        (true, true) => detail.push("begin anew with these times".to_owned()),
        (true, false) => {}
    }
    if detail.is_empty() {
        return None;
    }
    let action = if observed.timer.is_none() { Action::Create } else { Action::Change };
    // What systemd remembers of the last start goes with the unit: enabled it would stay in memory.
    Some(Change { stop, disable: stop && observed.enabled, files, enable: enable || stop, start, action, detail })
}

/// What becomes of a unit file.
fn lines(path: &str, before: Option<&str>, after: &str) -> Vec<String> {
    let word = match before {
        None => format!("write {path}"),
        Some(before) if before.starts_with(MARK) => format!("change {path}"),
        Some(_) => format!("replace {path}, which somebody else wrote"),
    };
    std::iter::once(word).chain(text::diff(before.unwrap_or_default().as_bytes(), after.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TimerSpec {
        serde_json::from_value(serde_json::json!({
            "name": "backup", "on_calendar": "daily", "run": ["/usr/local/bin/backup"]
        }))
        .unwrap()
    }

    fn right(spec: &TimerSpec) -> Observed {
        Observed {
            timer: Some(spec.timer_text()),
            service: spec.service_text(),
            active: true,
            enabled: true,
            ..Observed::default()
        }
    }

    #[test]
    fn a_new_one_is_written_enabled_and_started() {
        let change = diff(&spec(), &Observed::default()).unwrap();
        assert_eq!((change.files.len(), change.enable, change.start, change.stop), (2, true, true, false));
        assert_eq!(change.action(), Action::Create);
        assert_eq!(diff(&spec(), &right(&spec())), None);
    }

    #[test]
    fn other_times_begin_anew_and_another_program_does_not() {
        let seen = right(&spec());
        let other = TimerSpec { random_delay: Some("5min".into()), ..spec() };
        let change = diff(&other, &seen).unwrap();
        assert!(change.stop && change.disable && change.enable && change.start);
        let path = "change /etc/systemd/system/backup.timer";
        assert_eq!(change.detail(), [path, "+ RandomizedDelaySec=5min", "begin anew with these times"]);
        let other = TimerSpec { run: Some(vec!["/bin/true".into()]), ..spec() };
        let change = diff(&other, &seen).unwrap();
        assert!(!change.stop && !change.start);
        let (gone, new) = ("- ExecStart=\"/usr/local/bin/backup\"", "+ ExecStart=\"/bin/true\"");
        assert_eq!(change.detail()[1..], [gone, new]);
    }

    #[test]
    fn absent_takes_what_it_wrote_and_nothing_of_others() {
        let gone = TimerSpec { absent: true, ..spec() };
        let change = diff(&gone, &right(&spec())).unwrap();
        assert!(change.stop && change.disable && change.files.iter().all(|(_, text)| text.is_none()));
        assert_eq!(change.files.len(), 2);
        assert_eq!(diff(&gone, &Observed::default()), None);
        let anothers = Observed { service: Some("[Service]\nExecStart=/bin/x\n".into()), ..Observed::default() };
        assert_eq!(diff(&gone, &anothers), None);
        let change = diff(&spec(), &anothers).unwrap();
        assert!(
            change.detail().iter().any(|line| line.ends_with("which somebody else wrote")),
            "{:?}",
            change.detail()
        );
    }
}
