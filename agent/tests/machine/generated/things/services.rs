//! Services: odd names, sorts and states, whose unit file is the site's or somebody's.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, sh, toml};

const SETTINGS: &str = "/etc/systemd/system";
/// Where an admin's own packages put theirs: a mask goes before them.
const OTHERS: &str = "/usr/local/lib/systemd/system";

pub fn service(tag: &str, dice: &mut Dice) -> Thing {
    match dice.random_range(0..5) {
        0 => theirs(tag, dice),
        _ => ours(tag, dice),
    }
}

fn unit_file(kind: &str, program: &str, install: &str) -> String {
    format!(
        "[Unit]\nDescription=Made by a seed\n[Service]\n{kind}ExecStart={program}\n[Install]\nWantedBy=multi-user.target\n{install}"
    )
}

/// The unit file is written, too.
fn ours(tag: &str, dice: &mut Dice) -> Thing {
    // The unit's file, the unit, and how a site may call it.
    let (file, unit, name) = match dice.random_range(0..8) {
        0 => (format!("{tag}8.2-fpm.service"), format!("{tag}8.2-fpm.service"), format!("{tag}8.2-fpm")),
        1 => (format!("{tag}@.service"), format!("{tag}@site.example.service"), format!("{tag}@site.example")),
        2 => (format!("{tag}@.service"), format!("{tag}@a.b.service"), format!("{tag}@a.b.service")),
        3 => (format!("{tag}.service"), format!("{tag}.service"), format!("{tag}.service")),
        4 => (format!("{tag}:x_y.service"), format!("{tag}:x_y.service"), format!("{tag}:x_y")),
        5 => (format!("{tag}@.service"), format!("{tag}@srv-a\\x2db.service"), format!("{tag}@srv-a\\x2db")),
        _ => (format!("{tag}.service"), format!("{tag}.service"), tag.to_owned()),
    };
    let oneshot = dice.random_bool(0.25);
    // What runs and does not start at boot, and the other way round, is changed at each boot.
    let (running, enabled) =
        if oneshot { (true, true) } else { pick(dice, &[(true, true), (true, true), (true, true), (false, false)]) };
    let kind = if oneshot { "Type=oneshot\n" } else { pick(dice, &["", "Type=exec\n", "Restart=always\n"]) };
    let program = if oneshot {
        format!("/bin/sh -c 'echo ran >> /run/{tag}.ran'")
    } else {
        pick(dice, &["/bin/sleep infinity", "/usr/bin/tail -f /dev/null"]).to_owned()
    };
    let path = format!("{SETTINGS}/{file}");
    let at = sh(&unit);
    let told = toml(&format!("service.{name}"));
    let mut prep = String::new();
    if !oneshot {
        let former = match dice.random_range(0..6) {
            // Another program runs.
            0 => Some("/bin/sleep 100000"),
            // One that systemd gave up.
            1 => Some("/bin/false"),
            _ => None,
        };
        if let Some(program) = former {
            let former = unit_file("Restart=always\nRestartSec=0\n", program, "");
            prep = format!(
                "printf %s {} > {path}; systemctl daemon-reload; systemctl start -- {at}; sleep 0.3\n",
                sh(&former)
            );
        }
    }
    let mut thing = Thing {
        prep,
        present: format!(
            "[[file]]\npath = {}\ncontent = {}\nnotify = [{told}]\n[[service]]\nname = {}\nenabled = {enabled}\nrunning = {running}\n",
            toml(&path),
            toml(&unit_file(kind, &program, "")),
            toml(&name),
        ),
        absent: format!(
            "[[file]]\npath = {}\nabsent = true\n[[service]]\nname = {}\nenabled = false\nrunning = false\n",
            toml(&path),
            toml(&name),
        ),
        ..Thing::default()
    };
    if dice.random_bool(0.2) {
        // And a part of its settings in a file of its own.
        let part = format!("{path}.d/50 a.conf");
        thing.present.push_str(&format!(
            "[[file]]\npath = {}\ncontent = \"[Service]\\nEnvironment=MADE=yes\\n\"\nnotify = [{told}]\n",
            toml(&part)
        ));
        thing.absent.push_str(&format!("[[file]]\npath = {}\nabsent = true\n", toml(&part)));
        thing = thing.check(format!("systemctl show --property Environment --value -- {at}"), "MADE=yes");
    }
    thing = thing
        .check(format!("systemctl is-enabled -- {at}"), if enabled { "enabled" } else { "disabled" })
        .gone(format!("systemctl is-active -- {at}"), "inactive")
        .gone(format!("ls /etc/systemd/system/*/{at} 2>/dev/null || echo none"), "none")
        .owns(format!("path:{path}"))
        .owns(format!("path:{SETTINGS}/multi-user.target.wants/{unit}"))
        .owns(format!("unit:{file}"))
        .owns(format!("unit:{unit}"));
    if oneshot {
        thing
            .check(format!("systemctl show --property Result --value -- {at}"), "success")
            .check(format!("wc -l < /run/{tag}.ran"), "1")
    } else if running {
        thing.check(format!("systemctl is-active -- {at}"), "active").check(
            format!("tr '\\0' ' ' < /proc/$(systemctl show --property MainPID --value -- {at})/cmdline"),
            program,
        )
    } else {
        thing.check(format!("systemctl show --property MainPID --value -- {at}"), "0")
    }
}

