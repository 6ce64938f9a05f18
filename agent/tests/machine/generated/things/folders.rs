//! Folders, purges, and what a purge must spare.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, sh, toml};

pub fn folder(tag: &str, dice: &mut Dice) -> Thing {
    let path = format!("/srv/{tag}/{}", pick(dice, &["d", "d with space", "x.d", "ж"]));
    let mode = pick(dice, &["0755", "0700", "2775", "1777"]);
    let group = pick(dice, &["root", "adm"]);
    let at = sh(&path);
    let purge = dice.random_bool(0.5);
    let mut thing = Thing::default();
    thing.prep.push_str(&format!("mkdir -p {at}/old/er; printf x > {at}/old/er/file; printf y > {at}/stray\n"));
    thing.present.push_str(&format!(
        "[[directory]]\npath = {}\nmode = \"{mode}\"\ngroup = \"{group}\"\npurge = {purge}\n",
        toml(&path)
    ));
    thing.absent.push_str(&format!("[[directory]]\npath = {}\nabsent = true\npurge = true\n", toml(&path)));
    thing = thing
        .check(
            format!("stat --format '%F|%a|%U|%G' -- {at}"),
            format!("directory|{}|root|{group}", mode.trim_start_matches('0')),
        )
        .gone(format!("stat -- {at} >/dev/null 2>&1 || echo none"), "none")
        .owns(format!("path:{path}"));
    if !purge {
        return thing.check(format!("cat {at}/old/er/file {at}/stray"), "xy");
    }
    let mut left = Vec::new();
    if dice.random_bool(0.6) {
        // A file of ours beside a stranger, deep down.
        let inner = format!("{path}/keep/deep/ours");
        thing.prep.push_str(&format!("mkdir -p {at}/keep/deep; printf z > {at}/keep/deep/stray\n"));
        thing.present.push_str(&format!("[[file]]\npath = {}\ncontent = \"ours\"\n", toml(&inner)));
        thing.absent.push_str(&format!("[[file]]\npath = {}\nabsent = true\n", toml(&inner)));
        thing = thing.check(format!("cat {}", sh(&inner)), "ours");
        left.extend(["keep", "keep/deep", "keep/deep/ours"]);
    }
    if dice.random_bool(0.4) {
        // What a command made.
        let made = format!("{path}/made");
        let run = format!("mkdir {0}; touch {0}/x", sh(&made));
        thing.present.push_str(&format!(
            "[[command]]\nname = \"make-{tag}\"\nrun = [\"sh\", \"-c\", {}]\ncreates = {}\nafter = [{}]\n",
            toml(&run),
            toml(&made),
            toml(&format!("directory.{path}"))
        ));
        left.extend(["made", "made/x"]);
    }
    if dice.random_bool(0.4) {
        // Somebody's file system: the precious one of others.
        let disk = format!("{path}/disk");
        let (source, target) = (sh(&format!("/var/lib/demo/{tag}")), sh(&disk));
        thing.prep.push_str(&format!(
            "mkdir -p {source} {target}; printf precious > {source}/data; mount --bind {source} {target}\n"
        ));
        thing = thing.check(format!("cat {source}/data"), "precious").gone(format!("cat {source}/data"), "precious");
        // It is in the way of a removal, and a boot takes it away.
        thing.owns.push(format!("mount:{disk}"));
        left.extend(["disk", "disk/data"]);
        thing.checks.pop();
        thing = thing.check(format!("cat {source}/data"), "precious");
    }
    left.sort_unstable();
    if !left.contains(&"disk") {
        thing =
            thing.check(format!("cd {at} && find . -mindepth 1 -printf '%P\\n' | sort | tr '\\n' ' '"), left.join(" "));
    }
    thing
}
