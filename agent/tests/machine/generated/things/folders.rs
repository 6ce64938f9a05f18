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
        // Somebody's file system, also after a boot: precious, and in the way of a removal.
        let disk = format!("{path}/disk");
        let source = format!("/var/lib/demo/{tag}");
        let line = format!("{source} {} none bind 0 0", disk.replace(' ', "\\040"));
        let (source, target) = (sh(&source), sh(&disk));
        thing.prep.push_str(&format!(
            "mkdir -p {source} {target}; printf precious > {source}/data; mount --bind {source} {target}\nprintf '%s\\n' {} >> /etc/fstab\n",
            sh(&line)
        ));
        thing.absent.clear();
        thing.gone = Vec::new();
        thing = thing
            .check(format!("cat {source}/data {target}/data"), "preciousprecious")
            .gone(format!("cat {source}/data {target}/data"), "preciousprecious");
        left.extend(["disk", "disk/data"]);
    }
    left.sort_unstable();
    if !left.contains(&"disk") {
        thing =
            thing.check(format!("cd {at} && find . -mindepth 1 -printf '%P\\n' | sort | tr '\\n' ' '"), left.join(" "));
    }
    thing
}
