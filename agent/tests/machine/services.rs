//! Services on a real systemd, which judges: `systemctl`, `ps` and the files say what is, and not the agent.

use std::time::Duration;

use muster_ids::ResourceId;
use muster_plan::{Outcome, Report};

use crate::lab::{Lab, failed};

pub fn unit(name: &str, text: &str) -> String {
    file(&format!("/etc/systemd/system/{name}"), &format!("{text}\n[Install]\nWantedBy=multi-user.target\n"))
}

fn file(path: &str, text: &str) -> String {
    format!("[[file]]\npath = \"{path}\"\nmode = \"0755\"\ncontent = '''\n{text}'''\n")
}

fn absent(path: &str) -> String {
    format!("[[file]]\npath = \"{path}\"\nabsent = true\n")
}

fn service(name: &str, keys: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\n{keys}\n")
}

/// A daemon's unit and its service.
fn simple(name: &str, start: &str, more: &str) -> String {
    unit(&format!("{name}.service"), &format!("[Service]\nExecStart={start}\n{more}")) + &service(name, "")
}

const OFF: &str = "running = false\nenabled = false";

fn outcome<'a>(report: &'a Report, resource: &str) -> &'a Outcome {
    let resource: ResourceId = resource.parse().unwrap();
    report.steps.iter().find(|step| step.resource == resource).map_or(&Outcome::AlreadyRight, |step| &step.outcome)
}

impl Lab {
    /// Applies it and then once more, which changes nothing.
    pub fn right(&self, toml: &str) -> Report {
        let (status, report) = self.apply(toml);
        assert!(report.converged && status <= 2, "{status} {report:#?}");
        let (status, again) = self.apply(toml);
        assert_eq!((status, again.steps), (0, vec![]), "a second apply changes nothing");
        report
    }

    pub fn shown(&self, unit: &str, property: &str) -> String {
        self.must(&["systemctl", "show", "--value", "--property", property, unit]).trim().to_owned()
    }

    pub fn is(&self, what: &str, unit: &str) -> String {
        self.run(&["systemctl", what, unit]).1.trim().to_owned()
    }

    pub fn shell(&self, script: &str) -> String {
        self.must(&["sh", "-ec", script])
    }

