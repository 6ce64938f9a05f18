//! Users, groups and keys on a real node, as getent, id and stat have them.

use crate::lab::{Lab, failed};

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn accounts_are_as_written_and_what_is_not_written_is_left_alone() {
    let lab = Lab::start();
    memberships(&lab);
    a_removed_user_and_its_group(&lab);
    what_is_in_the_way_is_said(&lab);
    homes_and_numbers(&lab);
    a_directory_service(&lab);
    many_at_once(&lab);
    keys(&lab);
}

fn user(name: &str, more: &str) -> String {
    format!("[[user]]\nname = \"{name}\"\n{more}\n")
}

fn group(name: &str, more: &str) -> String {
    format!("[[group]]\nname = \"{name}\"\n{more}\n")
}

fn groups(lab: &Lab, user: &str) -> Vec<String> {
    let mut all: Vec<String> = lab.must(&["id", "-nG", user]).split_whitespace().map(str::to_owned).collect();
    all.sort();
    all
}

fn known(lab: &Lab, database: &str, name: &str) -> bool {
    lab.run(&["getent", database, name]).0 == 0
}

fn memberships(lab: &Lab) {
    lab.must(&["useradd", "-m", "-G", "adm,dialout", "ops"]);
    lab.applied(&user("ops", "shell = \"/bin/bash\""));
    assert_eq!(groups(lab, "ops"), ["adm", "dialout", "ops"]);
    lab.applied(&user("ops", r#"groups = ["adm", "ops"]"#));
    assert_eq!(groups(lab, "ops"), ["adm", "ops"]);
    lab.applied(&user("ops", "groups = []"));
    assert_eq!(groups(lab, "ops"), ["ops"]);
    // The primary group among the further ones; and a group of the user's own name that a resource makes.
    let app = user("app", "system = true\ngroup = \"appg\"\ngroups = [\"appg\", \"adm\"]");
    lab.applied(&[group("appg", ""), app, user("own", ""), group("own", "gid = 4711")].concat());
    assert_eq!(groups(lab, "app"), ["adm", "appg"]);
    assert_eq!(lab.must(&["id", "-g", "own"]).trim(), "4711");
}

fn a_removed_user_and_its_group(lab: &Lab) {
    // The group is wanted: it stays with its number, and so does what is in the home.
    lab.must(&[
        "sh",
        "-ec",
        "groupadd --gid 890 u89; useradd -m -g u89 u89; echo x > /home/u89/kept; chgrp u89 /home/u89/kept",
    ]);
    let before = lab.must(&["stat", "--format", "%u %g %a", "/home/u89/kept", "/home/u89"]);
    lab.applied(&[group("u89", ""), user("u89", "absent = true")].concat());
    assert_eq!(lab.must(&["getent", "group", "u89"]).trim(), "u89:x:890:");
    assert!(!known(lab, "passwd", "u89"));
    assert_eq!(lab.must(&["stat", "--format", "%u %g %a", "/home/u89/kept", "/home/u89"]), before);
    // Nobody wants it: it goes with the user, as it came.
    lab.applied(&user("guest", ""));
    let report = lab.applied(&user("guest", "absent = true"));
    assert_eq!(report.steps[0].detail[0], "with its group guest");
    assert!(!known(lab, "group", "guest"));
    lab.must(&["test", "-d", "/home/guest"]);
    // Both are to go.
    for primary in ["group = \"both\"\n", ""] {
        lab.must(&["sh", "-ec", "groupadd both; useradd -g both both"]);
        lab.applied(&[group("both", "absent = true"), user("both", &format!("{primary}absent = true"))].concat());
        assert!(!known(lab, "group", "both") && !known(lab, "passwd", "both"));
    }
    // And a group whose name nothing tells: the user's that goes, and the one that its user leaves for another.
    lab.must(&["sh", "-ec", "groupadd team; useradd -g team gone; groupadd left; useradd -g left moves"]);
    let site = [
        group("team", "absent = true"),
        group("left", "absent = true"),
        group("next", ""),
        user("gone", "absent = true"),
        user("moves", "group = \"next\""),
    ];
    lab.applied(&site.concat());
    assert!(!known(lab, "group", "team") && !known(lab, "group", "left") && !known(lab, "passwd", "gone"));
    assert_eq!(groups(lab, "moves"), ["next"]);
    // Others are in it.
    lab.must(&["sh", "-ec", "useradd shared; usermod -aG shared ops"]);
    lab.applied(&user("shared", "absent = true"));
    assert_eq!(groups(lab, "ops"), ["ops", "shared"]);
}

fn what_is_in_the_way_is_said(lab: &Lab) {
    lab.must(&["useradd", "busy"]);
    lab.must(&["systemd-run", "--unit=busy", "--uid=busy", "sleep", "100000"]);
    let gone = user("busy", "absent = true");
    lab.put("/root/busy.toml", &gone);
    let (_, plan, _) = lab.run(&["muster-agent", "plan", "/root/busy.toml"]);
    assert!(plan.contains("not while these run as it") && plan.contains("(sleep)"), "{plan}");
    for toml in [&gone, &user("busy", "uid = 4321")] {
        let (status, report) = lab.apply(toml);
        let (error, help) = failed(&report, "user.busy");
        assert!(status == 4 && error.contains("run as the user busy") && error.contains("(sleep)"), "{error}");
        assert!(help.contains("running = false"), "{help}");
    }
    // A lock of another program, and a number of another account.
    lab.must(&["sh", "-ec", "echo -n 1 > /etc/passwd.lock"]);
    let (_, report) = lab.apply(&user("locked", ""));
    assert!(failed(&report, "user.locked").1.contains("the next run tries again"), "{report:#?}");
    lab.must(&["rm", "/etc/passwd.lock"]);
    let (_, report) = lab.apply(&[user("second", "uid = 1"), group("third", "gid = 1")].concat());
    for id in ["user.second", "group.third"] {
        assert!(failed(&report, id).1.contains("another account has this number"), "{report:#?}");
    }
    // Lines as the C library takes them.
    let odd = "cp -p /etc/passwd /root/passwd; printf '#x\\n+::::::\\n blank:x: 4077:4::/nonexistent:/bin/sh\\nnoshell:x:4078:4::/nonexistent\\n' >> /etc/passwd";
    lab.must(&["sh", "-ec", odd]);
    assert!(known(lab, "passwd", "blank") && known(lab, "passwd", "noshell"));
    assert_eq!(lab.apply(&[user("blank", "uid = 4077"), user("noshell", "uid = 4078")].concat()).0, 0);
    lab.must(&["mv", "/root/passwd", "/etc/passwd"]);
    lab.must(&["systemctl", "stop", "busy"]);
    lab.applied(&gone);
    let (_, report) = lab.apply(&group("ops", "absent = true"));
    assert!(failed(&report, "group.ops").0.contains("primary group"), "{report:#?}");
}

fn homes_and_numbers(lab: &Lab) {
    let make =
        "useradd -m -u 1500 move; touch /home/move/mine /srv/elsewhere; chown move /home/move/mine /srv/elsewhere";
    lab.must(&["sh", "-ec", make]);
    let report = lab.applied(&user("move", "uid = 1501"));
    let said = "uid 1500 → 1501; files in its home /home/move follow, others keep number 1500";
    assert_eq!(report.steps[0].detail, [said]);
    assert_eq!(lab.must(&["stat", "--format", "%u", "/home/move/mine", "/srv/elsewhere"]), "1501\n1500\n");
    let report = lab.applied(&user("move", "home = \"/srv/move\""));
    assert!(report.steps[0].detail[0].contains("nothing is moved"), "{report:#?}");
    lab.must(&["test", "-e", "/home/move/mine"]);
    assert!(lab.must(&["getent", "passwd", "move"]).contains(":/srv/move:"));
}

/// Names that getent has and `/etc/passwd` does not. The node has no directory service: a getent before the real one answers.
fn a_directory_service(lab: &Lab) {
    let getent = "#!/bin/sh
case \"$*\" in
    'passwd ldap') echo 'ldap:*:70001:4:L:/home/ldap:/bin/sh' ;;
    'group staffers') echo 'staffers:*:70002:' ;;
    *) exec /usr/bin/getent \"$@\" ;;
