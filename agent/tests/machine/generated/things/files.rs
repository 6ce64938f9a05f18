//! Files: odd names, contents, modes and owners, and what lies there before.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, hex, sh, toml};

const NAMES: [&str; 9] = [
    "plain",
    "with space",
    "ünï-ж",
    "it's",
    "[x]*?",
    "-dash",
    ".hidden",
    "deep/er/still",
    "a-name-that-is-rather-long-for-a-file-but-well-within-what-a-file-system-takes-and-so-must-work-as-all-others-do",
];

/// As it is written, and as it must be.
const CONTENTS: [(&str, &str); 10] = [
    ("", ""),
    ("x", "x"),
    ("one\ntwo\n", "one\ntwo\n"),
    ("a\r\nb\r\n", "a\r\nb\r\n"),
    ("\u{feff}marked\n", "\u{feff}marked\n"),
    ("tab\there \"quoted\" \\n $HOME `date` ; rm -rf x\n", "tab\there \"quoted\" \\n $HOME `date` ; rm -rf x\n"),
    ("{% raw %}{{ .Names }} ${#a[@]} {# kept #}\n{% endraw %}", "{{ .Names }} ${#a[@]} {# kept #}\n"),
    ("ключ=значение 鍵\n", "ключ=значение 鍵\n"),
    ("\n\n\n", "\n\n\n"),
    ("{{ facts.os }}\n", "debian\n"),
];

const MODES: [&str; 9] = ["0644", "0600", "0640", "0755", "4755", "2711", "1644", "0000", "0444"];

pub fn file(tag: &str, dice: &mut Dice) -> Thing {
    // Below a link of root's, too.
    let linked = dice.random_bool(0.2);
    let folder = if linked { format!("/srv/{tag}/by way/of") } else { format!("/srv/{tag}") };
    let real = if linked { format!("/var/lib/demo/{tag}") } else { folder.clone() };
    let path = format!("{folder}/{}", pick(dice, &NAMES));
    let (written, content) = pick(dice, &CONTENTS);
    let mode = pick(dice, &MODES);
    let (owner, says_owner) =
        pick(dice, &[("root", "root"), ("daemon", "daemon"), ("65534", "nobody"), ("4321", "UNKNOWN")]);
    let group = pick(dice, &["root", "adm", "nogroup"]);
    let at = sh(&path);
    let parent = sh(path.rsplit_once('/').map_or("/", |(parent, _)| parent));
    let stranger = sh(&format!("{folder}/stranger"));
    let mut prep = if linked {
        format!("mkdir -p {real} '/srv/{tag}/by way'; ln -s ../../..{real} '/srv/{tag}/by way/of'\n")
    } else {
        String::new()
    };
    prep.push_str(&format!("mkdir -p {parent}; printf 'kept\\n' > {stranger}; chmod 604 {stranger}\n"));
    let mut acl = false;
    match dice.random_range(0..6) {
        // Nothing is there.
        0 | 1 => {}
        2 => prep.push_str(&format!("printf 'former\\n' > {at}; chmod 777 {at}\n")),
        3 => {
            acl = true;
            prep.push_str(&format!("printf 'former\\n' > {at}; setfacl -m u:daemon:r {at}\n"));
        }
        // A link: it is replaced, and where it leads to is let be.
        4 => prep.push_str(&format!("ln -s {stranger} {at}\n")),
        _ => prep.push_str(&format!("mkfifo {at}\n")),
    }
    let thing = Thing {
        prep,
        present: format!(
            "[[file]]\npath = {}\ncontent = {}\nmode = {}\nowner = {}\ngroup = {}\n",
            toml(&path),
            toml(written),
            toml(mode),
            toml(owner),
            toml(group)
        ),
        absent: format!("[[file]]\npath = {}\nabsent = true\n", toml(&path)),
        ..Thing::default()
    };
    let mode = mode.trim_start_matches('0');
    let mode = if mode.is_empty() { "0" } else { mode };
    let kind = if content.is_empty() { "regular empty file" } else { "regular file" };
    let mut thing = thing
        .check(format!("stat --format '%F|%U|%G|%h' -- {at}"), format!("{kind}|{says_owner}|{group}|1"))
        .check(format!("od -An -v -tx1 -- {at} | tr -d ' \\n'"), hex(content))
        .gone(format!("stat -- {at} >/dev/null 2>&1 || echo none"), "none")
        .owns(format!("path:{real}{}", &path[folder.len()..]));
    if acl {
        // With an ACL the group's bits are the mask.
        thing = thing.check(format!("getfacl --absolute-names --omit-header -- {at} | grep -c ^user:daemon:"), "1");
    } else {
        thing = thing.check(format!("stat --format %a -- {at}"), mode);
    }
    // Folders above are made for it.
    let made = path[folder.len() + 1..]
        .match_indices('/')
        .map(|(end, _)| format!("path:{real}/{}", &path[folder.len() + 1..][..end]));
    thing.owns.extend(made);
    thing
}
