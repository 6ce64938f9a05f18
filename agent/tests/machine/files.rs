//! Files, folders, links and blocks on a node: what others have is left to them. What is, the node's own tools say.

use muster_plan::Outcome;

use crate::lab::Lab;

/// The error and the help of the one step that failed.
fn failure(report: &muster_plan::Report) -> String {
    let failed: Vec<String> = report
        .steps
        .iter()
        .filter_map(|step| match &step.outcome {
            Outcome::Failed { error, help, .. } => Some(format!("{error} | {}", help.clone().unwrap_or_default())),
            _other => None,
        })
        .collect();
    assert_eq!(failed.len(), 1, "{report:#?}");
    failed[0].clone()
}

/// It changes what differs, and the second time nothing.
fn twice(lab: &Lab, toml: &str) -> muster_plan::Report {
    let (status, report) = lab.apply(toml);
    assert!(status == 2 && report.converged, "{report:#?}");
    let (status, again) = lab.apply(toml);
    assert!(status == 0 && again.steps.is_empty(), "{again:#?}");
    report
}

fn plan(lab: &Lab, toml: &str) -> String {
    lab.put("/root/plan.toml", toml);
    lab.run(&["muster-agent", "plan", "/root/plan.toml"]).1
}

fn sh(lab: &Lab, script: &str) -> String {
    lab.must(&["sh", "-ec", script])
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_purge_and_a_removal_take_nothing_of_others() {
    let lab = Lab::start();
    // Mounts by hand, by the site and of a file; strangers beside, above and below them, with odd names.
    sh(
        &lab,
        "mkdir -p /srv/p/managed /srv/p/backup /srv/p/bound /srv/p/sub/disk /srv/kept
        mount -t tmpfs tmpfs /srv/p/backup; echo precious > /srv/p/backup/data; echo precious > /srv/kept/data
        mount --bind /srv/kept /srv/p/bound; mount -t tmpfs tmpfs /srv/p/sub/disk; echo precious > /srv/p/sub/disk/data
        touch /srv/p/file /srv/p/stray /srv/p/sub/stray; mount --bind /srv/kept/data /srv/p/file
        mkdir /srv/p/many; for n in $(seq 30); do touch /srv/p/stray-$n /srv/p/many/$n; done; touch \"/srv/p/a
b\"",
    );
    let purge = "[[directory]]\npath = \"/srv/p\"\npurge = true\n\n[[mount]]\npath = \"/srv/p/managed\"\nsource = \"tmpfs\"\nfstype = \"tmpfs\"\n";
    let shown = plan(&lab, purge);
    // 30 strays, one more, one below, the folder with 30, the odd one.
    assert!(shown.contains("64 to be removed:") && shown.contains("… and 14 more"), "{shown}");
    assert!(shown.contains("- /srv/p/a\\nb") && shown.contains("- /srv/p/many/ (30 in it)"), "{shown}");
    assert!(!shown.contains("backup") && !shown.contains("bound"), "{shown}");
    twice(&lab, purge);
    assert_eq!(
        sh(&lab, "ls -A /srv/p").split_whitespace().collect::<Vec<_>>(),
        ["backup", "bound", "file", "managed", "sub"]
    );
    assert_eq!(
        sh(&lab, "cat /srv/p/backup/data /srv/p/bound/data /srv/p/sub/disk/data /srv/p/file /srv/kept/data")
            .matches("precious")
            .count(),
        5
    );
    assert_eq!(sh(&lab, "ls -A /srv/p/sub").trim(), "disk");

    // The same folder is not removed while something is mounted in it, and nothing of it goes.
    sh(&lab, "echo mine > /srv/p/mine");
    let gone = "[[directory]]\npath = \"/srv/p\"\nabsent = true\npurge = true\n\n[[mount]]\npath = \"/srv/p/managed\"\nsource = \"tmpfs\"\nabsent = true\n";
    let (_, report) = lab.apply(gone);
    let said = failure(&report);
    assert!(
        said.contains("/srv/p/backup has a file system mounted on it") && said.contains("nothing was removed"),
        "{said}"
    );
    assert_eq!(sh(&lab, "cat /srv/p/mine /srv/p/backup/data").lines().count(), 2);
    sh(&lab, "umount /srv/p/backup /srv/p/bound /srv/p/sub/disk /srv/p/file");
    assert!(plan(&lab, gone).contains("to be removed:"));
    twice(&lab, gone);
    assert_eq!(sh(&lab, "ls -d /srv/p 2>/dev/null || echo gone; cat /srv/kept/data"), "gone\nprecious\n");

    // Homes, written and not, what a command makes, a volume, a socket that is held and one that is left.
    sh(&lab, "mkdir -p /srv/c/cache /srv/c/home /srv/c/by-hand; echo data > /srv/c/cache/rows; echo key > /srv/c/home/key
        useradd --home-dir /srv/c/by-hand by-hand; echo key > /srv/c/by-hand/key; touch /srv/c/stranger
        systemd-run --quiet --unit=held -p Type=exec python3 -c 'import socket,time; s=socket.socket(socket.AF_UNIX); s.bind(\"/srv/c/held.sock\"); s.listen(); time.sleep(9999)'
        until [ -S /srv/c/held.sock ]; do sleep 0.1; done
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/srv/c/left.sock\")'");
    let toml = "[[directory]]\npath = \"/srv/c\"\npurge = true\n
        [[user]]\nname = \"written\"\nhome = \"/srv/c/home\"\n
        [[command]]\nname = \"make-it\"\nrun = [\"sh\", \"-c\", \"echo run >> /root/runs; mkdir /srv/c/made; touch /srv/c/made/x\"]\ncreates = \"/srv/c/made\"\n
        [[file]]\npath = \"/srv/c/cache/conf\"\ncontent = \"x\"\n";
    twice(&lab, toml);
    assert_eq!(
        sh(&lab, "cd /srv/c; find . | LC_ALL=C sort | tr '\\n' ' '; cat /root/runs").trim(),
        ". ./by-hand ./by-hand/key ./cache ./cache/conf ./held.sock ./home ./home/key ./made ./made/x run"
    );
    let (_, report) = lab.apply("[[directory]]\npath = \"/srv/c\"\nabsent = true\npurge = true\n");
    let said = failure(&report);
    assert!(
        said.contains("is the home of by-hand") && said.contains("/srv/c/held.sock is a socket that a program holds"),
        "{said}"
    );
    let (_, report) = lab.apply("[[directory]]\npath = \"/srv/c/by-hand\"\npurge = true\n");
    assert!(failure(&report).contains("/srv/c/by-hand is the home of by-hand"));
    assert_eq!(sh(&lab, "cat /srv/c/by-hand/key /srv/c/home/key").lines().count(), 2);

    // What mounts of the site show, and users' files of keys, which the site writes only a part of.
    sh(&lab, "mkdir -p /srv/s/data /srv/s/lower /srv/s/dir /srv/ssh/.ssh; echo precious > /srv/s/data/x; touch /srv/s/dir/stray
        useradd --home-dir /srv/ssh keys; echo '# by hand' > /srv/ssh/.ssh/authorized_keys; touch /srv/ssh/.ssh/stray; chown -R keys /srv/ssh");
    twice(
        &lab,
        "[[directory]]\npath = \"/srv/s\"\npurge = true\n
        [[mount]]\npath = \"/srv/shown\"\nsource = \"/srv/s/data\"\nfstype = \"none\"\noptions = [\"bind\"]\n
        [[mount]]\npath = \"/srv/over\"\nsource = \"overlay\"\nfstype = \"overlay\"\noptions = [\"noauto\", \"lowerdir=/srv/s/lower:/srv/s/data\"]\n
        [[directory]]\npath = \"/srv/ssh/.ssh\"\nowner = \"keys\"\npurge = true\n
        [[authorized_key]]\nname = \"k\"\nuser = \"keys\"\nkey = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB2BsxJwBSLcAYgAbmV1Nej5mm6qEZpVGLZhSdyGdg10\"\n",
    );
    assert_eq!(
        sh(&lab, "cat /srv/shown/x; ls -A /srv/s /srv/ssh/.ssh; head -1 /srv/ssh/.ssh/authorized_keys"),
        "precious\n/srv/s:\ndata\nlower\n\n/srv/ssh/.ssh:\nauthorized_keys\n# by hand\n"
    );

    // By another name the folder is the same, and so is what the site owns in it.
    sh(&lab, "mkdir -p /run/d; echo own > /run/d/own; touch /run/d/stranger");
    twice(
        &lab,
        "[[directory]]\npath = \"/var/run/d\"\npurge = true\n\n[[file]]\npath = \"/run/d/own\"\ncontent = \"own\\n\"\n",
    );
    assert_eq!(sh(&lab, "ls -A /run/d").trim(), "own");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn what_a_file_is_beside_its_content_is_minded() {
    let lab = Lab::start();
    texts_and_bytes_arrive_as_they_are(&lab);
    what_was_read_before_is_remembered_and_no_change_of_it_missed(&lab);
    // A container's own files are mounted one by one.
    let mounted = "[[file]]\npath = \"/etc/hosts\"\ncontent = \"127.0.0.1 localhost\\n10.0.0.9 db.example\\n\"\n\n[[file]]\npath = \"/etc/resolv.conf\"\ncontent = \"nameserver 10.0.0.2\\n\"\n";
    assert!(plan(&lab, mounted).contains("something is mounted on it: it is written in place"));
    twice(&lab, mounted);
    assert_eq!(
        sh(&lab, "getent hosts db.example | cut -d' ' -f1; cat /etc/resolv.conf; findmnt -no TARGET /etc/hosts"),
        "10.0.0.9\nnameserver 10.0.0.2\n/etc/hosts\n"
    );
    let shorter = "[[file]]\npath = \"/etc/hosts\"\ncontent = \"::1 x\\n\"\nmode = \"0600\"\n";
    twice(&lab, shorter);
    assert_eq!(
        sh(&lab, "cat /etc/hosts; stat -c %a /etc/hosts; ls -A /etc | grep -c muster || true"),
        "::1 x\n600\n0\n"
    );

    // Frozen files and folders, on a file system that has such flags.
    sh(
        &lab,
        "mkdir -p /var/b/frozen /var/b/a; echo old > /var/b/f; echo old > /var/b/frozen/f; touch /var/b/a/first; chattr +i /var/b/f; chattr +a /var/b/frozen",
    );
    for (toml, said) in [
        ("[[file]]\npath = \"/var/b/f\"\ncontent = \"new\"\n", "/var/b/f is immutable (chattr +i)"),
        ("[[file]]\npath = \"/var/b/f\"\ncontent = \"old\\n\"\nmode = \"0600\"\n", "/var/b/f is immutable (chattr +i)"),
        ("[[file]]\npath = \"/var/b/f\"\nabsent = true\n", "chattr -i /var/b/f"),
        (
            "[[file]]\npath = \"/var/b/frozen/f\"\ncontent = \"new\"\n",
            "/var/b/frozen is only to be appended to (chattr +a)",
        ),
        (
            "[[link]]\npath = \"/var/b/frozen/l\"\ntarget = \"x\"\n",
            "/var/b/frozen is only to be appended to (chattr +a)",
        ),
        ("[[directory]]\npath = \"/var/b\"\nabsent = true\npurge = true\n", "/var/b/f is immutable (chattr +i)"),
        ("[[directory]]\npath = \"/var/b\"\npurge = true\n", "/var/b/frozen is only to be appended to (chattr +a)"),
    ] {
        let (_, report) = lab.apply(toml);
        let failure = failure(&report);
        assert!(failure.contains(said), "{failure}");
    }
    assert_eq!(
        sh(
            &lab,
            "chattr -i /var/b/f; chattr -a /var/b/frozen; cat /var/b/f /var/b/frozen/f; ls -A /var/b/frozen /var/b/a"
        ),
        "old\nold\n/var/b/a:\nfirst\n\n/var/b/frozen:\nf\n",
        "nothing is half done, nothing left behind"
    );

    // Written in place on a full disk: it stays whole. Nobody reads a secret by the mode that was there before.
    sh(
        &lab,
        "mkdir /srv/full; mount -t tmpfs -o size=64k tmpfs /srv/full; echo old > /srv/full/f; touch /etc/full; mount --bind /srv/full/f /etc/full
        dd if=/dev/zero of=/srv/full/fill bs=4k count=100 2>/dev/null || true",
    );
    let long = format!("[[file]]\npath = \"/etc/full\"\ncontent = \"{}\"\nmode = \"0600\"\n", "x".repeat(9000));
    let (_, report) = lab.apply(&long);
    assert!(failure(&report).contains("the disk is full"), "{report:#?}");
    assert_eq!(sh(&lab, "cat /etc/full; rm /srv/full/fill"), "old\n");
    twice(&lab, &long);
    assert_eq!(sh(&lab, "stat -c '%s %a' /etc/full; umount /etc/full /srv/full"), "9000 600\n");

    // Numbers that are none, a file where a folder has to be, and whoever's shell it is started from.
    for number in ["4294967295", "4294967296"] {
        let (_, report) = lab.apply(&format!("[[file]]\npath = \"/srv/n\"\ncontent = \"x\"\nowner = \"{number}\"\n"));
        assert!(failure(&report).contains(&format!("no account with the number {number}")), "{report:#?}");
    }
    let (_, report) = lab.apply("[[file]]\npath = \"/var/b/f/x/y\"\ncontent = \"x\"\n");
    assert!(failure(&report).contains("/var/b/f is there and is no folder | move /var/b/f away"), "{report:#?}");
    lab.put("/root/umask.toml", "[[file]]\npath = \"/srv/umask/a/f\"\ncontent = \"x\"\n");
    assert_eq!(
        sh(
            &lab,
            "umask 077; muster-agent apply /root/umask.toml >/dev/null || [ $? = 2 ]; stat -c %a /srv/umask /srv/umask/a"
        ),
        "755\n755\n"
    );

    // Lists of rights and attributes stay, capabilities go and the plan says so.
    let attribute = |path: &str| {
        sh(
            &lab,
            &format!(
                "python3 -c 'import os; print(sorted((n, os.getxattr(\"{path}\", n).hex()) for n in os.listxattr(\"{path}\")))'"
            ),
        )
    };
    sh(&lab, "mkdir -p /var/x; echo x > /var/x/f; chmod 640 /var/x/f
        python3 -c 'import os,struct; p=\"/var/x/f\"; os.setxattr(p, \"system.posix_acl_access\", struct.pack(\"<I\", 2)+b\"\".join(struct.pack(\"<HHI\", *e) for e in [(1,6,0xffffffff),(2,4,1),(4,4,0xffffffff),(16,4,0xffffffff),(32,0,0xffffffff)])); os.setxattr(p, \"user.note\", b\"hi\")'");
    let before = attribute("/var/x/f");
    assert!(before.contains("posix_acl_access") && before.contains("user.note"), "{before}");
    twice(&lab, "[[file]]\npath = \"/var/x/f\"\ncontent = \"y\\n\"\nmode = \"0640\"\n");
    assert_eq!((attribute("/var/x/f"), sh(&lab, "stat -c %a /var/x/f; cat /var/x/f")), (before, "640\ny\n".to_owned()));
    sh(
        &lab,
        "python3 -c 'import os,struct; os.setxattr(\"/var/x/f\", \"security.capability\", struct.pack(\"<IIIII\", 0x02000001, 1024, 0, 0, 0))'",
    );
    let more = "[[file]]\npath = \"/var/x/f\"\ncontent = \"z\\n\"\nmode = \"0640\"\n";
    assert!(plan(&lab, more).contains("its capabilities (security.capability) goes"));
    twice(&lab, more);
    assert!(!attribute("/var/x/f").contains("capability"));

    // A block in a file of others keeps the rest, two at once lose nothing, and damage is named.
    sh(
        &lab,
        "printf 'Port 22\\r\\n\\377 no end' > /var/x/conf; chown daemon:adm /var/x/conf; chmod 640 /var/x/conf; cp -p /var/x/conf /root/conf",
    );
    let block = |name: &str, more: &str| format!("[[block]]\nname = \"{name}\"\npath = \"/var/x/conf\"\n{more}\n");
    let all: String = (0..12).map(|n| block(&format!("b{n}"), &format!("content = \"line {n}\""))).collect();
    twice(&lab, &all);
    assert_eq!(
        sh(
            &lab,
            "stat -c '%a %U %G' /var/x/conf; grep -ac '^line' /var/x/conf; head -c 17 /var/x/conf | cmp - /root/conf && echo same"
        ),
        "640 daemon adm\n12\nsame\n"
    );
    sh(&lab, "sed -i 's/^line 3$/by hand/' /var/x/conf");
    let (_, report) = lab.apply(&all);
    assert_eq!(report.steps.len(), 1, "{report:#?}");
    let gone: String = (0..12).map(|n| block(&format!("b{n}"), "absent = true")).collect();
    twice(&lab, &gone);
    assert_eq!(
        sh(&lab, "head -c 17 /var/x/conf | cmp - /root/conf; stat -c %s /var/x/conf"),
        "18\n",
        "a line end more"
    );
    sh(&lab, "echo '# BEGIN muster b1' >> /var/x/conf");
    let (_, report) = lab.apply(&block("b1", "content = \"x\""));
    let said = failure(&report);
    assert!(said.contains("begins in line 3 and has no end") && said.contains("`# END muster b1`"), "{said}");
    let (_, report) = lab.apply("[[block]]\nname = \"x\"\npath = \"/var/x/none\"\ncontent = \"x\"\n");
    assert!(failure(&report).contains("there is no /var/x/none"));
    twice(&lab, "[[block]]\nname = \"x\"\npath = \"/etc/hosts\"\ncontent = \"10.0.0.7 seven.example\"\n");
    assert_eq!(
        sh(&lab, "getent hosts seven.example | cut -d' ' -f1; findmnt -no TARGET /etc/hosts"),
        "10.0.0.7\n/etc/hosts\n"
    );
}

/// Text of other programs is an error at its place, or arrives as it is; nothing of it vanishes, and bytes are bytes.
fn texts_and_bytes_arrive_as_they_are(lab: &Lab) {
    let script = "#!/bin/bash\na=(1 2 3)\necho ${#a[@]}\necho kept\nb=x; echo ${b#}\n";
    let toml = |content: &str| {
        format!("[[file]]\npath = \"/usr/local/bin/count\"\nmode = \"0755\"\ncontent = '''\n{content}'''\n")
    };
    let first = &script[..script.find("echo kept").unwrap()];
    for wrong in [script, first] {
        lab.put("/root/script.toml", &toml(wrong));
        for command in ["plan", "apply"] {
            let (status, _, said) = lab.run(&["muster-agent", command, "/root/script.toml"]);
            assert_eq!(status, 1, "{said}");
            assert!(said.contains("script.toml:7:7"), "{said}");
            assert!(said.contains("{% raw %}") && said.contains("`source`"), "{said}");
        }
        assert_ne!(lab.run(&["test", "-e", "/usr/local/bin/count"]).0, 0, "nothing is written");
    }
    twice(lab, &toml(&format!("{{% raw %}}{script}{{% endraw %}}")));
    assert_eq!(sh(lab, "/usr/local/bin/count"), "3\nkept\nx\n");
    lab.put("/root/count.sh", script);
    sh(lab, "printf 'Stra\\337e\\n' > /root/latin1.txt; head -c 100000 /dev/urandom > /root/bin.dat; : > /root/empty");
    let names = ["count.sh", "latin1.txt", "bin.dat", "empty"];
    let sources = names.map(|name| format!("[[file]]\npath = \"/srv/sources/{name}\"\nsource = \"{name}\"\n"));
    twice(lab, &sources.concat());
    for name in names {
        lab.must(&["cmp", &format!("/root/{name}"), &format!("/srv/sources/{name}")]);
    }
}

/// A text that stands as it was is not read again; what was changed on the node is put back from memory, and a change of the text, of a
/// file that it names and of the memory itself is seen.
fn what_was_read_before_is_remembered_and_no_change_of_it_missed(lab: &Lab) {
    let one =
        |number: u32| format!("[[file]]\npath = \"/srv/many/{number}\"\ncontent = \"{number} {}\"\n", "x".repeat(1000));
    let named = "[[file]]\npath = \"/srv/many/named\"\nsource = \"named\"\n";
    lab.put("/root/named", "first\n");
    let (status, report) = lab.apply(&((0..300).map(one).collect::<String>() + named));
    assert!(status == 2 && report.converged, "{report:#?}");
    // Memory is written where the text has been as it is for more than ten seconds.
    let memory = "/var/lib/muster-agent/apply.json.read";
    assert_ne!(lab.run(&["test", "-e", memory]).0, 0);
    let settled = format!("sleep 12; muster-agent apply /root/apply.toml >/dev/null; stat -c '%a %U' {memory}");
    assert_eq!(sh(lab, &settled), "600 root\n");
    let reads = "strace -f -qq -e trace=read,pread64 -P /root/apply.toml -o /root/reads muster-agent apply /root/apply.toml; status=$?; wc -l < /root/reads; exit $status";
    assert_eq!(lab.run(&["bash", "-c", reads]).1.lines().last(), Some("0"), "the text was read again");

    sh(lab, "echo hand > /srv/many/7; rm /srv/many/named");
    let (status, _, said) = lab.run(&["bash", "-c", reads]);
    assert_eq!(status, 2, "{said}");
    assert_eq!(sh(lab, "cut -d' ' -f1 /srv/many/7; cat /srv/many/named; wc -l < /root/reads"), "7\nfirst\n0\n");

    let whole = "cp -p /var/lib/muster-agent/apply.json.read /root/whole";
    sh(lab, whole);
    for (change, judge, says) in [
        ("truncate -s -9000 $memory; echo x > /srv/many/9", "cut -d' ' -f1 /srv/many/9", "9"),
        (
            "cp -p whole $memory; touch -r apply.toml t; sed -i 's/\"7 x/\"8 x/' apply.toml; touch -r t apply.toml",
            "cut -d' ' -f1 /srv/many/7",
            "8",
        ),
        (
            "cp -p whole $memory; touch -r named t; echo other > new; cat new > named; touch -r t named",
            "cat /srv/many/named",
            "other",
        ),
        ("cp -p whole $memory; cp -p named t; echo third > t; mv t named", "cat /srv/many/named", "third"),
        (
            "cp -p whole $memory; mkdir m; mount -t tmpfs none m; cp -p apply.toml m/; sed -i 's/\"8 x/\"9 x/' m/apply.toml; mount --bind m/apply.toml apply.toml",
            "cut -d' ' -f1 /srv/many/7",
            "9",
        ),
    ] {
        let script = format!("cd /root; memory={memory}; {change}; muster-agent apply apply.toml");
        let (status, _, said) = lab.run(&["bash", "-c", &script]);
        assert_eq!(status, 2, "{change}: {said}");
        assert_eq!(sh(lab, judge).trim(), says, "{change}");
        // What nobody edited is remembered anew, what does not count any more is gone.
        assert_eq!(lab.run(&["test", "-e", memory]).0 == 0, change.starts_with("truncate"), "{change}");
    }
    sh(lab, "umount /root/apply.toml; umount /root/m; rm /root/named");
    assert_eq!(lab.run(&["muster-agent", "apply", "/root/apply.toml"]).0, 1, "what it names is gone");
    assert_eq!(sh(lab, "ls -A /var/lib/muster-agent | grep muster- || true"), "");
    // A plan writes nothing.
    sh(lab, "echo back > /root/named; sleep 12");
    assert_eq!(lab.run(&["muster-agent", "plan", "/root/apply.toml"]).0, 2);
    assert_ne!(lab.run(&["test", "-e", memory]).0, 0);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn links_are_made_and_those_of_others_lead_nowhere() {
    let lab = Lab::start();
    // Of the site: led anew, put back, refused where something else is.
    let link = |target: &str| format!("[[link]]\npath = \"/srv/l/current\"\ntarget = \"{target}\"\n");
    twice(&lab, &link("v1"));
    twice(&lab, &link("/srv/l/v2"));
    assert_eq!(sh(&lab, "readlink /srv/l/current; ln -sfn elsewhere /srv/l/current").trim(), "/srv/l/v2");
    let (_, report) = lab.apply(&link("/srv/l/v2"));
    assert_eq!(report.drift.len(), 1, "{report:#?}");
    sh(&lab, "rm /srv/l/current; mkdir -p /srv/l/current; touch /srv/l/current/x");
    for more in ["", "replace = true\n"] {
        let (_, report) = lab.apply(&format!("{}{more}", link("v1")));
        assert!(failure(&report).contains("is a folder with something in it"));
    }
    sh(&lab, "rm /srv/l/current/x");
    twice(&lab, &format!("{}replace = true\n", link("v1")));
    assert_eq!(sh(&lab, "mkdir -p /srv/l/v1; touch /srv/l/v1/kept; readlink /srv/l/current").trim(), "v1");
    twice(&lab, "[[link]]\npath = \"/srv/l/current\"\nabsent = true\n");
    assert_eq!(sh(&lab, "ls -A /srv/l/v1; ls /srv/l").split_whitespace().collect::<Vec<_>>(), ["kept", "v1"]);
    assert_eq!(lab.apply("[[link]]\npath = \"/srv/l/v1\"\nabsent = true\n").0, 0, "a folder is no link");

    // Of a user: no folder, file or secret of others by way of his links.
    sh(&lab, "useradd app");
    let folders = "[[directory]]\npath = \"/srv/app\"\nowner = \"app\"\n\n[[directory]]\npath = \"/srv/app/v1/etc\"\nowner = \"app\"\nmode = \"0777\"\n\n[[file]]\npath = \"/srv/app/v1/etc/passwd\"\ncontent = \"x\"\nowner = \"app\"\n";
    twice(&lab, folders);
    let before = sh(&lab, "stat -c '%U %a' /etc /etc/passwd; cat /etc/passwd");
    sh(&lab, "runuser -u app -- sh -ec 'cd /srv/app; mv v1 old; ln -s / v1'");
    let (_, report) = lab.apply(folders);
    let said = format!("{report:?}");
    assert!(said.contains("/srv/app/v1 is a link to") && said.contains("take the link away"), "{said}");
    assert_eq!(sh(&lab, "stat -c '%U %a' /etc /etc/passwd; cat /etc/passwd"), before);
    assert!(!plan(&lab, folders).contains("root:"), "nothing is read through it");
    sh(&lab, "runuser -u app -- sh -ec 'cd /srv/app; rm v1; mv old v1'");
    assert_eq!(lab.apply(folders).0, 0);

    // What follows paths by itself stays out of his folders.
    sh(
        &lab,
        "mkdir -p /srv/m /opt/roots; ln -s /srv/app/m /srv/to-app
        runuser -u app -- sh -ec 'mkdir -p /srv/app/m; ln -s /opt/roots /srv/app/out'",
    );
    for toml in [
        "[[mount]]\npath = \"/srv/app/out\"\nsource = \"tmpfs\"\nfstype = \"tmpfs\"\n",
        "[[mount]]\npath = \"/srv/m\"\nsource = \"/srv/to-app\"\nfstype = \"none\"\noptions = [\"bind\"]\n",
        "[[mount]]\npath = \"/srv/app/m/x\"\nsource = \"tmpfs\"\nfstype = \"tmpfs\"\n",
        "[[mount]]\npath = \"/srv/m\"\nsource = \"/srv/app/m\"\nfstype = \"none\"\noptions = [\"bind\"]\n",
    ] {
        let (_, report) = lab.apply(toml);
        assert!(failure(&report).contains("a folder that others than root may change"), "{report:#?}");
        let shown = plan(&lab, toml);
        assert!(shown.contains("it cannot be: ") && !shown.contains("mount tmpfs"), "{shown}");
    }
    assert_eq!(
        sh(&lab, "findmnt --list --noheadings --output TARGET | grep -c -e '^/srv' -e ^/opt || true").trim(),
        "0"
    );
    let (_, report) = lab.apply("[[swap]]\npath = \"/srv/app/swap\"\nsize = \"1Mi\"\n");
    assert!(failure(&report).contains("a folder that others than root may change"), "{report:#?}");

    // What a killed agent left goes, and what another program calls alike stays.
    sh(&lab, "touch /srv/l/.x.muster-99999999-1 /srv/l/.x.muster-y");
    twice(&lab, "[[file]]\npath = \"/srv/l/x\"\ncontent = \"x\"\n");
    assert_eq!(sh(&lab, "ls -A /srv/l").split_whitespace().collect::<Vec<_>>(), [".x.muster-y", "v1", "x"]);
}
