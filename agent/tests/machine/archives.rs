//! Archives and swap on a real node: fetched by apt's downloader, unpacked, refused; a swap file that is made and never switched on.

use base64::Engine as _;
use muster_ids::Digest;
use muster_plan::{Outcome, Report};
use tar::{Builder, EntryType, Header};

use crate::lab::Lab;

fn header(kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    header
}

/// With a program that says this, and a link to it.
fn archive(says: &str, link: &str) -> Vec<u8> {
    let script = format!("#!/bin/sh\necho {says}\n");
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header(EntryType::Regular, script.len()), "tool-1/bin/tool", script.as_bytes()).unwrap();
    builder.append_link(&mut header(EntryType::Symlink, 0), "tool-1/tool", link).unwrap();
    builder.into_inner().unwrap()
}

fn served(lab: &Lab, content: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(content);
    lab.at_server(&format!("mkdir -p /srv/broken; echo {text} | base64 --decode > /srv/broken/tool.tar"));
    format!(
        "[[archive]]\npath = \"/opt/tool\"\nurl = \"http://{}/broken/tool.tar\"\nsha256 = \"{}\"\nstrip = 1\nowner = \"daemon\"\n",
        lab.server_address,
        Digest::of(content)
    )
}

fn changes(lab: &Lab, toml: &str) -> Report {
    let (status, report) = lab.apply(toml);
    assert!(status == 2 && report.converged, "{toml}\n{report:#?}");
    let (status, again) = lab.apply(toml);
    assert!(status == 0 && again.steps.is_empty(), "{toml}\n{again:#?}");
    report
}