esac
";
    lab.put("/usr/local/bin/getent", getent);
    lab.must(&[
        "sh",
        "-ec",
        "chmod 755 /usr/local/bin/getent; sed -i -E 's/^(passwd|group):.*/& sss/' /etc/nsswitch.conf",
    ]);
    let right = [user("ldap", "uid = 70001\nshell = \"/bin/sh\"\ngroup = \"adm\""), group("staffers", "")].concat();
    assert_eq!(lab.apply(&right).0, 0);
    for wrong in [user("ldap", "shell = \"/bin/bash\""), user("ldap", "absent = true"), group("staffers", "gid = 7")] {
        let (status, report) = lab.apply(&wrong);
        let (error, help) = failed(&report, &report.steps[0].resource.to_string());
        assert!(status == 4 && error.contains("directory service") && help.contains("change it there"), "{error}");
    }
    // They own files as others do.
    lab.applied("[[file]]\npath = \"/srv/ldap/f\"\ncontent = \"x\"\nowner = \"ldap\"\ngroup = \"staffers\"\n\n[[directory]]\npath = \"/srv/ldap\"\nowner = \"ldap\"\n");
    assert_eq!(lab.must(&["stat", "--format", "%u %g", "/srv/ldap/f", "/srv/ldap"]), "70001 70002\n70001 0\n");
    lab.must(&["sh", "-ec", "rm /usr/local/bin/getent; sed -i 's/ sss//' /etc/nsswitch.conf"]);
}

