//! Links, and blocks in files of others.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, hex, sh, toml, whole_line};

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

/// A link whose folder is a link's, and which leads to a link.
pub fn through(tag: &str, dice: &mut Dice) -> Thing {
    let real = format!("/var/lib/demo/{tag}");
    let path = format!("/srv/{tag}/way/last");
    let replaced = dice.random_bool(0.4);
    let mut prep = format!(
        "mkdir -p {real}/end /srv/{tag}; printf kept > {real}/end/x; ln -s {real} /srv/{tag}/way; ln -s end {real}/middle\n"
    );
    if replaced {
        prep.push_str(&format!("{} {real}/last\n", pick(dice, &["printf former >", "mkdir", "ln -s nowhere"])));
    }
    Thing {
        prep,
        present: format!("[[link]]\npath = \"{path}\"\ntarget = \"middle\"\nreplace = true\n"),
        absent: format!("[[link]]\npath = \"{path}\"\nabsent = true\n"),
        ..Thing::default()
    }
    .check(format!("cat {path}/x; readlink {path} /srv/{tag}/way"), format!("keptmiddle\n{real}"))
    .gone(format!("readlink {path} || readlink /srv/{tag}/way; cat {real}/middle/x"), format!("{real}\nkept"))
    .owns(format!("path:{real}/last"))
}

pub fn block(tag: &str, dice: &mut Dice) -> Thing {
    let path = format!("/srv/{tag}/shared.conf");
    let at = sh(&path);
    let others = pick(
        dice,
        &[
            "",
            "first\n",
            "first\nsecond",
            "first\r\nsecond\r\n",
            "# BEGIN other\nx\n# END other\n",
            "# BEGIN muster somebody\nx\n# END muster somebody\nlast\n",
        ],
    );
    let comment = pick(dice, &["#", ";", "//"]);
    let lines = pick(dice, &["one\ntwo\n", "one", "", "ж = \"ü\"\n", "  kept blanks  \n"]);
    let names: &[&str] = if dice.random_bool(0.4) { &["first", "second"] } else { &["only"] };
    let (mut present, mut absent) = (String::new(), String::new());
    let text = |name: &str, lines: &str| {
        format!("{comment} BEGIN muster {tag}-{name}\n{}{comment} END muster {tag}-{name}\n", whole_line(lines))
    };
    for name in names {
        let head = format!("[[block]]\nname = \"{tag}-{name}\"\npath = {}\ncomment = \"{comment}\"\n", toml(&path));
        present.push_str(&format!("{head}content = {}\n", toml(lines)));
        absent.push_str(&format!("{head}absent = true\n"));
    }
    // The first one stands there with other lines, and somebody's below it: it keeps its place.
    let after = if dice.random_bool(0.4) { "below\n" } else { "" };
    let there = if after.is_empty() {
        others.to_owned()
    } else {
        format!("{}{}{after}", whole_line(others), text(names[0], "former\n\n"))
    };
    let mut thing = Thing {
        prep: format!(
            "mkdir -p /srv/{tag}; printf %s {} > {path}; chmod 640 {path}; chown daemon {path}\n",
            sh(&there)
        ),
        present,
        absent,
        ..Thing::default()
    };
    for name in names {
        let marker = format!("{comment} BEGIN muster {tag}-{name}");
        thing = thing.check(format!("grep -cxF -- {} {at}", sh(&marker)), "1");
    }
    if names.len() == 1 {
        let whole = format!("{}{}{after}", whole_line(others), text(names[0], lines));
        thing = thing.check(format!("od -An -v -tx1 -- {at} | tr -d ' \\n'"), hex(&whole));
    }
    let left = format!("{}{after}", whole_line(others));
    thing
        .check(format!("stat --format '%a %U' -- {at}"), "640 daemon")
        // What is others' comes first, and is as it was.
        .check(format!("head -c {} {at} | od -An -v -tx1 | tr -d ' \\n'", others.len()), hex(others))
        .gone(format!("od -An -v -tx1 -- {at} | tr -d ' \\n'"), hex(&left))
        .owns(format!("path:{path}"))
}