fn fails(lab: &Lab, toml: &str) -> String {
    let (_, report) = lab.apply(toml);
    match &report.steps[0].outcome {
        Outcome::Failed { error, .. } => error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn an_archive_becomes_a_folder_once_per_digest() {
    let lab = Lab::start();
    let says = || lab.must(&["/opt/tool/tool"]).trim().to_owned();
    let one = served(&lab, &archive("one", "bin/tool"));
    changes(&lab, &one);
    assert_eq!(says(), "one");
    assert_eq!(lab.must(&["stat", "--format", "%U %G %a", "/opt/tool/bin/tool"]).trim(), "daemon root 755");
    assert_eq!(lab.must(&["ls", "-A", "/var/lib/muster-agent/archives"]), "");
    // Changed by hand, and with something of others in it.
    lab.must(&["sh", "-c", "echo exit 1 > /opt/tool/bin/tool; touch /opt/tool/log"]);
    let report = changes(&lab, &one);
    assert_eq!(report.steps[0].detail, ["changed: /opt/tool/bin/tool", "- /opt/tool/log"]);
    assert_eq!((says(), report.drift.len()), ("one".into(), 1));
    let two = served(&lab, &archive("two", "bin/tool"));
    changes(&lab, &two);
    assert_eq!(says(), "two");

    // What is served is not what was asked for; what leads out is refused. What was there stays.
    assert!(fails(&lab, &one).contains("was asked for"));
    for (link, words) in [("/etc", "the link `tool` to `/etc` leads out of it"), ("../../etc", "leads out of it")] {
        let out = served(&lab, &archive("three", link));
        assert!(fails(&lab, &out).contains(words));
    }
    assert_eq!((says(), lab.must(&["ls", "-A", "/opt"]).trim()), ("two".into(), "tool"));
    // Cut off while it unpacked: a half lies beside, and one was fetched.
    lab.must(&[
        "sh",
        "-c",
        "rm -r /opt/tool; mkdir -p /opt/.tool.muster-99999999-1/bin; touch /opt/.tool.muster-99999999-1/.muster-archive
        echo x > /var/lib/muster-agent/archives/\"$0\"",
        &muster_ids::Digest::of("/opt/tool").to_string(),
    ]);
    let two = served(&lab, &archive("two", "bin/tool"));
    changes(&lab, &two);
    assert_eq!((says(), lab.must(&["ls", "-A", "/opt"]).trim()), ("two".into(), "tool"));
    assert_eq!(lab.must(&["ls", "-A", "/var/lib/muster-agent/archives"]), "");
    changes(&lab, &format!("{two}absent = true\n"));
    assert_eq!(lab.must(&["ls", "-A", "/opt"]).trim(), "");
    lab.must(&["sh", "-c", "mkdir /opt/tool; echo mine > /opt/tool/x"]);
    assert_eq!(fails(&lab, &two), "/opt/tool holds something that no archive brought");
    assert_eq!(lab.must(&["cat", "/opt/tool/x"]).trim(), "mine");
    where_nothing_changes_places(&lab);
    of_the_site(&lab);
    in_a_folder_of_somebody(&lab);
}

/// File systems that cannot let two names change places: the kernel's answer is strace's here. What was there stays where the new one cannot
/// be named.
fn where_nothing_changes_places(lab: &Lab) {
    let apply = |toml: &str, faults: &[&str]| {
        lab.put("/root/apply.toml", toml);
        let mut argv = vec!["strace", "-f", "-qq", "-o", "/root/faults", "-P", "/opt"];
        for fault in faults {
            argv.extend(["-e", fault]);
        }
        argv.extend(["muster-agent", "apply", "/root/apply.toml", "--json"]);
        let (_, out, err) = lab.run(&argv);
        let report: Report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"));
        (report, lab.must(&["cat", "/root/faults"]))
    };
    let none = "inject=renameat2:error=EINVAL";
    let gone = "rm -r /opt/tool";
    lab.must(&["sh", "-c", gone]);
    for says in ["four", "five"] {
        let next = served(lab, &archive(says, "bin/tool"));
        let (report, calls) = apply(&next, &[none]);
        assert!(report.converged && calls.contains("INJECTED"), "{report:#?}\n{calls}");
        assert_eq!(lab.must(&["/opt/tool/tool"]).trim(), says);
        assert_eq!(lab.must(&["ls", "-A", "/opt"]).trim(), "tool");
    }
    // The old one is aside, and the new one cannot take its name.
    let next = served(lab, &archive("six", "bin/tool"));
    let (report, calls) = apply(&next, &[none, "inject=renameat:error=EIO:when=2"]);
    assert!(!report.converged && calls.matches("INJECTED").count() == 2, "{report:#?}\n{calls}");
    assert_eq!(lab.must(&["/opt/tool/tool"]).trim(), "five");
    changes(lab, &next);
    assert_eq!((lab.must(&["/opt/tool/tool"]).trim(), lab.must(&["ls", "-A", "/opt"]).trim()), ("six", "tool"));
    changes(lab, &format!("{next}absent = true\n"));
}

/// Of a file of the site, several of one digest at once.
fn of_the_site(lab: &Lab) {
    let content = archive("site", "bin/tool");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tool.tar"), &content).unwrap();
    lab.copy(&folder.path().join("tool.tar"), "/root/tool.tar");
    let one = |n: u8| format!("[[archive]]\npath = \"/opt/site{n}\"\nsource = \"tool.tar\"\nstrip = 1\n");
    changes(lab, &(0..6).map(one).collect::<String>());
    assert_eq!(lab.must(&["/opt/site5/tool"]).trim(), "site");
    assert_eq!(lab.must(&["ls", "-A", "/var/lib/muster-agent/archives"]), "");
    let gone = |n: u8| format!("[[archive]]\npath = \"/opt/site{n}\"\nabsent = true\n");
    changes(lab, &(0..6).map(gone).collect::<String>());
}

/// The folder above is a user's, and so is what is unpacked: he swaps what he likes, and nothing of others goes.
fn in_a_folder_of_somebody(lab: &Lab) {
    let own = served(lab, &archive("app", "bin/tool"))
        .replace("/opt/tool", "/srv/app/current")
        .replace("owner = \"daemon\"", "owner = \"app\"");
    lab.must(&[
        "sh",
        "-ec",
        "useradd app; install -d -o app /srv/app; install -d -m 700 /srv/app/roots; echo x > /srv/app/roots/x",
    ]);
    let as_app = |script: &str| lab.must(&["runuser", "-u", "app", "--", "sh", "-ec", script]);
    changes(lab, &own);
    assert_eq!(as_app("/srv/app/current/tool; stat -c '%U %a' /srv/app/current").trim(), "app\napp 755");
    let newer = served(lab, &archive("newer", "bin/tool"))
        .replace("/opt/tool", "/srv/app/current")
        .replace("owner = \"daemon\"", "owner = \"app\"");
    changes(lab, &newer);
    assert_eq!(as_app("/srv/app/current/tool").trim(), "newer");
    let etc = lab.must(&["ls", "-A", "/etc"]);
    // A link, a folder of root's, a pipe that nobody writes to and a device without an end.
    for swap in [
        "mv current old; ln -s /etc current",
        "rm current; mv roots current",
        "mv current roots; mv old current; rm -f current/.muster-archive; mkfifo current/.muster-archive",
        "rm current/.muster-archive; ln -s /dev/zero current/.muster-archive",
    ] {
        as_app(&format!("cd /srv/app; {swap}"));
        for toml in [&newer, &format!("{newer}absent = true\n")] {
            assert_eq!(fails(lab, toml), "/srv/app/current holds something that no archive brought", "{swap}");
        }
    }
    as_app("cd /srv/app; rm -r current; mv roots .current.muster-99999999-1");
    changes(lab, &newer);
    assert_eq!(lab.must(&["cat", "/srv/app/.current.muster-99999999-1/x"]).trim(), "x");
    assert_eq!(lab.must(&["ls", "-A", "/etc"]), etc);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_swap_file_is_made_whole_or_not_at_all() {
    let lab = Lab::start();
    // The node shares its host's swap: nothing may be switched on here.
    for program in ["swapon", "swapoff"] {
        lab.put(&format!("/usr/local/sbin/{program}"), "#!/bin/sh\necho \"$0 $*\" >> /run/swaps\n");
        lab.must(&["chmod", "755", &format!("/usr/local/sbin/{program}")]);
        let found = lab.must(&["sh", "-c", &format!("PATH=/usr/local/sbin:$PATH command -v {program}")]);
        assert_eq!(found.trim(), format!("/usr/local/sbin/{program}"));
    }
    let swap = |path: &str| format!("[[swap]]\npath = \"{path}\"\nsize = \"3Mi\"\n");
    let error = fails(&lab, &swap("/run/swapfile"));
    assert_eq!(error, "/run/swapfile would be on tmpfs, which cannot hold a swap file");
    lab.must(&["sh", "-c", "echo data > /var/data"]);
    assert_eq!(fails(&lab, &swap("/var/data")), "/var/data is there and is no swap");
    assert_eq!(lab.must(&["cat", "/var/data"]).trim(), "data");

    let fstype = lab.must(&["findmnt", "--noheadings", "--output", "FSTYPE", "--target", "/var"]);
    let error = fails(&lab, &swap("/var/swapfile"));
    if !["ext4", "xfs", "btrfs", "f2fs"].contains(&fstype.trim()) {
        assert!(error.contains("cannot hold a swap file"), "{error}");
        return;
    }
    assert!(error.contains("still differs after it was changed: switch it on"), "{error}");
    assert_eq!(lab.must(&["cat", "/run/swaps"]).trim(), "/usr/local/sbin/swapon -- /var/swapfile");
    assert_eq!(lab.must(&["blkid", "-o", "value", "-s", "TYPE", "/var/swapfile"]).trim(), "swap");
    let stat = lab.must(&["stat", "--format", "%a %U %s %b %B", "/var/swapfile"]);
    let numbers: Vec<&str> = stat.split_whitespace().collect();
    assert_eq!(numbers[..3], ["600", "root", "3145728"]);
    let held = numbers[3].parse::<u64>().unwrap() * numbers[4].parse::<u64>().unwrap();
    assert!(held >= 3_145_728, "no holes: {stat}");
    let (_, report) = lab.apply(&format!("{}absent = true\n", swap("/var/swapfile")));
    assert!(report.converged, "{report:#?}");
    assert_ne!(lab.run(&["ls", "/var/swapfile"]).0, 0);
    assert!(!lab.must(&["cat", "/etc/fstab"]).contains("swapfile"));
}
