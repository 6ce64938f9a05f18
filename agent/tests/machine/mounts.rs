//! Mounts on a real node. The kernel's table, findmnt and `/etc/fstab` say what is.

use muster_plan::{Outcome, Report};

use crate::lab::Lab;

fn mount(path: &str, source: &str, fstype: &str, options: &str) -> String {
    let options: Vec<String> =
        options.split(',').filter(|word| !word.is_empty()).map(|word| format!("\"{word}\"")).collect();
    format!(
        "[[mount]]\npath = \"{path}\"\nsource = \"{source}\"\nfstype = \"{fstype}\"\noptions = [{}]\n",
        options.join(", ")
    )
}

fn absent(mount: &str) -> String {
    format!("{mount}absent = true\n")
}

/// Applied with a change; the second time there is nothing left to do.
fn settles(lab: &Lab, toml: &str) -> Report {
    let (status, report) = lab.apply(toml);
    assert!(status == 2 && report.converged, "{toml}\n{report:#?}");
    is_right(lab, toml);
    report
}

fn is_right(lab: &Lab, toml: &str) {
    let (status, report) = lab.apply(toml);
    assert!(status == 0 && report.steps.is_empty(), "{toml}\n{report:#?}");
}

/// Its error and the way out, where it cannot be as written.
fn fails(lab: &Lab, toml: &str) -> (String, String) {
    let (status, report) = lab.apply(toml);
    assert!(status != 0 && !report.converged, "{toml}\n{report:#?}");
    match &report.steps[0].outcome {
        Outcome::Failed { error, help, .. } => (error.clone(), help.clone().unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

/// How often something is mounted at the path, by the kernel's table.
fn times(lab: &Lab, path: &str) -> usize {
    let table = lab.must(&["cat", "/proc/self/mountinfo"]);
    table.lines().filter(|line| line.split(' ').nth(4) == Some(path)).count()
}

fn findmnt(lab: &Lab, column: &str, path: &str) -> String {
    lab.must(&["findmnt", "--noheadings", "--output", column, "--mountpoint", path]).trim().to_owned()
}

fn has(lab: &Lab, path: &str, words: &[&str]) {
    let options = findmnt(lab, "OPTIONS", path);
    for word in words {
        assert!(options.split(',').any(|option| option == *word), "{path} has no {word}: {options}");
    }
}

fn sh(lab: &Lab, script: &str) -> String {
    lab.must(&["sh", "-ec", script])
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn fstab_keeps_what_is_others_and_every_line_that_is_ours() {
    let lab = Lab::start();
    // Many at once: each has its line, and what was there before is there to the byte.
    sh(
        &lab,
        "printf '# by hand\\n\\tproc /proc proc  defaults\\t0 0 # x\\n/none /srv/none ext4 noauto' > /etc/fstab; chmod 600 /etc/fstab",
    );
    let before = lab.must(&["cat", "/etc/fstab"]);
    let all: String = (0..8).map(|n| mount(&format!("/srv/many/{n}"), "tmpfs", "tmpfs", "size=1m")).collect();
    for round in 0..5 {
        settles(&lab, &all);
        let text = lab.must(&["cat", "/etc/fstab"]);
        assert!(text.starts_with(&format!("{before}\n")), "{text}");
        let lines = |n: usize| text.matches(&format!("tmpfs /srv/many/{n} tmpfs size=1m 0 0\n")).count();
        assert_eq!((0..8).map(lines).collect::<Vec<_>>(), [1; 8], "round {round}\n{text}");
        let gone: String = (0..8).map(|n| absent(&mount(&format!("/srv/many/{n}"), "tmpfs", "tmpfs", ""))).collect();
        settles(&lab, &gone);
        assert_eq!(lab.must(&["cat", "/etc/fstab"]), format!("{before}\n"));
    }
    assert_eq!(lab.must(&["stat", "--format", "%a %U", "/etc/fstab"]).trim(), "600 root");

    // A line of ours however it is written: with a slash at its end, without numbers, with a comment.
    sh(
        &lab,
        "mkdir -p /srv/t /srv/u /srv/v; printf 'tmpfs /srv/t/ tmpfs size=1m 0 0\\ntmpfs /srv/v tmpfs\\tsize=1m\\ntmpfs /srv/u tmpfs size=1m 0 0 # by hand' > /etc/fstab; mount -a",
    );
    let before = lab.must(&["cat", "/etc/fstab"]);
    let three = ["t", "u", "v"].map(|name| mount(&format!("/srv/{name}"), "tmpfs", "tmpfs", "size=1m"));
    is_right(&lab, &three.concat());
    assert_eq!(lab.must(&["cat", "/etc/fstab"]), before);
    // Changed in its place, with what belongs to it.
    settles(&lab, &mount("/srv/u", "tmpfs", "tmpfs", "size=2m"));
    assert_eq!(lab.must(&["cat", "/etc/fstab"]), before.replace("/srv/u tmpfs size=1m", "/srv/u tmpfs size=2m") + "\n");
    has(&lab, "/srv/u", &["size=2048k"]);
    // A path with a blank, found again by mount(8) itself.
    settles(&lab, &mount("/srv/a b#c", "tmpfs", "tmpfs", "size=1m"));
    sh(&lab, "umount '/srv/a b#c'; mount '/srv/a b#c'");
    is_right(&lab, &mount("/srv/a b#c", "tmpfs", "tmpfs", "size=1m"));
    assert_eq!(lab.must(&["findmnt", "--verify"]).matches("parse error").count(), 0);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn two_agents_at_once_write_one_file_without_losing_a_line() {
    let lab = Lab::start();
    sh(&lab, "printf '# by hand\\n' > /etc/fstab; printf 'by hand\\n' > /srv/shared; chmod 644 /srv/shared");
    for agent in ["a", "b"] {
        let part = |n: usize| {
            let block =
                format!("[[block]]\npath = \"/srv/shared\"\nname = \"{agent}{n}\"\ncontent = \"{agent}{n}\\n\"\n");
            mount(&format!("/srv/{agent}{n}"), "tmpfs", "tmpfs", "size=1m") + &block
        };
        lab.put(&format!("/root/{agent}.toml"), &(0..6).map(part).collect::<String>());
    }
    let apply =
        |agent: &str| format!("muster-agent apply /root/{agent}.toml --state /root/{agent}.json & {agent}=$!\n");
    let ends = "for agent in $a $b; do status=0; wait $agent || status=$?; [ $status = 2 ]; done";
    let both = apply("a") + &apply("b") + ends;
    for _round in 0..5 {
        sh(&lab, &both);
        let count = |file: &str, what: &str| lab.must(&["grep", "-cE", what, file]).trim().to_owned();
        assert_eq!(count("/etc/fstab", "^tmpfs /srv/[ab][0-5] tmpfs size=1m 0 0$"), "12");
        assert_eq!(count("/srv/shared", "^[ab][0-5]$"), "12", "{}", sh(&lab, "cat /srv/shared"));
        assert_eq!(count("/srv/shared", "^by hand$"), "1");
        sh(&lab, "umount /srv/[ab][0-5]; sed -i '/srv/d' /etc/fstab; printf 'by hand\\n' > /srv/shared");
    }
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn what_the_kernel_has_mounted_is_what_is_written() {
    let lab = Lab::start();
    sh(&lab, "for name in a b; do mkdir -p /srv/$name/in; echo $name > /srv/$name/which; done");
    let which = |path: &str| lab.must(&["cat", &format!("{path}/which")]).trim().to_owned();
    let bind = |source: &str| mount("/srv/m", source, "none", "bind");

    // Another folder to bind.
    settles(&lab, &bind("/srv/a"));
    settles(&lab, &bind("/srv/b"));
    assert_eq!((which("/srv/m"), times(&lab, "/srv/m")), ("b".into(), 1));
    assert_eq!(sh(&lab, "grep /srv/m /etc/fstab").trim(), "/srv/b /srv/m none bind 0 0");
    // The folder was removed and made anew: the mount shows the old one.
    sh(&lab, "rm -r /srv/b; mkdir /srv/b; echo new > /srv/b/which");
    settles(&lab, &bind("/srv/b"));
    assert_eq!(which("/srv/m"), "new");
    // A stranger's mount on top of it, and one in its place.
    sh(&lab, "mount -t tmpfs tmpfs /srv/m");
    settles(&lab, &bind("/srv/b"));
    sh(&lab, "umount /srv/m; mount -t tmpfs tmpfs /srv/m");
    settles(&lab, &bind("/srv/b"));
    assert_eq!((which("/srv/m"), times(&lab, "/srv/m")), ("new".into(), 1));
    // Options of the bind mount alone.
    sh(&lab, "mount -o remount,bind,ro /srv/m");
    let report = settles(&lab, &bind("/srv/b"));
    assert_eq!(report.steps[0].detail, ["ro → rw"]);
    assert_eq!(report.drift.len(), 1);
    settles(&lab, &mount("/srv/m", "/srv/b", "none", "bind,ro,nodev"));
    has(&lab, "/srv/m", &["ro", "nodev"]);
    assert_ne!(lab.run(&["touch", "/srv/m/x"]).0, 0);
    lab.must(&["touch", "/srv/b/x"]);

    // Below a link it is mounted once.
    let linked = mount("/var/run/scratch", "tmpfs", "tmpfs", "size=1m");
    settles(&lab, &linked);
    assert_eq!((times(&lab, "/run/scratch"), sh(&lab, "grep -c scratch /etc/fstab").trim()), (1, "1"));
    is_right(&lab, &mount("/run/scratch", "tmpfs", "tmpfs", "size=1m"));
    settles(&lab, &absent(&linked));
    assert_eq!(times(&lab, "/run/scratch"), 0);

    // A remount by hand, whole, and what it holds stays.
    let tmpfs = mount("/srv/t", "tmpfs", "tmpfs", "size=1m,nosuid,noexec,rw,mode=0750");
    settles(&lab, &tmpfs);
    sh(&lab, "echo kept > /srv/t/x; mount -o remount,ro,suid,exec,size=9m /srv/t");
    let report = settles(&lab, &tmpfs);
    assert_eq!(report.drift.len(), 1);
    has(&lab, "/srv/t", &["rw", "nosuid", "noexec", "relatime", "size=1024k"]);
    sh(&lab, "mount -o remount,noatime /srv/t; chmod 700 /srv/t");
    settles(&lab, &tmpfs);
    has(&lab, "/srv/t", &["relatime", "size=1024k"]);
    assert_eq!(lab.must(&["stat", "--format", "%a", "/srv/t"]).trim(), "750");
    // An option that is taken out of the list, and a size that is.
    settles(&lab, &mount("/srv/t", "tmpfs", "tmpfs", "mode=0750"));
    assert!(!findmnt(&lab, "OPTIONS", "/srv/t").contains("noexec"));
    assert_eq!(lab.must(&["cat", "/srv/t/x"]).trim(), "kept");
    // Words that the kernel has others for.
    for options in [
        "size=50%",
        "size=1048576,nr_inodes=2k",
        "defaults,nofail,x-systemd.mount-timeout=9s",
        "user",
        "strictatime",
        "lazytime,sync",
        "shared",
    ] {
        settles(&lab, &mount("/srv/words", "tmpfs", "tmpfs", options));
    }
    settles(&lab, &absent(&mount("/srv/words", "tmpfs", "tmpfs", "")));

    // A file with a file system, by a loop device, which a container's node has to be given.
    sh(&lab, "mknod /dev/loop-control c 10 237; for n in $(seq 0 15); do mknod /dev/loop$n b 7 $n; done");
    sh(&lab, "truncate --size 8M /var/disk.img; mkfs.ext4 -q /var/disk.img");
    let image = mount("/srv/disk", "/var/disk.img", "ext4", "noatime,errors=remount-ro");
    settles(&lab, &image);
    assert!(findmnt(&lab, "SOURCE", "/srv/disk").starts_with("/dev/loop"));
    sh(
        &lab,
        "mount -o remount,relatime,errors=panic $(findmnt -no SOURCE /srv/disk) /srv/disk; echo kept > /srv/disk/x",
    );
    settles(&lab, &image);
    has(&lab, "/srv/disk", &["noatime"]);
    settles(&lab, &absent(&image));
    settles(&lab, &image);
    assert_eq!(lab.must(&["cat", "/srv/disk/x"]).trim(), "kept");
    settles(&lab, &absent(&image));

    // The mode and owner of what is mounted are those of the folder resource.
    let both = format!(
        "{}[[directory]]\npath = \"/srv/both\"\nmode = \"0700\"\n",
        mount("/srv/both", "tmpfs", "tmpfs", "size=1m")
    );
    settles(&lab, &both);
    assert_eq!(lab.must(&["stat", "--format", "%a", "/srv/both"]).trim(), "700");
    settles(
        &lab,
        &format!(
            "{}[[directory]]\npath = \"/srv/both\"\nabsent = true\n",
            absent(&mount("/srv/both", "tmpfs", "tmpfs", ""))
        ),
    );
    assert_ne!(lab.run(&["ls", "/srv/both"]).0, 0);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn nothing_is_unmounted_by_force_and_nothing_is_half_done() {
    let lab = Lab::start();
    // All that is at the path goes in one converge, also without a line in fstab.
    sh(&lab, "mkdir -p /srv/s; for n in 1 2 3; do mount -t tmpfs tmpfs /srv/s; done");
    let stack = mount("/srv/s", "tmpfs", "tmpfs", "");
    settles(&lab, &absent(&stack));
    assert_eq!(times(&lab, "/srv/s"), 0);

    // In use: named, and it keeps its line. What is mounted in it is named, too.
    settles(&lab, &stack);
    let held = sh(&lab, "cd /srv/s; sleep 600 >/dev/null 2>&1 & echo $!").trim().to_owned();
    let (error, help) = fails(&lab, &absent(&stack));
    assert_eq!(error, format!("/srv/s is in use by sleep (pid {held}: its working folder)"));
    assert!(help.contains("nothing was unmounted"), "{help}");
    assert_eq!((times(&lab, "/srv/s"), sh(&lab, "grep -c /srv/s /etc/fstab").trim()), (1, "1"));
    sh(&lab, &format!("kill {held}; mkdir /srv/s/in; mount -t tmpfs tmpfs /srv/s/in"));
    assert_eq!(fails(&lab, &absent(&stack)).0, "/srv/s is in use by what is mounted at /srv/s/in");
    sh(&lab, "umount /srv/s/in; exec 3>/srv/s/open; sleep 600 >/dev/null 2>&1 & echo $! > /run/held");
    let (error, _) = fails(&lab, &absent(&stack));
    assert!(error.ends_with(": /srv/s/open is open)"), "{error}");
    sh(&lab, "kill $(cat /run/held)");
    settles(&lab, &absent(&stack));
    assert!(!lab.must(&["cat", "/etc/fstab"]).contains("/srv/s"));

    // What cannot be mounted: no line that would stop the boot, and nothing taken away for it.
    let before = lab.must(&["cat", "/etc/fstab"]);
    sh(&lab, "touch /srv/file; mkdir -p /srv/k; mount -t tmpfs tmpfs /srv/k");
    for (mount, words, way) in [
        (mount("/srv/k", "/srv/none", "none", "bind"), "the folder /srv/none to bind is not there", "[[directory]]"),
        (mount("/srv/k", "UUID=00000000-0000-0000-0000-00000000dead", "ext4", ""), "there is no UUID=0000", "lsblk"),
        (
            mount("/srv/file", "tmpfs", "tmpfs", ""),
            "/srv/file is a file, and what is mounted needs a folder",
            "another path",
        ),
        (mount("/srv/x", "/srv/file", "none", "bind"), "/srv/file is a file and no folder to bind", "[[file]]"),
        (mount("/srv/x", "tmpfs", "nosuch", ""), "`mount` refuses /srv/x: ", "dmesg"),
        (mount("/var/run", "tmpfs", "tmpfs", ""), "/var/run is /run, which the node lives in", "elsewhere"),
    ] {
        let (error, help) = fails(&lab, &mount);
        assert!(error.starts_with(words) && help.contains(way), "{error}; {help}");
        assert_eq!(lab.must(&["cat", "/etc/fstab"]), before, "{mount}");
    }
    assert_eq!(times(&lab, "/srv/k"), 1);

    // Cut off in between: unmounted with the old line, with the new one, mounted without a line.
    sh(&lab, "mkdir -p /srv/a");
    let bind = mount("/srv/cut", "/srv/a", "none", "bind");
    for cut in [
        "umount /srv/cut; sed -i s,/srv/a,/srv/other, /etc/fstab",
        "umount /srv/cut",
        "sed -i '/.srv.cut/d' /etc/fstab",
    ] {
        if lab.apply(&bind).0 == 0 {
            is_right(&lab, &bind);
        }
        sh(&lab, cut);
        settles(&lab, &bind);
        assert_eq!((times(&lab, "/srv/cut"), sh(&lab, "grep -c /srv/cut /etc/fstab").trim()), (1, "1"));
    }
    for cut in ["umount /srv/cut", "sed -i '/.srv.cut/d' /etc/fstab"] {
        sh(&lab, cut);
        settles(&lab, &absent(&bind));
        assert_eq!((times(&lab, "/srv/cut"), lab.run(&["grep", "/srv/cut", "/etc/fstab"]).0), (0, 1));
        settles(&lab, &bind);
    }
    // A recursive bind mount takes nothing of its source with it.
    sh(
        &lab,
        "mkdir -p /srv/tree/in; mount -t tmpfs tmpfs /srv/tree; mkdir /srv/tree/in; mount -t tmpfs tmpfs /srv/tree/in; mount --make-rshared /srv/tree",
    );
    let tree = mount("/srv/copy", "/srv/tree", "none", "rbind");
    settles(&lab, &tree);
    assert_eq!(times(&lab, "/srv/copy/in"), 1);
    settles(&lab, &absent(&tree));
    assert_eq!((times(&lab, "/srv/copy"), times(&lab, "/srv/copy/in"), times(&lab, "/srv/tree/in")), (0, 0, 1));
}
