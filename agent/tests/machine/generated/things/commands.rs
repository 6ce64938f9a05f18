//! Commands: guards, and programs that leave children behind.

use rand::Rng;

use crate::generated::case::{Dice, Thing, toml};

pub fn command(tag: &str, dice: &mut Dice) -> Thing {
    let log = format!("/var/lib/demo/{tag}.log");
    let child = dice.random_bool(0.3);
    let mut script = format!("echo ran >> {log}");
    if child {
        // It keeps the output open, and outlives the command.
        script.push_str(" ; sleep 600 &");
    }
    let guard = match dice.random_range(0..3) {
        0 => format!("creates = {}\n", toml(&log)),
        1 => format!("unless = [\"test\", \"-e\", {}]\n", toml(&log)),
        _ => format!("only_if = [\"sh\", \"-c\", {}]\n", toml(&format!("! test -e {log}"))),
    };
    Thing {
        present: format!("[[command]]\nname = \"{tag}\"\nrun = [\"sh\", \"-c\", {}]\n{guard}", toml(&script)),
        ..Thing::default()
    }
    .check(format!("cat {log}"), "ran")
    .owns(format!("path:{log}"))
}
