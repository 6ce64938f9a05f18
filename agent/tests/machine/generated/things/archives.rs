//! Archives: odd names, links and modes inside, and what others put into their folders.

use std::collections::BTreeMap;

use flate2::{Compression, write::GzEncoder};
use muster_ids::Digest;
use rand::Rng;
use tar::{Builder, EntryType, Header};

use super::pick;
use crate::generated::case::{Dice, Served, Thing, sh, toml};

#[derive(Clone, Copy)]
enum Inside {
    File(&'static str, u32),
    Folder(u32),
    Link(&'static str),
    /// A second name of another.
    Same(&'static str),
}
use Inside::{File, Folder, Link, Same};

/// The first is always there.
const INSIDE: [(&str, Inside); 14] = [
    ("tool-1/bin/tool", File("#!/bin/sh\necho VERSION\n", 0o755)),
    ("tool-1/", Folder(0o755)),
    ("tool-1/bin/", Folder(0o2775)),
    ("tool-1/bin/again", Same("tool-1/bin/tool")),
    ("tool-1/etc/with space", File("x\r\n", 0o644)),
    ("tool-1/etc/ünï-ж", File("ключ\n", 0o600)),
    ("tool-1/-dash", File("-", 0o444)),
    ("tool-1/.hidden", File("set-id", 0o4755)),
    ("tool-1/empty-file", File("", 0o640)),
    ("tool-1/empty/", Folder(0o700)),
    ("tool-1/tool", Link("bin/tool")),
    ("tool-1/dangling", Link("nowhere/at all")),
    ("README", File("top\n", 0o664)),
    (
        "tool-1/a-folder-with-a-rather-long-name/and-in-it-another-one/whose-file-has-a-path-of-more-than-a-hundred-characters/x",
        File("deep\n", 0o644),
    ),
];

fn packed(inside: &[(&str, Inside)], version: &str, zipped: bool) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, what) in inside {
        let mut header = Header::new_gnu();
        header.set_mtime(1_700_000_000);
        // Whoever packed it is nobody here.
        header.set_uid(1234);
        header.set_gid(1234);
        let mut put = |kind, mode, content: &str, target: Option<&str>| {
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            match target {
                Some(target) => builder.append_link(&mut header, name, target),
                None => builder.append_data(&mut header, name, content.as_bytes()),
            }
            .expect("packed");
        };
        match what {
            File(content, mode) => put(EntryType::Regular, *mode, &content.replace("VERSION", version), None),
            Folder(mode) => put(EntryType::Directory, *mode, "", None),
            Link(target) => put(EntryType::Symlink, 0o777, "", Some(target)),
            Same(target) => put(EntryType::Link, 0o755, "", Some(target)),
        }
    }
    let tar = builder.into_inner().expect("packed");
    if !zipped {
        return tar;
    }
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut zip, &tar).and_then(|()| zip.finish()).expect("zipped")
}

/// Lines of `find` and the contents one after the other, as tar's `--strip-components` has them.
fn unpacked(inside: &[(&str, Inside)], version: &str, strip: usize, owner: &str) -> (String, Vec<String>, String) {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut contents: BTreeMap<String, String> = BTreeMap::new();
    let content = |name: &str| {
        inside.iter().find_map(|(at, what)| match what {
            File(content, mode) if *at == name => Some((content.replace("VERSION", version), *mode)),
            _ => None,
        })
    };
    for (name, what) in inside {
        let parts: Vec<&str> = name.trim_end_matches('/').split('/').skip(strip).collect();
        if parts.is_empty() {
            continue;
        }
        for upper in 1..parts.len() {
            let folder = parts[..upper].join("/");
            let line = format!("{folder}|d|755|{owner}|");
            found.entry(folder).or_insert(line);
        }
        let path = parts.join("/");
        let line = match what {
            Folder(mode) => format!("{path}|d|{:o}|{owner}|", mode & 0o777),
            Link(target) => format!("{path}|l|777|{owner}|{target}"),
            File(..) | Same(_) => {
                let of = if let Same(target) = what { target } else { name };
                let (content, mode) = content(of).expect("there");
                contents.insert(path.clone(), content);
                format!("{path}|f|{:o}|{owner}|", mode & 0o777)
            }
        };
        found.insert(path, line);
    }
    let mut lines: Vec<String> = found.into_values().collect();
    lines.sort();
    let all = contents.values().map(String::as_str).collect();
    (lines.join("\n"), contents.into_keys().collect(), all)
}

