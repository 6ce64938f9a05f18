//! Links, and blocks in files of others.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, sh, toml};

pub fn link(tag: &str, dice: &mut Dice) -> Thing {
    let path = format!("/srv/{tag}/{}", pick(dice, &["current", "a link", "ж", ".dot"]));
    let target = pick(dice, &["v1", "../nowhere", "/usr/share", "with space", "./a/../b"]);
    let at = sh(&path);
    let mut prep = format!("mkdir -p /srv/{tag}/v1; printf kept > /srv/{tag}/v1/x\n");
    match dice.random_range(0..4) {
        0 => prep.push_str(&format!("ln -s elsewhere {at}\n")),
        // What the link would hide is what it led to before.
        1 => prep.push_str(&format!("ln -s v1 {at}\n")),
        _ => {}
    }
    Thing {
        prep,
        present: format!("[[link]]\npath = {}\ntarget = {}\n", toml(&path), toml(target)),
        absent: format!("[[link]]\npath = {}\nabsent = true\n", toml(&path)),
        ..Thing::default()
    }
    .check(format!("readlink -- {at}"), target)
    .gone(format!("readlink -- {at} || echo none"), "none")
    .owns(format!("path:{path}"))
}

pub fn block(tag: &str, dice: &mut Dice) -> Thing {
    let path = format!("/srv/{tag}/shared.conf");
    let at = sh(&path);
    let others =
        pick(dice, &["", "first\n", "first\nsecond", "first\r\nsecond\r\n", "# BEGIN other\nx\n# END other\n"]);
    let comment = pick(dice, &["#", ";", "//"]);
    let lines = pick(dice, &["one\ntwo\n", "one", "", "ж = \"ü\"\n", "  kept blanks  \n"]);
    let twice = dice.random_bool(0.4);
    let (mut present, mut absent) = (String::new(), String::new());
    let names: &[&str] = if twice { &["first", "second"] } else { &["only"] };
    for name in names {
        let head = format!("[[block]]\nname = \"{tag}-{name}\"\npath = {}\ncomment = \"{comment}\"\n", toml(&path));
        present.push_str(&format!("{head}content = {}\n", toml(lines)));
        absent.push_str(&format!("{head}absent = true\n"));
    }
    let mut thing = Thing {
        prep: format!("mkdir -p /srv/{tag}; printf %s {} > {at}; chmod 640 {at}; chown daemon {at}\n", sh(others)),
        present,
        absent,
        ..Thing::default()
    };
    for name in names {
        let marker = format!("{comment} BEGIN muster {tag}-{name}");
        thing = thing.check(format!("grep -cxF -- {} {at}", sh(&marker)), "1");
    }
    thing
        .check(format!("stat --format '%a %U' -- {at}"), "640 daemon")
        // What is others' comes first, and is as it was.
        .check(format!("head -c {} {at} | od -An -v -tx1 | tr -d ' \\n'", others.len()), hex(others))
        .gone(format!("od -An -v -tx1 -- {at} | tr -d ' \\n'"), hex(&whole_line(others)))
        .owns(format!("path:{path}"))
}

/// A block begins at a line's beginning: a last line without its end gets one.
fn whole_line(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
