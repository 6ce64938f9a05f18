//! `[[timer]]`: a program or a service at its times, by systemd.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName, Signal};
use crate::{calendar, unit};

/// A program or a service that systemd starts at its times: `/etc/systemd/system/NAME.timer`, enabled and running, and for
/// `run` a `NAME.service` beside it. Both are the timer's alone, to the byte; a change of its times starts nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a timer")]
#[serde(deny_unknown_fields)]
pub struct TimerSpec {
    /// Of both units, without `.timer`.
    #[schemars(extend("format" = "unit"))]
    pub name: String,
    /// When, as systemd.time(7) has it: `"Mon..Fri 06:30"`, `"daily"`, `"*:0/15"`; or a list of such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_calendar: Option<Calendar>,
    /// So long after its last start, again and again: `"15min"`. The first time that long after the timer began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "span"))]
    pub every: Option<String>,
    /// So long after the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "span"))]
    pub on_boot: Option<String>,
    /// A time at random up to this later, so that not all nodes begin at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "span"))]
    pub random_delay: Option<String>,
    /// A time of `on_calendar` that passed while the machine was off is made up for at the next boot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub persistent: bool,
    /// The program and its arguments. Or give `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Vec<String>>,
    /// A unit that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "unit"))]
    pub service: Option<String>,
    /// Whom the program runs as. Absent: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "account"))]
    pub user: Option<String>,
    /// Of the program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// After this long the program is ended and has failed. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "span"))]
    pub timeout: Option<String>,
    /// True stops and removes both units; a run under way ends by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// One calendar expression or a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Calendar {
    One(String),
    Many(Vec<String>),
}

impl Calendar {
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Begins each file that a timer wrote: what does not begin so is somebody else's.
pub const MARK: &str = "# Written by muster for the timer ";

impl TimerSpec {
    /// The timer's unit.
    pub fn timer(&self) -> String {
        format!("{}.timer", self.name)
    }

    pub fn timer_path(&self) -> String {
        format!("/etc/systemd/system/{}.timer", self.name)
    }

    /// Where the service of `run` lies.
    pub fn service_path(&self) -> String {
        format!("/etc/systemd/system/{}.service", self.name)
    }

    /// The whole name of the unit that it starts.
    pub fn starts(&self) -> String {
        unit::whole(self.service.as_deref().unwrap_or(&self.name))
    }

    pub fn calendars(&self) -> &[String] {
        self.on_calendar.as_ref().map_or(&[], Calendar::all)
    }

    fn head(&self) -> String {
        format!("{MARK}{0}.\n[Unit]\nDescription={0}\n", self.name)
    }

    /// The timer's file.
    pub fn timer_text(&self) -> String {
        let mut text = self.head();
        text.push_str("\n[Timer]\n");
        let mut say = |key: &str, value: &str| text.extend([key, "=", value, "\n"]);
        for calendar in self.calendars() {
            say("OnCalendar", calendar);
        }
        if let Some(on_boot) = &self.on_boot {
            say("OnBootSec", on_boot);
        }
        if let Some(every) = &self.every {
            say("OnActiveSec", every);
            say("OnUnitActiveSec", every);
        }
        if let Some(delay) = &self.random_delay {
            say("RandomizedDelaySec", delay);
        }
        if self.persistent {
            say("Persistent", "true");
        }
        // systemd's own is a minute.
        say("AccuracySec", "1s");
        say("Unit", &self.starts());
        text.push_str("\n[Install]\nWantedBy=timers.target\n");
        text
    }

    /// The file of the service that it brings with it; none where it starts another's.
    pub fn service_text(&self) -> Option<String> {
        let run = self.run.as_ref()?;
        let mut text = self.head();
        text.push_str("\n[Service]\nType=oneshot\n");
        let mut say = |key: &str, value: &str| text.extend([key, "=", value, "\n"]);
        if let Some(user) = &self.user {
            say("User", user);
        }
        for (key, value) in &self.environment {
            say("Environment", &quoted(&format!("{key}={value}"), false));
        }
        if let Some(timeout) = &self.timeout {
            say("TimeoutStartSec", timeout);
        }
        let argv: Vec<_> = run.iter().map(|argument| quoted(argument, true)).collect();
        say("ExecStart", &argv.join(" "));
        Some(text)
    }

    fn times(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.calendars().is_empty() && self.every.is_none() && self.on_boot.is_none() {
            let fault = Fault::new("name", format!("the timer {} has no time", self.name), "never starts anything");
            faults.push(fault.help("add `on_calendar`, `every` or `on_boot`"));
        }
        for text in self.calendars().iter().filter(|text| !calendar::is_calendar(text)) {
            let cron = text.split_whitespace().count() >= 5 && text.contains('*');
            let help = if cron {
                "this looks like cron's: \"30 6 * * 1-5\" is \"Mon..Fri 06:30\" here"
            } else {
                "as in \"Mon..Fri 06:30\", \"*-*-01 04:00\", \"*:0/15\" or \"daily\": see systemd.time(7)"
            };
            let fault = Fault::new("on_calendar", format!("{text:?} is no calendar expression"), "expected times");
            faults.push(fault.help(help));
        }
        if self.persistent && self.calendars().is_empty() {
            let label = "there is no time that could be missed";
            faults.push(Fault::new("persistent", "`persistent` is for `on_calendar` alone", label));
        }
        faults
    }

