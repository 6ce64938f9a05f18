//! Timers with programs of their own, or of somebody's.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, list};

pub fn timer(tag: &str, dice: &mut Dice) -> Thing {
    // As written, and what systemd makes of it.
    let (when, says) = pick(
        dice,
        &[
            ("on_calendar = \"Mon..Fri 02:30\"\n", "Mon..Fri *-*-* 02:30:00"),
            ("on_calendar = [\"daily\", \"*-*-01 04:00:00\"]\npersistent = true\n", "*-*-* 00:00:00"),
            ("on_calendar = \"Sun *-*-1..7 3:00 Europe/Zurich\"\n", "Sun *-*-01..07 03:00:00 Europe/Zurich"),
            ("on_calendar = \"*-*-* 00/4:00\"\nrandom_delay = \"1h 5min\"\n", "*-*-* 00/4:00:00"),
            ("on_calendar = \"quarterly\"\non_boot = \"20h\"\n", "*-01,04,07,10-01 00:00:00"),
            ("every = \"36h\"\n", ""),
            ("on_boot = \"20h\"\nrandom_delay = \"10min\"\n", ""),
        ],
    );
    let theirs = dice.random_bool(0.25);
    let user = if !theirs && dice.random_bool(0.5) { "user = \"daemon\"\n" } else { "" };
    let mut thing = Thing::default();
    let service = if theirs { format!("{tag}-job.service") } else { format!("{tag}.service") };
    let program = if theirs {
        thing.prep = format!(
            "printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/{service}; systemctl daemon-reload\n"
        );
        format!("service = \"{tag}-job\"\n")
    } else {
        let environment = pick(dice, &["", "environment = { A = \"it's %h $B \\\"q\\\"\" }\n"]);
        // What the program itself has, told from a file of its own.
        let tells = format!("printf '%s|' \"$(id --user --name)\" \"$1\" \"$A\" > /tmp/{tag}.said");
        let said = format!(
            "{}|%s $HOME|{}|",
            if user.is_empty() { "root" } else { "daemon" },
            if environment.is_empty() { "" } else { "it's %h $B \"q\"" }
        );
        thing = thing
            .check(format!("rm -f /tmp/{tag}.said; systemctl start --wait {tag}.service; cat /tmp/{tag}.said"), said);
        format!("run = {}\ntimeout = \"90s\"\n{environment}{user}", list(&["/bin/sh", "-c", &tells, "sh", "%s $HOME"]))
    };
    match dice.random_range(0..5) {
        // One by hand under its name, or of ours that was stopped.
        0 => thing.prep.push_str(&format!(
            "printf '[Timer]\\nOnCalendar=yearly\\nUnit=systemd-tmpfiles-clean.service\\n' > /etc/systemd/system/{tag}.timer; systemctl daemon-reload; systemctl start {tag}.timer\n"
        )),
        1 => {
            thing.formerly(&format!("[[timer]]\nname = \"{tag}\"\n{when}{program}"));
            thing.prep.push_str(&format!("systemctl disable --now {tag}.timer 2>/dev/null\n"));
        }
        _ => {}
    }
    thing.present = format!("[[timer]]\nname = \"{tag}\"\n{when}{program}");
    thing.absent = format!("[[timer]]\nname = \"{tag}\"\nabsent = true\n");
    if !says.is_empty() {
        thing = thing.check(
            format!("systemctl show --property TimersCalendar {tag}.timer | grep -cF 'OnCalendar={says} ;'"),
            "1",
        );
    }
    thing
        .check(format!("systemctl is-active {tag}.timer; systemctl is-enabled {tag}.timer"), "active\nenabled")
        .check(format!("systemctl show --property Unit --value {tag}.timer"), service)
        .gone(format!("systemctl is-active {tag}.timer; ls /etc/systemd/system/{tag}.* 2>/dev/null"), "inactive")
        .owns(format!("path:/etc/systemd/system/{tag}."))
        .owns(format!("path:/etc/systemd/system/timers.target.wants/{tag}."))
        .owns(format!("unit:{tag}."))
        .owns(format!("path:/var/lib/systemd/timers/stamp-{tag}."))
}