/// The unit is somebody's, and called by another name, masked, or running against what is written.
fn theirs(tag: &str, dice: &mut Dice) -> Thing {
    let unit = format!("{tag}.service");
    let alias = format!("{tag}-alias.service");
    let file = unit_file("", "/bin/sleep infinity", &format!("Alias={alias}\n"));
    let path = format!("{OTHERS}/{unit}");
    let prep = format!("mkdir -p {OTHERS}; printf %s {} > {path}; systemctl daemon-reload\n", sh(&file));
    // What was done, the name, and whether it is to run.
    let (did, name, more, run) = match dice.random_range(0..6) {
        0 => (format!("systemctl enable --now {unit}\n"), alias.clone(), "", true),
        1 => (format!("systemctl enable {unit}\n"), format!("{tag}-alias"), "", true),
        2 => (format!("systemctl mask {unit}\n"), tag.to_owned(), "unmask = true\n", true),
        3 => (format!("systemctl mask --runtime {unit}\n"), tag.to_owned(), "unmask = true\n", true),
        4 => (format!("systemctl enable --now {unit}; systemctl mask {unit}\n"), tag.to_owned(), "", false),
        _ => (format!("systemctl enable --now {unit}\n"), alias.clone(), "", false),
    };
    let off = format!("[[service]]\nname = \"{name}\"\nenabled = false\nrunning = false\n");
    let mut thing = Thing { prep: format!("{prep}({did}) 2>/dev/null\n"), absent: off.clone(), ..Thing::default() };
    let state = format!("systemctl show --property MainPID --value {unit} | sed 's/^[1-9].*/runs/'");
    let starts = format!("test -L {SETTINGS}/multi-user.target.wants/{unit} && echo starts || echo not");
    if run {
        thing.present = format!("[[service]]\nname = \"{name}\"\nenabled = true\n{more}");
        thing = thing.check(format!("systemctl is-active {unit}; systemctl is-enabled {unit}"), "active\nenabled");
    } else {
        thing.present = off;
    }
    let masked = !run && did.contains("mask");
    if !masked {
        // What is masked does not start, whatever leads to it.
        thing = thing.check(starts.clone(), if run { "starts" } else { "not" }).gone(starts, "not");
    }
    thing
        .check(state.clone(), if run { "runs" } else { "0" })
        .check(format!("systemctl cat {unit} | grep -c sleep"), if masked { "0" } else { "1" })
        .gone(state, "0")
        .gone(format!("grep -c sleep {path}"), "1")
        .owns(format!("path:{SETTINGS}/{tag}"))
        .owns(format!("path:{SETTINGS}/multi-user.target.wants/{unit}"))
        .owns(format!("unit:{tag}"))
}