    fn starting(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        match (&self.run, &self.service) {
            (None, None) => faults.push(
                Fault::new("name", format!("the timer {} starts nothing", self.name), "expected `run` or `service`")
                    .help("add `run`, a program with its arguments, or `service`, a unit that is there already"),
            ),
            (Some(_), Some(_)) => {
                faults.push(Fault::new("service", "a timer has `run` and `service`", "expected one of the two"));
            }
            (Some(run), None) => faults.extend(program(run)),
            (None, Some(service)) => {
                let of_run = [
                    ("user", self.user.is_some()),
                    ("environment", !self.environment.is_empty()),
                    ("timeout", self.timeout.is_some()),
                ];
                for (key, _) in of_run.into_iter().filter(|(_, given)| *given) {
                    let fault = Fault::new(key, format!("`{key}` is for `run` alone"), "the service has its own");
                    faults.push(fault.help(format!("write it into the unit file of {service}")));
                }
            }
        }
        faults
    }
}

/// What systemd would take for something else than a program and its arguments.
fn program(run: &[String]) -> Option<Fault> {
    let label = "expected a program and its arguments, each a text of its own";
    match run {
        [] => Some(Fault::new("run", "`run` of a timer is empty", label)),
        [only] if only.contains(' ') => {
            let fault = Fault::new("run", "`run` of a timer is one text with blanks", label);
            Some(fault.help(format!("write {:?}", only.split_whitespace().collect::<Vec<_>>())))
        }
        [program, ..] if !program.starts_with(|c: char| c == '/' || c.is_ascii_alphanumeric() || c == '_') => {
            let fault = Fault::new("run", format!("{program:?} is no program"), "expected its path");
            Some(fault.help("give the whole path, as in \"/usr/local/bin/backup\""))
        }
        [_program, ..] => None,
    }
}

/// One word for systemd, whatever is in it: systemd.syntax(7) and systemd.service(5).
fn quoted(text: &str, dollars: bool) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            '$' if dollars => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.extend(c.to_string().bytes().map(|byte| format!("\\x{byte:02x}"))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Kind for TimerSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::path(self.timer_path()), Claim::new("service", self.timer())];
        if self.run.is_some() || self.absent {
            claims.extend([Claim::path(self.service_path()), Claim::new("service", &self.name)]);
        }
        claims
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Above(self.timer_path())];
        needs.extend(self.user.iter().map(|user| Need::Named("user", user.clone())));
        let paths = self.run.iter().flatten().filter(|argument| argument.starts_with('/'));
        needs.extend(paths.map(|path| Need::Within(path.clone())));
        if let Some(service) = &self.service {
            let whole = unit::whole(service);
            needs.push(Need::Named("service", unit::short(&whole).to_owned()));
            needs.extend(unit::files(&whole).into_iter().map(Need::Within));
            needs.push(Need::Unit(whole));
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        let mut owns = vec![Owned::one(self.timer_path())];
        owns.extend(self.run.is_some().then(|| Owned::one(self.service_path())));
        owns
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path(self.timer_path()), Signal::Path(self.service_path()), Signal::Unit(self.timer())]
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let (name, bare) = (&self.name, self.name.strip_suffix(".timer").or(self.name.strip_suffix(".service")));
        if let Some(bare) = bare {
            let fault = Fault::new("name", format!("{name} is a unit's name"), "the timer makes it itself");
            faults.push(fault.help(format!("write name = {bare:?}")));
        } else if name.contains('@') {
            faults.push(Fault::new("name", format!("{name} is an instance's name"), "expected a name without `@`"));
        }
        if !self.absent {
            faults.extend(self.times());
            faults.extend(self.starting());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(keys: &str) -> TimerSpec {
        toml::from_str(&format!("name = \"backup\"\n{keys}")).unwrap()
    }

    #[test]
    fn both_units_are_as_systemd_reads_them() {
        let spec = spec(
            r#"
on_calendar = ["Mon..Fri 06:30", "Sat 08:00"]
persistent = true
run = ["/usr/bin/printf", "%s \"$HOME\" a\\b", ";", "é\u0007"]
user = "app"
environment = { RATE = "50%", PRICE = "$5" }
"#,
        );
        assert_eq!(
            spec.timer_text(),
            "# Written by muster for the timer backup.\n[Unit]\nDescription=backup\n\n[Timer]\n\
             OnCalendar=Mon..Fri 06:30\nOnCalendar=Sat 08:00\nPersistent=true\nAccuracySec=1s\nUnit=backup.service\n\n\
             [Install]\nWantedBy=timers.target\n"
        );
        assert_eq!(
            spec.service_text().unwrap(),
            "# Written by muster for the timer backup.\n[Unit]\nDescription=backup\n\n[Service]\nType=oneshot\nUser=app\n\
             Environment=\"PRICE=$5\"\nEnvironment=\"RATE=50%%\"\n\
             ExecStart=\"/usr/bin/printf\" \"%%s \\\"$$HOME\\\" a\\\\b\" \";\" \"é\\x07\"\n"
        );
        assert!(spec.faults().is_empty(), "{:?}", spec.faults());
    }

    #[test]
    fn what_it_lacks_and_what_it_has_too_much_is_said() {
        for (keys, key) in [
            ("run = [\"/bin/true\"]", "name"),
            ("every = \"1h\"", "name"),
            ("on_calendar = \"0 3 * * *\"\nrun = [\"/bin/true\"]", "on_calendar"),
            ("every = \"1h\"\nrun = [\"/bin/true\"]\nservice = \"x\"", "service"),
            ("every = \"1h\"\nservice = \"x\"\nuser = \"app\"", "user"),
            ("every = \"1h\"\npersistent = true\nservice = \"x\"", "persistent"),
            ("every = \"1h\"\nrun = [\"-/bin/true\", \"x\"]", "run"),
            ("every = \"1h\"\nrun = [\"/bin/true x\"]", "run"),
        ] {
            let at: Vec<_> = spec(keys).faults().iter().map(|fault| fault.key).collect();
            assert_eq!(at, [key], "{keys}");
        }
        assert!(spec("absent = true").faults().is_empty());
    }
}
