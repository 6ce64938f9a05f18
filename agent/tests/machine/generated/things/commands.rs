//! Commands: guards, what tells them, and programs that leave children behind.

use rand::Rng;

use crate::generated::case::{Dice, Thing, sh, toml};

pub fn command(tag: &str, dice: &mut Dice) -> Thing {
    let log = format!("/var/lib/demo/{tag}.log");
    let child = dice.random_bool(0.3);
    let mut script = format!("printf '%s\\n' \"$SAYS\" >> {log}");
    if child {
        // It keeps the output open, and outlives the command.
        script.push_str(" ; sleep 600 &");
    }
    let says = "it's \"q\" $HOME %s ж";
    // Whether it is to run, and what says so.
    let (runs, guard) = match dice.random_range(0..8) {
        0 => (true, format!("creates = {}\n", toml(&log))),
        1 => (true, format!("unless = [\"test\", \"-e\", {}]\n", toml(&log))),
        2 => (true, format!("only_if = [\"sh\", \"-c\", {}]\n", toml(&format!("! test -e {log}")))),
        // Two guards: both must let it.
        3 => (true, format!("creates = {}\nonly_if = [\"true\"]\n", toml(&log))),
        4 => (false, "creates = \"/etc/passwd\"\nonly_if = [\"true\"]\n".to_owned()),
        5 => (false, "unless = [\"true\"]\n".to_owned()),
        6 => (false, "only_if = [\"false\"]\n".to_owned()),
        _ => (true, "on_notify = true\n".to_owned()),
    };
    let mut thing = Thing {
        present: format!(
            "[[command]]\nname = \"{tag}\"\nrun = [\"sh\", \"-c\", {}]\nenvironment = {{ SAYS = {} }}\n{guard}",
            toml(&script),
            toml(says)
        ),
        ..Thing::default()
    };
    if guard.starts_with("on_notify") {
        let path = format!("/var/lib/demo/{tag}.conf");
        thing
            .present
            .push_str(&format!("[[file]]\npath = \"{path}\"\ncontent = \"x\"\nnotify = [\"command.{tag}\"]\n"));
        thing.absent = format!("[[file]]\npath = \"{path}\"\nabsent = true\n");
        thing = thing.owns(format!("path:{path}"));
    }
    thing
        .check(format!("cat {} 2>/dev/null || echo none", sh(&log)), if runs { says } else { "none" })
        .owns(format!("path:{log}"))
}