pub fn archive(tag: &str, dice: &mut Dice) -> Thing {
    let path = pick(dice, &["/opt/TAG/tool", "/opt/TAG/a tool", "/srv/TAG/ж.d"]).replace("TAG", tag);
    let strip = pick(dice, &[0, 1, 1, 2]);
    let zipped = dice.random_bool(0.5);
    let (owner, group, ids) =
        pick(dice, &[("root", "root", "0|0"), ("daemon", "adm", "1|4"), ("4321", "root", "4321|0")]);
    let mut inside: Vec<_> = INSIDE.into_iter().take(1).collect();
    inside.extend(INSIDE.into_iter().skip(1).filter(|_| dice.random_bool(0.6)));
    let new = packed(&inside, "2", zipped);
    let old = packed(&inside[..1], "1", !zipped);
    let toml = |name: &str, content: &[u8]| {
        format!(
            "[[archive]]\npath = {}\nurl = \"http://server/broken/{name}\"\nsha256 = \"{}\"\nstrip = {strip}\nowner = \"{owner}\"\ngroup = \"{group}\"\n",
            toml(&path),
            Digest::of(content)
        )
    };
    let (present, former) = (toml(&format!("{tag}-new.tar"), &new), toml(&format!("{tag}-old.tgz"), &old));
    let at = sh(&path);
    let parent = sh(path.rsplit_once('/').map_or("/", |(parent, _)| parent));
    let mut thing = Thing { present: present.clone(), absent: format!("{present}absent = true\n"), ..Thing::default() };
    thing.prep.push_str(&format!("mkdir -p {parent}; printf kept > {parent}/stranger\n"));
    let stranger = format!("printf theirs > {at}/stranger\n");
    let tool = sh(&format!("{path}/{}", ["tool-1/bin/tool", "bin/tool", "tool"][strip]));
    let mut stays = false;
    match dice.random_range(0..6) {
        // Another one was there: what others put into its folder goes with it.
        0 => {
            thing.formerly(&former);
            thing.prep.push_str(&stranger);
        }
        // It is there: so is what others put into it.
        1 => {
            thing.formerly(&present);
            thing.prep.push_str(&stranger);
            stays = true;
        }
        // It is there, and a file of it is not as it was.
        2 => {
            thing.formerly(&present);
            thing.prep.push_str(&format!(
                "{stranger}{}\n",
                pick(dice, &["echo x >> T", "rm T", "chmod 700 T", "touch T"]).replace('T', &tool)
            ));
        }
        // Half of one, of an agent that was killed.
        3 => thing.prep.push_str(&format!(
            "mkdir {parent}/.{}.muster-99999999-1\n",
            sh(path.rsplit('/').next().unwrap_or_default())
        )),
        4 => thing.prep.push_str(&format!("mkdir {at}\n")),
        _ => {}
    }
    let (lines, files, contents) = unpacked(&inside, "2", strip, ids);
    let words: Vec<String> = files.iter().map(|file| sh(file)).collect();
    let beside =
        format!("cd {parent} && find . -mindepth 1 -maxdepth 1 -printf '%P\\n' | LC_ALL=C sort | tr '\\n' '|'");
    let mut names = ["stranger", path.rsplit('/').next().unwrap_or_default()];
    names.sort_unstable();
    thing.serves = vec![
        Served::File { name: format!("{tag}-new.tar"), content: new },
        Served::File { name: format!("{tag}-old.tgz"), content: old },
    ];
    thing
        .check(
            format!("cd {at} && find . -mindepth 1 ! -name '.muster*' ! -path ./stranger -printf '%P|%y|%m|%U|%G|%l\\n' | LC_ALL=C sort"),
            lines,
        )
        .check(format!("cd {at} && cat -- {} | sha256sum | cut -c 1-64", words.join(" ")), Digest::of(contents.as_bytes()).to_string())
        .check(format!("cat {at}/stranger 2>/dev/null || echo none"), if stays { "theirs" } else { "none" })
        .check(format!("stat --format '%a|%u|%g' -- {at}"), format!("755|{ids}"))
        .check(beside, names.map(|name| format!("{name}|")).concat())
        .gone(format!("stat -- {at} >/dev/null 2>&1 || echo none"), "none")
        .gone(format!("ls -A {parent}"), "stranger")
        .owns(format!("path:{path}"))
        .owns(format!("path:{}/.", parent.trim_matches('\'')))
}