    /// How many processes have this command line.
    fn processes(&self, line: &str) -> usize {
        self.shell("ps -eo args").lines().filter(|args| *args == line).count()
    }
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_service_has_started_when_it_stands() {
    let lab = Lab::start();
    // One that ends at once, one that does a second later, and one that should have said that it is a oneshot.
    let (status, report) = lab.apply(
        &[
            simple("at-once", "/bin/sh -c 'echo no database; exit 3'", ""),
            simple("a-second", "/bin/sh -c 'sleep 1; echo later; exit 4'", ""),
            simple("done", "/bin/true", ""),
            unit("loose.service", "[Service]\nExecStart=/bin/true\n"),
            service("loose", "enabled = false"),
            simple("missing", "/opt/no/such/program", ""),
            simple("stands", "/bin/sleep 1001", ""),
        ]
        .concat(),
    );
    assert_eq!(status, 6, "{report:#?}");
    let (error, help) = failed(&report, "service.at-once");
    assert!(error.contains("status 3") && error.contains("no database"), "{error}");
    assert!(help.contains("journalctl -u at-once.service"), "{help}");
    let (error, _) = failed(&report, "service.a-second");
    assert!(error.starts_with("a-second.service ended soon after its start") && error.contains("later"), "{error}");
    for ended in ["service.done", "service.loose"] {
        let (error, help) = failed(&report, ended);
        assert!(error.contains("status 0") && help.contains("Type=oneshot"), "{error} {help}");
    }
    let (error, _) = failed(&report, "service.missing");
    assert!(error.contains("status 203") && error.contains("/opt/no/such/program"), "{error}");
    assert_eq!(outcome(&report, "service.stands"), &Outcome::Done);
    assert_eq!(lab.is("is-active", "stands"), "active");

    // systemd starts it again and again, at once or after a while: right at no look.
    let toml = [
        simple(
            "loops",
            "/bin/sh -c 'echo no peer; exit 1'",
            "Restart=always\nRestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0\n",
        ),
        simple(
            "slowly",
            "/bin/sh -c 'sleep 5; echo no lease; exit 1'",
            "Restart=always\nRestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0\n",
        ),
    ]
    .concat();
    for try_number in 0..3 {
        let (_, report) = lab.apply(&toml);
        assert!(failed(&report, "service.loops").0.contains("no peer"), "{report:#?}");
        if try_number > 0 {
            failed(&report, "service.slowly");
        }
        let restarts = || lab.shown("slowly", "NRestarts").parse::<u32>().unwrap();
        lab.wait("systemd starts it again", Duration::from_secs(60), || restarts() > try_number);
    }
    // Two that exclude each other are not both right, whichever came first; what systemd restarts along is.
    let two = [
        unit("one.service", "[Unit]\nConflicts=other.service\n[Service]\nExecStart=/bin/sleep 1019\n"),
        simple("other", "/bin/sleep 1020", ""),
    ]
    .concat();
    lab.right(&two);
    for name in ["one", "other"] {
        let (status, report) = lab.apply(&(two.clone() + &service("one", "")));
        let failed = report.steps.iter().filter(|step| matches!(step.outcome, Outcome::Failed { .. })).count();
        assert!(status != 0 && !report.converged && failed == 1, "{name} {status} {report:#?}");
    }
    let along = [
        simple("base", "/bin/sleep 1021", "").replace("[[service]]\n", "[[service]]\nafter = [\"command.told\"]\n"),
        unit("part.service", "[Unit]\nPartOf=base.service\n[Service]\nExecStart=/bin/sleep 1022\n") + &service("part", ""),
        "[[command]]\nname = \"told\"\nrun = [\"touch\", \"/run/told\"]\ncreates = \"/run/told\"\nnotify = [\"service.base\"]\n".to_owned(),
    ]
    .concat();
    lab.right(&along);
    lab.shell("rm /run/told");
    lab.right(&along);
    // Mended, it is restarted and stands, though systemd has just begun to count.
    let mended = toml
        .replace("sleep 5; echo no lease; exit 1", "exec sleep 1002")
        .replace("name = \"slowly\"", "name = \"slowly\"\nafter = [\"command.mended\"]")
        + "[[command]]\nname = \"mended\"\nrun = [\"touch\", \"/run/mended\"]\ncreates = \"/run/mended\"\nnotify = [\"service.slowly\"]\n";
    let (_, report) = lab.apply(&mended);
    assert_eq!(outcome(&report, "service.slowly"), &Outcome::Done, "{report:#?}");
    assert_eq!((lab.shown("slowly", "NRestarts").as_str(), lab.processes("sleep 1002")), ("0", 1));
    let (_, report) = lab.apply(&(service("loops", OFF) + &service("slowly", "")));
    assert!(report.converged, "{report:#?}");
    assert_eq!(lab.is("is-active", "loops"), "inactive");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_start_limit_is_said_and_what_is_mended_starts() {
    let lab = Lab::start();
    let toml = |program: &str| {
        let text = "[Unit]\nStartLimitIntervalSec=3600\nStartLimitBurst=2\n\
            [Service]\nExecStart=/usr/local/bin/limited\nRestart=on-failure\nRestartSec=50ms\n";
        let program = file("/usr/local/bin/limited", program);
        let told = program.replace("mode =", "notify = [\"service.limited\"]\nmode =");
        told + &unit("limited.service", text) + &service("limited", "")
    };
    let bad = toml("#!/bin/sh\necho the port is taken\nexit 1\n");
    let (_, report) = lab.apply(&bad);
    assert!(failed(&report, "service.limited").0.contains("the port is taken"), "{report:#?}");
    lab.wait("systemd gives up", Duration::from_secs(30), || lab.is("is-active", "limited") == "failed");
    // The limit is systemd's and the admin's: a look alone changes nothing of it, a start of ours begins it anew.
    let (_, report) = lab.apply(&bad);
    assert!(failed(&report, "service.limited").0.contains("the port is taken"), "{report:#?}");
    lab.wait("systemd gives up", Duration::from_secs(30), || lab.is("is-active", "limited") == "failed");
    assert_ne!(lab.run(&["systemctl", "start", "limited"]).0, 0, "systemctl is refused");
    lab.right(&toml("#!/bin/sh\nexec sleep 1003\n"));
    assert_eq!(lab.is("is-active", "limited"), "active");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_unit_goes_by_every_name_that_systemctl_knows() {
    let lab = Lab::start();
    let sleep = "[Service]\nExecStart=/bin/sleep 1004\n";
    let toml = [
        unit("app8.2-fpm.service", sleep),
        unit("tun@.service", "[Service]\nExecStart=/bin/sh -c 'exec sleep 1005 # %i'\n"),
        service("app8.2-fpm", ""),
        service("tun@site.example", ""),
        service("tun@plain", ""),
        file("/etc/systemd/system/tick.timer", "[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n"),
        unit("tick.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
        service("tick.timer", ""),
        file(
            "/etc/systemd/system/sock.socket",
            "[Socket]\nListenStream=/run/sock\n[Install]\nWantedBy=sockets.target\n",
        ),
        unit("sock.service", sleep),
        service("sock.socket", ""),
    ]
    .concat();
    lab.right(&toml);
    for name in ["app8.2-fpm", "tun@site.example", "tun@plain", "tick.timer", "sock.socket"] {
        assert_eq!(
            (lab.is("is-active", name), lab.is("is-enabled", name)),
            ("active".into(), "enabled".into()),
            "{name}"
        );
    }
    assert_eq!(lab.is("is-active", "sock.service"), "inactive", "it waits for its socket");

    // One that has nothing but another to enable.
    let also = [
        file("/etc/systemd/system/also.service", "[Service]\nExecStart=/bin/sleep 1017\n[Install]\nAlso=also.socket\n"),
        file(
            "/etc/systemd/system/also.socket",
            "[Socket]\nListenStream=/run/also\n[Install]\nWantedBy=sockets.target\n",
        ),
    ]
    .concat();
    lab.right(&(also.clone() + &service("also", "")));
    assert_eq!(
        (lab.is("is-enabled", "also"), lab.is("is-enabled", "also.socket")),
        ("indirect".into(), "enabled".into())
    );
    lab.right(&(also + &service("also", OFF)));
    assert_eq!(lab.is("is-enabled", "also.socket"), "disabled");

    // Aliases: one that enabling makes, and one that a package ships.
    lab.shell(
        "cd /etc/systemd/system; printf '[Service]\\nExecStart=/bin/sleep 1006\\n[Install]\\nWantedBy=multi-user.target\\nAlias=web-alias.service\\n' > web-real.service
         printf '[Service]\\nExecStart=/bin/sleep 1007\\n[Install]\\nWantedBy=multi-user.target\\n' > /lib/systemd/system/maria.service
         ln -s maria.service /lib/systemd/system/my.service
         systemctl daemon-reload; systemctl enable --now web-real",
    );
    assert_eq!(lab.apply(&service("web-alias", "")).0, 0, "already right");
    // With its enabling the name goes, too.
    lab.right(&service("web-alias", OFF));
    assert_eq!((lab.is("is-active", "web-real"), lab.processes("sleep 1006")), ("inactive".into(), 0));
    lab.right(&service("my", ""));
    assert_eq!((lab.is("is-active", "maria"), lab.is("is-enabled", "maria")), ("active".into(), "enabled".into()));
    lab.right(&service("my", OFF));
    assert_eq!((lab.is("is-active", "maria"), lab.is("is-enabled", "maria")), ("inactive".into(), "disabled".into()));

    // One that lies elsewhere and is linked, without a word of when it starts.
    lab.shell(
        "mkdir -p /opt/units; printf '[Service]\\nExecStart=/bin/sleep 1018\\n' > /opt/units/linked.service
         systemctl link /opt/units/linked.service",
    );
    lab.right(&service("linked", ""));
    assert_eq!((lab.is("is-active", "linked"), lab.is("is-enabled", "linked")), ("active".into(), "linked".into()));

    // An init script, whose links are not there yet.
    let script = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: legacyd\n# Required-Start:\n# Required-Stop:\n# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n# Short-Description: old\n### END INIT INFO\ncase $1 in start) setsid sleep 1008 >/dev/null 2>&1 & ;; esac\nexit 0\n";
    let toml = file("/etc/init.d/legacyd", script);
    lab.right(&(toml.clone() + &service("legacyd", "")));
    assert_eq!((lab.is("is-enabled", "legacyd"), lab.processes("sleep 1008")), ("enabled".into(), 1));
    assert!(lab.shell("ls /etc/rc2.d").contains("legacyd"));
    // Its `stop` stops nothing.
    lab.right(&(toml + &service("legacyd", OFF)));
    assert_eq!((lab.is("is-enabled", "legacyd"), lab.processes("sleep 1008")), ("disabled".into(), 0));
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn what_is_wrong_with_a_unit_is_said_in_its_words() {
    let lab = Lab::start();
    lab.shell(
        "printf '[Service]\\nExecStart=/bin/sleep 1009\\n[Install]\\nWantedBy=multi-user.target\\n' > /lib/systemd/system/shut.service
         ln -s /dev/null /lib/systemd/system/never.service; systemctl daemon-reload; systemctl mask shut",
    );
    let typo = unit("typo.service", "[Service]\nExcStart=/bin/sleep 1009\n") + &service("typo", "");
    let toml = [
        typo.clone(),
        service("muster-no-such", ""),
        service("shut", ""),
        unit("unmet.service", "[Unit]\nConditionPathExists=/no/such/path\n[Service]\nExecStart=/bin/sleep 1009\n"),
        service("unmet", ""),
        simple("nobody", "/bin/sleep 1009", "User=no-such-user"),
        unit("first.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n"),
        unit(
            "needs.service",
            "[Unit]\nRequires=first.service\nAfter=first.service\n[Service]\nExecStart=/bin/sleep 1009\n",
        ),
        service("needs", ""),
    ]
    .concat();
    lab.put("/root/apply.toml", &toml);
    let (_, report) = lab.apply(&toml);
    let (error, help) = failed(&report, "service.typo");
    assert!(error.starts_with("the unit file of typo.service is bad:") && error.contains("ExcStart"), "{error}");
    assert!(help.contains("systemd-analyze verify typo.service"), "{help}");
    assert_eq!(failed(&report, "service.muster-no-such").0, "there is no unit muster-no-such.service");
    let (error, help) = failed(&report, "service.shut");
    assert!(error == "shut.service is masked" && help.contains("unmask = true"), "{error} {help}");
    let (error, _) = failed(&report, "service.unmet");
    assert!(error.ends_with("ConditionPathExists=/no/such/path"), "{error}");
    let (error, _) = failed(&report, "service.nobody");
    assert!(error.contains("status 217"), "{error}");
    let (error, _) = failed(&report, "service.needs");
    assert!(error.contains("`dependency`"), "{error}");
    let (_, plan, _) = lab.run(&["muster-agent", "plan", "/root/apply.toml"]);
    assert!(plan.contains("its unit file is bad"), "the plan says it, too:\n{plan}");
    lab.right(&typo.replace("ExcStart", "ExecStart"));

    // What starts and stops with others alone.
    let by_hand = "[Unit]\nRefuseManualStart=yes\nRefuseManualStop=yes\n[Service]\nExecStart=/bin/sleep 1009\n";
    let (_, by_hand) = lab.apply(&(unit("alone.service", by_hand) + &service("alone", "")));
    let (error, help) = failed(&by_hand, "service.alone");
    assert!(error.contains("RefuseManualStart") && help.contains("alone.service.d"), "{error} {help}");

    // A mask goes where that is written, and what then is not there is said.
    lab.right(&service("shut", "unmask = true"));
    assert_eq!((lab.is("is-active", "shut"), lab.is("is-enabled", "shut")), ("active".into(), "enabled".into()));
    let (_, report) = lab.apply(&service("never", "unmask = true"));
    assert_eq!(failed(&report, "service.never").0, "never.service is masked");
    lab.shell("systemctl mask --runtime muster-gone");
    let (_, report) = lab.apply(&service("muster-gone", "unmask = true"));
    assert_eq!(failed(&report, "service.muster-gone").0, "there is no unit muster-gone.service");
    // What is masked and off is right, also at the second look; what is masked and runs is stopped.
    lab.shell("systemctl mask shut");
    assert_eq!(lab.is("is-active", "shut"), "active");
    lab.right(&service("shut", OFF));
    assert_eq!((lab.is("is-active", "shut"), lab.is("is-enabled", "shut")), ("inactive".into(), "masked".into()));
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_oneshot_runs_once_and_when_it_is_told() {
    let lab = Lab::start();
    let runs = |name: &str| lab.run(&["wc", "-l", &format!("/run/{name}.log")]).1.trim().chars().next().unwrap_or('0');
    let once = |name: &str, more: &str| {
        unit(
            &format!("{name}.service"),
            &format!("[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo ran >> /run/{name}.log'\n{more}"),
        )
    };
    let toml = [
        once("once", ""),
        service("once", ""),
        // Nobody refers to it: systemd forgets that it ran.
        once("loose", ""),
        service("loose", "enabled = false"),
        once("stays", "RemainAfterExit=yes\n"),
        service("stays", ""),
    ]
    .concat();
    lab.right(&toml);
    assert_eq!((runs("once"), runs("loose"), runs("stays")), ('1', '1', '1'));
    let told =
        format!("{toml}{}", file("/etc/once.conf", "x\n").replace("mode =", "notify = [\"service.once\"]\nmode ="));
    lab.right(&told);
    assert_eq!((runs("once"), runs("loose")), ('2', '1'), "told, it runs again");
    // One that failed is not right, and is tried again.
    let fails = once("fails", "ExecStart=/bin/sh -c 'echo no room; exit 5'\n") + &service("fails", "");
    for count in ['1', '2'] {
        let (_, report) = lab.apply(&fails);
        let (error, _) = failed(&report, "service.fails");
        assert!(error.contains("status 5") && error.contains("no room"), "{error}");
        assert_eq!(runs("fails"), count);
    }
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn what_is_off_has_no_process_and_goes_before_its_file() {
    let lab = Lab::start();
    let links = || lab.shell("ls /etc/systemd/system/multi-user.target.wants");
    let path = "/etc/systemd/system/old.service";
    let old = simple("old", "/bin/sleep 1010", "");
    for after in ["", "after = [\"service.old\"]\n"] {
        lab.right(&old);
        lab.right(&(absent(path) + after + &service("old", OFF)));
        assert_eq!(lab.processes("/bin/sleep 1010"), 0);
        assert!(!links().contains("old.service") && lab.run(&["ls", path]).0 != 0);
        assert_eq!(lab.is("is-failed", "old"), "inactive");
    }

    // Its file was taken away under it, by hand; its link points nowhere.
    lab.right(&old);
    lab.shell("rm /etc/systemd/system/old.service; systemctl daemon-reload");
    assert_eq!((lab.is("is-active", "old"), lab.processes("/bin/sleep 1010")), ("active".into(), 1));
    lab.right(&service("old", OFF));
    assert_eq!(lab.processes("/bin/sleep 1010"), 0);
    assert!(!links().contains("old.service"), "{}", links());
    // An instance whose template is gone.
    lab.right(&(unit("old@.service", "[Service]\nExecStart=/bin/sleep 1011\n") + &service("old@a.b", "")));
    lab.shell("rm /etc/systemd/system/old@.service; systemctl daemon-reload");
    lab.right(&service("old@a.b", OFF));
    assert_eq!(lab.processes("/bin/sleep 1011"), 0);
    assert!(!links().contains("old@"), "{}", links());

    // What its own unit file leaves on purpose stays, as a session of sshd does.
    let keeper = "/bin/sh -c 'setsid sleep 1012 & exec sleep 1013'";
    let toml = simple("keeper", keeper, "KillMode=process");
    lab.right(&toml);
    lab.right(&toml.replace(&service("keeper", ""), &service("keeper", OFF)));
    assert_eq!((lab.processes("sleep 1012"), lab.processes("sleep 1013")), (1, 0));
    // What waits to be started again is stopped for good; what is enabled until the next boot alone is disabled, or enabled.
    let waits = simple("waits", "/bin/false", "Restart=always\nRestartSec=1h");
    lab.apply(&waits);
    assert_eq!(lab.shown("waits", "SubState"), "auto-restart");
    lab.right(&service("waits", OFF));
    assert_eq!(lab.shown("waits", "SubState"), "dead");
    lab.right(&old);
    lab.shell("systemctl disable old; systemctl enable --runtime old");
    lab.right(&service("old", ""));
    assert_eq!(lab.is("is-enabled", "old"), "enabled");
    lab.shell("systemctl disable old; systemctl enable --runtime old");
    lab.right(&service("old", "enabled = false"));
    assert_eq!(lab.is("is-enabled", "old"), "disabled");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_reload_is_one_where_the_unit_can_and_a_restart_where_it_cannot() {
    let lab = Lab::start();
    let program = "#!/bin/bash\ntrap 'echo read again >> /run/reloads' HUP\nwhile :; do sleep 1014 & wait $!; done\n";
    let toml = |text: &str| {
        [
            file("/usr/local/bin/reloads", program),
            simple("can", "/usr/local/bin/reloads", "ExecReload=/bin/kill -HUP $MAINPID"),
            simple("cannot", "/bin/sleep 1015", ""),
            simple("dies", "/bin/sleep 1016", "ExecReload=/bin/kill -HUP $MAINPID"),
        ]
        .concat()
        .replace("\nname = \"", "\non_notify = \"reload\"\ndisrupts = \"service\"\nname = \"")
            + &file("/etc/settings", text)
                .replace("mode =", "notify = [\"service.can\", \"service.cannot\", \"service.dies\"]\nmode =")
    };
    lab.right(&toml("1\n"));
    let pids = || ["can", "cannot"].map(|unit| lab.shown(unit, "MainPID"));
    let before = pids();
    lab.put("/root/apply.toml", &toml("2\n"));
    let (_, plan, _) = lab.run(&["muster-agent", "plan", "/root/apply.toml", "--json"]);
    let rows: Vec<muster_plan::Row> = serde_json::from_str(&plan).unwrap();
    let row = |resource: &str| rows.iter().find(|row| row.resource.to_string() == resource).unwrap();
    assert_eq!(row("service.can").detail, ["reload"]);
    assert_eq!(row("service.cannot").detail, ["restart (it cannot reload)"]);
    assert_eq!(format!("{:?} {:?}", row("service.can").disrupts, row("service.cannot").disrupts), "Nothing Service");
    let (_, report) = lab.apply(&toml("2\n"));
    let after = pids();
    assert!(before[0] == after[0] && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!(lab.shell("cat /run/reloads").trim(), "read again");
    let (error, _) = failed(&report, "service.dies");
    assert!(error.contains("signal 1"), "the signal ended it: {error}");
}