/// Each program locks the same files.
fn many_at_once(lab: &Lab) {
    let crowd = |more: &str| (0..30).map(|n| user(&format!("crowd{n}"), more)).collect::<String>();
    lab.applied(&crowd("system = true"));
    let there = lab.must(&["getent", "passwd"]).lines().filter(|line| line.starts_with("crowd")).count();
    assert_eq!(there, 30);
    lab.applied(&crowd("absent = true"));
}

fn keys(lab: &Lab) {
    // As many keys as numbers of two digits.
    let blob = |n: u8| format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB2BsxJwBSLcAYgAbmV1Nej5mm6qEZpVGLZhSdyGdg{n:02}");
    let key = |n: u8, more: &str| {
        let blob = blob(n);
        format!("[[authorized_key]]\nname = \"k{n}\"\nuser = \"deploy\"\nkey = \"{blob} k{n}\"\n{more}\n")
    };
    let file = "/home/deploy/.ssh/authorized_keys";
    // The user and its keys at once.
    let all: String = (10..20).map(|n| key(n, "")).collect();
    lab.applied(&format!("{}{all}", user("deploy", "")));
    assert_eq!(lab.must(&["cat", file]).lines().count(), 10, "two keys of one converge lose nothing");
    let whose = lab.must(&["stat", "--format", "%U %G %a", "/home/deploy/.ssh", file]);
    assert_eq!(whose, "deploy deploy 700\ndeploy deploy 600\n");
    // What others wrote stays to the byte; every line with our key is ours.
    let others = format!("# team\nfrom=\"a b\" {} bob\n\nbroken", blob(50));
    lab.put(file, &format!("{} open\n{others}\n{} open again\n", blob(10), blob(10)));
    lab.must(&["chown", "deploy:deploy", file]);
    lab.applied(&key(10, r#"options = ['from="10.0.0.0/8"', "no-pty"]"#));
    assert_eq!(lab.must(&["cat", file]), format!("from=\"10.0.0.0/8\",no-pty {} k10\n{others}\n", blob(10)));
    lab.applied(&key(10, "absent = true"));
    assert_eq!(lab.must(&["cat", file]), format!("{others}\n"));
    // A link of the user's leads nowhere.
    lab.must(&["sh", "-ec", "cd /home/deploy/.ssh; mv authorized_keys aside; ln -s /etc/shadow authorized_keys"]);
    let shadow = lab.must(&["sha256sum", "/etc/shadow"]);
    let (status, report) = lab.apply(&key(10, ""));
    let (error, help) = failed(&report, "authorized_key.k10");
    assert!(status == 4 && error.contains("link") && !help.is_empty(), "{error}; {help}");
    lab.must(&["sh", "-ec", "cd /home/deploy; mv .ssh plain; mkdir /srv/keys; ln -s /srv/keys .ssh"]);
    assert_eq!(lab.apply(&key(10, "")).0, 4);
    assert_eq!(lab.must(&["ls", "-A", "/srv/keys"]), "");
    assert_eq!(lab.must(&["sha256sum", "/etc/shadow"]), shadow);
    let (_, report) = lab.apply(&key(10, "").replace("deploy", "nosuchuser"));
    assert!(failed(&report, "authorized_key.k10").0.contains("there is no user"), "{report:#?}");
    // Root's own link, as of distributions that keep root's keys elsewhere, leads where it leads.
    lab.must(&["sh", "-ec", "install -d -m 700 /root/.ssh; mkdir /etc/keys; echo '# cluster' > /etc/keys/root; ln -s /etc/keys/root /root/.ssh/authorized_keys"]);
    lab.applied(&key(10, "").replace("deploy", "root"));
    assert_eq!(lab.must(&["head", "-1", "/etc/keys/root"]), "# cluster\n");
    assert_eq!(
        lab.must(&["sh", "-ec", "wc -l < /etc/keys/root; readlink /root/.ssh/authorized_keys"]),
        "2\n/etc/keys/root\n"
    );
}
