//! Timers on a real systemd, which judges: `systemctl`, `systemd-analyze` and what their programs wrote.

use std::time::Duration;

use crate::{
    lab::{Lab, failed},
    services::unit,
};

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_timer_runs_its_program_at_its_times_and_at_no_other() {
    let lab = Lab::start();
    let runs = || lab.run(&["cat", "/run/timer.log"]).1;
    let timer = |keys: &str| {
        format!(
            "[[user]]\nname = \"backup2\"\n\n[[timer]]\nname = \"nightly\"\nuser = \"backup2\"\n\
             run = [\"/bin/sh\", \"-c\", 'id -un >> \"$1\"; printf \"%s\" \"$2\" >> \"$1\"', \"x\", \"/run/timer.log\", '50% \"$HOME\" \\']\n{keys}\n"
        )
    };
    lab.shell("touch /run/timer.log; chmod 666 /run/timer.log");
    let toml = timer("on_calendar = [\"*-*-* 00:00:00\", \"Mon 12:00\"]\nrandom_delay = \"1s\"");
    lab.put("/root/apply.toml", &toml);
    let (_, plan, _) = lab.run(&["muster-agent", "plan", "/root/apply.toml"]);
    assert!(plan.contains("+ OnCalendar=Mon 12:00"), "{plan}");
    lab.right(&toml);
    assert_eq!(
        (lab.is("is-active", "nightly.timer"), lab.is("is-enabled", "nightly.timer")),
        ("active".into(), "enabled".into())
    );
    assert!(lab.must(&["systemctl", "list-timers", "--all", "--no-pager"]).contains("nightly.service"));
    assert_eq!(lab.must(&["systemd-analyze", "verify", "nightly.timer", "nightly.service"]), "");
    assert_eq!(runs(), "", "made, it runs nothing");
    lab.must(&["systemctl", "start", "nightly.service"]);
    assert_eq!(runs(), "backup2\n50% \"$HOME\" \\", "as the user, with each argument as it was written");

    // Other times, of which the old timer would have missed one by now, start nothing.
    lab.right(&timer("every = \"1s\""));
    lab.wait("it runs", Duration::from_secs(60), || runs().lines().count() > 2);
    lab.right(&timer("on_calendar = \"*:0/1\""));
    let count = runs().len();
    let next = lab.shown("nightly.timer", "NextElapseUSecRealtime");
    lab.right(&timer("on_calendar = \"2099-01-01\""));
    assert_ne!(lab.shown("nightly.timer", "NextElapseUSecRealtime"), next);
    lab.right(&timer("on_calendar = \"*-*-* *:00:00\""));
    assert!(runs().len() - count < 2 * "backup2\n50% \"$HOME\" \\".len(), "{}", runs());

    // By hand, and back.
    lab.shell("systemctl stop nightly.timer; systemctl disable nightly.timer; echo '# x' >> /etc/systemd/system/nightly.service");
    lab.right(&timer("on_calendar = \"2099-01-01\""));
    assert_eq!(
        (lab.is("is-active", "nightly.timer"), lab.is("is-enabled", "nightly.timer")),
        ("active".into(), "enabled".into())
    );

    // What systemd does not understand is refused before anything is written.
    let (_, report) = lab.apply(&timer("on_calendar = \"*-*-* 00:00:00 No/Where\""));
    let (error, help) = failed(&report, "timer.nightly");
    assert!(error.contains("No/Where") && help.contains("systemd-analyze calendar"), "{error} {help}");
    assert!(lab.shell("cat /etc/systemd/system/nightly.timer").contains("2099"));

    // A service of somebody else's, which stays when the timer goes.
    let theirs = unit("theirs.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
    let with = "[[timer]]\nname = \"theirs\"\nservice = \"theirs\"\nevery = \"1h\"\npersistent = false\n";
    lab.right(&(theirs.clone() + with));
    assert_eq!(lab.is("is-active", "theirs.timer"), "active");
    lab.right("[[timer]]\nname = \"theirs\"\nabsent = true\n[[timer]]\nname = \"nightly\"\nabsent = true\n");
    assert!(lab.shell("cat /etc/systemd/system/theirs.service").contains("/bin/true"));
    for gone in ["nightly.timer", "nightly.service", "theirs.timer"] {
        assert_eq!(lab.shown(gone, "LoadState"), "not-found", "{gone}");
        assert_ne!(lab.run(&["test", "-e", &format!("/etc/systemd/system/{gone}")]).0, 0, "{gone}");
    }
    let (_, report) = lab.apply("[[timer]]\nname = \"lost\"\nservice = \"muster-no-such\"\nevery = \"1h\"\n");
    assert!(failed(&report, "timer.lost").0.contains("muster-no-such.service"), "{report:#?}");
}
