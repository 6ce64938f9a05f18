//! Packages on a real node: what apt and dpkg do, and what the site says, are one. dpkg, apt and systemd are asked themselves.

use std::time::Duration;

use muster_plan::{Outcome, Report, Row};

use crate::lab::Lab;

/// A node with these packages to be had, and no others.
fn node(packages: &str) -> Lab {
    let lab = Lab::start();
    lab.put("/root/make.sh", include_str!("packages/make.sh"));
    publish(&lab, packages);
    lab
}

fn publish(lab: &Lab, packages: &str) {
    lab.put("/root/packages.sh", &format!(". /root/make.sh\n{packages}\nindex\n"));
    lab.must(&["sh", "-e", "/root/packages.sh"]);
}

fn sh(lab: &Lab, script: &str) -> String {
    lab.must(&["sh", "-ec", script]).trim().to_owned()
}

/// Status and version as dpkg has them, as in `ii 1.0-1`; nothing where it knows nothing of it.
fn dpkg(lab: &Lab, name: &str) -> String {
    let (_, out, _) = lab.run(&["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", name]);
    if out.starts_with("un") { String::new() } else { out.trim().to_owned() }
}

fn held(lab: &Lab) -> String {
    sh(lab, "apt-mark showhold | xargs")
}

fn package(name: &str, more: &str) -> String {
    format!("[[package]]\nname = \"{name}\"\n{more}\n")
}

fn version(name: &str, version: &str, more: &str) -> String {
    package(name, &format!("version = \"{version}\"\n{more}"))
}

fn absent(name: &str) -> String {
    package(name, "absent = true")
}

fn step<'a>(report: &'a Report, name: &str) -> &'a muster_plan::StepReport {
    let step = report.steps.iter().find(|step| step.resource.name() == name);
    step.unwrap_or_else(|| panic!("{name}: {report:#?}"))
}

fn failed(report: &Report, name: &str) -> String {
    match &step(report, name).outcome {
        Outcome::Failed { error, help: Some(_), .. } => error.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn converges(lab: &Lab, toml: &str) -> Report {
    let (status, report) = lab.apply(toml);
    assert!(status == 2 && report.converged, "{status} {report:#?}");
    quiet(lab, toml);
    report
}

fn quiet(lab: &Lab, toml: &str) {
    let (status, report) = lab.apply(toml);
    assert_eq!((status, &report.steps), (0, &vec![]), "the same again changes nothing");
}

/// A plan, after which nothing on the node's disks is newer than before.
fn plan(lab: &Lab, toml: &str) -> Vec<Row> {
    lab.put("/root/apply.toml", toml);
    sh(lab, "touch /root/before; sleep 0.02");
    let (_, out, err) = lab.run(&["muster-agent", "plan", "/root/apply.toml", "--json"]);
    let rows = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"));
    let written =
        sh(lab, "find /etc /usr /var/lib/dpkg /var/lib/apt /var/cache/apt /root -newer /root/before ! -name before");
    assert_eq!(written, "", "a plan writes nothing");
    rows
}

fn detail(rows: &[Row], name: &str) -> String {
    let row = rows.iter().find(|row| row.resource.name() == name);
    row.unwrap_or_else(|| panic!("{name}: {rows:#?}")).detail.join("\n")
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn only_what_the_site_says_comes_changes_and_goes() {
    let lab = node(
        "pkg lib 1.0-1; pkg lib 2.0-1; pkg app 1.0-1 'Depends: lib\\n'; pkg new 1.0-1 'Depends: lib (>= 2.0)\\n'
         pkg chr 1.0-1 'Provides: clock\\nConflicts: clock\\n'; pkg tsd 1.0-1 'Provides: clock\\nConflicts: clock\\n'
         pkg other 1.0-1; pkg real 1.0-1 'Provides: virt\\n'; pkg mta-a 1 'Provides: mta\\n'; pkg mta-b 1 'Provides: mta\\n'
         pkg dotted-1 1; pkg dotted-2 1",
    );
    // All that a transaction brings is planned and reported.
    let app = package("app", "");
    let rows = plan(&lab, &app);
    assert_eq!(detail(&rows, "app"), "newest version\n+ lib 2.0-1 (comes with app)");
    let report = converges(&lab, &app);
    assert_eq!(step(&report, "app").detail, rows[0].detail);

    // A removal takes along only what is written.
    let lib = absent("lib");
    assert!(
        detail(&plan(&lab, &lib), "lib").contains("removing lib would also remove app, which is not written absent")
    );
    let (status, report) = lab.apply(&lib);
    assert_eq!(
        (status, failed(&report, "lib").as_str()),
        (4, "removing lib would also remove app, which is not written absent")
    );
    assert_eq!((dpkg(&lab, "lib"), dpkg(&lab, "app")), ("ii 2.0-1".into(), "ii 1.0-1".into()));
    converges(&lab, &format!("{lib}{}", absent("app")));
    assert_eq!((dpkg(&lab, "lib"), dpkg(&lab, "app")), (String::new(), String::new()));

    // Two that exclude each other: both are named, neither comes; the third does.
    let both = format!("{}{}{}", package("chr", ""), package("tsd", ""), package("other", ""));
    assert!(detail(&plan(&lab, &both), "chr").contains("chr and tsd cannot be had as written"));
    let (status, report) = lab.apply(&both);
    assert_eq!(status, 6, "{report:#?}");
    for name in ["chr", "tsd"] {
        let error = failed(&report, name);
        assert!(error.starts_with("chr and tsd cannot be had as written") && error.contains("Conflicts"), "{error}");
        assert_eq!(dpkg(&lab, name), "");
    }
    assert_eq!(dpkg(&lab, "other"), "ii 1.0-1");
    // One is there.
    converges(&lab, &package("tsd", ""));
    for _ in 0..2 {
        let (status, report) = lab.apply(&both);
        let error = failed(&report, "chr");
        assert_eq!((status, error.as_str()), (4, "installing chr would also remove tsd, which the site asks for"));
        assert_eq!((dpkg(&lab, "tsd"), dpkg(&lab, "chr")), ("ii 1.0-1".into(), String::new()));
    }
    let error = failed(&lab.apply(&package("chr", "")).1, "chr");
    assert_eq!(error, "installing chr would also remove tsd, which is not written absent");
    converges(&lab, &format!("{}{}", package("chr", ""), absent("tsd")));

    // A held package that nobody wrote is not changed.
    sh(&lab, "apt-get install --yes --quiet=2 lib=1.0-1 >/dev/null; apt-mark hold lib");
    let (_, report) = lab.apply(&package("new", ""));
    let error = failed(&report, "new");
    assert!(error.contains("new") && error.contains("lib"), "{error}");
    assert_eq!((dpkg(&lab, "lib"), dpkg(&lab, "new"), held(&lab)), ("hi 1.0-1".into(), String::new(), "lib".into()));
    converges(&lab, &format!("{}{}", package("new", ""), version("lib", "2.0-*", "")));
    assert_eq!((dpkg(&lab, "lib"), held(&lab)), ("hi 2.0-1".into(), "lib".into()));

    // A name that others provide, and one that is a pattern to apt.
    for (name, of) in [("virt", "real"), ("mta", "mta-a, mta-b"), ("virt", "real")] {
        let error = failed(&lab.apply(&package(name, "")).1, name);
        assert!(error.starts_with(&format!("{name} is no package of its own: {of}")), "{error}");
    }
    assert_eq!(dpkg(&lab, "real"), "");
    converges(&lab, &package("real", ""));
    assert!(
        failed(&lab.apply(&package("virt", "")).1, "virt").contains("real"),
        "a provider that is there is not it either"
    );
    assert_eq!(failed(&lab.apply(&package("dotted.1", "")).1, "dotted.1"), "there is no package dotted.1");
    assert_eq!(dpkg(&lab, "dotted-1"), "");

    assert_eq!(failed(&lab.apply(&package("other+", "")).1, "other+"), "there is no package other+");

    // What the node's own apt.conf says otherwise counts for nothing.
    let conffile = "d=/root/deb/conf; mkdir -p $d/DEBIAN $d/etc; echo x >$d/etc/conf.conf; echo /etc/conf.conf >$d/DEBIAN/conffiles
        printf 'Package: conf\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' >$d/DEBIAN/control; deb conf 1";
    publish(&lab, conffile);
    for option in ["AutomaticRemove", "Purge", "Download-Only", "Simulate", "Only-Upgrade", "Print-URIs"] {
        lab.put("/etc/apt/apt.conf.d/99their", &format!("APT::Get::{option} \"true\";\n"));
        sh(&lab, "apt-mark auto other");
        converges(&lab, &package("conf", ""));
        sh(&lab, "echo precious >/etc/conf.conf");
        converges(&lab, &absent("conf"));
        assert_eq!((sh(&lab, "cat /etc/conf.conf").as_str(), dpkg(&lab, "other").as_str()), ("precious", "ii 1.0-1"));
    }

    // Essential ones stay.
    let error = failed(&lab.apply(&absent("hostname")).1, "hostname");
    assert!(error.contains("hostname"), "{error}");
    lab.must(&["hostname"]);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn versions_holds_and_names_are_dpkgs_own() {
    let lab = node(
        "for v in 2.0~rc1-1 2.0-1 2.0.1-1; do pkg til $v; done; pkg ep 1:2.0-1; pkg ep 1:2.1-1; pkg slow 1.0-1
         ARCH=amd64; pkg nat 1.0-1; ARCH=i386; pkg foreign 1.0-1",
    );
    // A hold by hand stays where none is written, over a change of version too; a written one is set in the same converge.
    sh(&lab, "apt-get install --yes --quiet=2 til slow >/dev/null; apt-mark hold til slow");
    quiet(&lab, &package("slow", ""));
    for (pattern, whole) in [("2.0~rc1-1", "2.0~rc1-1"), ("2.0-*", "2.0-1"), ("2.0.1-*", "2.0.1-1")] {
        for hold in ["", "hold = true"] {
            let toml = version("til", pattern, hold);
            let toml =
                format!("{toml}[[file]]\npath = \"/srv/after\"\ncontent = \"{pattern}\"\nafter = [\"package.til\"]\n");
            if hold.is_empty() {
                converges(&lab, &toml)
            } else {
                lab.apply(&toml).1
            };
            assert_eq!((dpkg(&lab, "til"), held(&lab)), (format!("hi {whole}"), "slow til".into()));
        }
    }
    sh(&lab, "apt-mark unhold til");
    let report = converges(&lab, &version("til", "2.0-1", "hold = true"));
    assert_eq!(step(&report, "til").detail, ["version 2.0.1-1 → 2.0-1", "hold"]);
    assert_eq!(dpkg(&lab, "til"), "hi 2.0-1");
    let rows = plan(&lab, &version("til", "2.0~rc1-*", "hold = true"));
    assert_eq!(detail(&rows, "til"), "version 2.0-1 → 2.0~rc1-*");
    converges(&lab, &package("til", "hold = false"));
    assert_eq!(held(&lab), "slow");
    converges(&lab, &absent("slow"));
    assert_eq!(held(&lab), "");

    // Whoever holds dpkg's lock is waited for, for a hold alone too.
    sh(&lab, "apt-get install --yes --quiet=2 slow >/dev/null");
    lab.put(
        "/root/lock.pl",
        "use Fcntl; open(my $f, '+<', '/var/lib/dpkg/lock-frontend') or die; my $l = pack('s s l! l! i', F_WRLCK, 0, 0, 0, 0); \
         fcntl($f, F_SETLK, $l) or die; open(my $r, '>', '/run/locked'); close $r; sleep 4;",
    );
    sh(&lab, "setsid perl /root/lock.pl >/dev/null 2>&1 & until [ -e /run/locked ]; do sleep 0.05; done");
    converges(&lab, &package("slow", "hold = true"));
    assert_eq!(held(&lab), "slow");

    // An epoch is part of the version.
    let error = failed(&lab.apply(&version("ep", "2.0-*", "")).1, "ep");
    assert_eq!(error, "there is no package ep of version 2.0-*: there are 1:2.1-1, 1:2.0-1");
    converges(&lab, &version("ep", "1:2.0-*", ""));
    assert_eq!(dpkg(&lab, "ep"), "ii 1:2.0-1");

    // Names with an architecture.
    quiet(&lab, &format!("{}{}", package("dpkg:amd64", ""), package("bash", "")));
    converges(&lab, &package("nat:amd64", ""));
    quiet(&lab, &package("nat", ""));
    // By two names it is still one.
    lab.put("/root/two.toml", &(absent("nat") + &package("nat:amd64", "")));
    let (status, _, said) = lab.run(&["muster-agent", "apply", "/root/two.toml"]);
    assert!(status == 1 && said.contains("two resources own package nat:amd64, which is nat"), "{said}");
    let (_, report) = lab.apply(&(package("nat", "") + &absent("nat:native")));
    assert!(report.steps.iter().all(|step| failed(&report, step.resource.name()).contains("are one package here")));
    assert_eq!((report.steps.len(), dpkg(&lab, "nat").as_str()), (1, "ii 1.0-1"));
    converges(&lab, &absent("nat:amd64"));
    assert_eq!(dpkg(&lab, "nat"), "");
    let error = failed(&lab.apply(&package("foreign:i386", "")).1, "foreign:i386");
    assert!(error.contains("does not match system"), "{error}");
    sh(&lab, "dpkg --add-architecture i386; apt-get update --quiet=2");
    let error = failed(&lab.apply(&package("foreign", "")).1, "foreign");
    assert!(error.contains("foreign:i386"), "{error}");
    converges(&lab, &package("foreign:i386", ""));
    assert_eq!(dpkg(&lab, "foreign:i386"), "ii 1.0-1");
    converges(&lab, &absent("foreign:i386"));

    // The newest that the indexes have.
    sh(&lab, "rm -f /var/lib/muster-agent/indexes-read");
    let latest = version("til", "latest", "");
    converges(&lab, &latest);
    assert_eq!(dpkg(&lab, "til"), "ii 2.0.1-1");
    publish(&lab, "pkg til 3.0-1");
    assert_eq!(detail(&plan(&lab, &latest), "til"), "version 2.0.1-1 → 3.0-1");
    converges(&lab, &latest);
    assert_eq!(dpkg(&lab, "til"), "ii 3.0-1");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn what_one_package_did_is_told_of_it_alone_and_can_be_mended() {
    let lab = node(
        "pkg bad 1.0-1 '' 'echo the database is away >&2; exit 1'; pkg good 1.0-1; pkg late 1.0-1; pkg needs 1.0-1 'Depends: bad\\n'",
    );
    let all = format!("{}{}", package("bad", ""), package("good", ""));
    for _ in 0..2 {
        let (_, report) = lab.apply(&all);
        let error = failed(&report, "bad");
        assert!(error.contains("post-installation script") && error.contains("the database is away"), "{error}");
        assert_eq!((dpkg(&lab, "bad"), dpkg(&lab, "good")), ("iF 1.0-1".into(), "ii 1.0-1".into()));
        assert!(report.steps.iter().all(|step| step.resource.name() != "good" || step.outcome == Outcome::Done));
    }
    // It keeps no other from being installed.
    let (_, report) = lab.apply(&format!("{all}{}", package("late", "")));
    assert_eq!((&step(&report, "late").outcome, dpkg(&lab, "late").as_str()), (&Outcome::Done, "ii 1.0-1"));
    let (_, report) = lab.apply(&package("needs", ""));
    let error = failed(&report, "needs");
    assert!(error.contains("needs: dependency problems") && error.contains("bad: installed bad"), "{error}");
    converges(&lab, &absent("needs"));

    // Nor does one whose script ends dpkg itself.
    publish(&lab, "pkg kills 1.0-1 '' 'kill -9 $PPID'; pkg later 1.0-1; pkg lost 1.0-1; pkg wont 1.0-1
        printf '#!/bin/sh\\nexit 9\\n' >/root/deb/wont/DEBIAN/prerm; chmod 755 /root/deb/wont/DEBIAN/prerm; deb wont 1.0-1");
    for _ in 0..2 {
        let (_, report) = lab.apply(&format!("{}{}", package("kills", ""), package("later", "")));
        failed(&report, "kills");
    }
    assert_eq!(dpkg(&lab, "later"), "ii 1.0-1");
    publish(&lab, "pkg kills 2.0-1");
    converges(&lab, &version("kills", "2.0-*", ""));
    // A script that keeps it from going is told.
    converges(&lab, &format!("{}{}", package("wont", ""), package("lost", "")));
    let (_, report) = lab.apply(&absent("wont"));
    let (error, help) = crate::lab::failed(&report, "package.wont");
    assert!(error.contains("status 9") && help.contains("/var/lib/dpkg/info"), "{error} {help}");
    sh(&lab, "rm /var/lib/dpkg/info/wont.prerm");
    converges(&lab, &absent("wont"));
    // One that was cut off while it was unpacked, and that no source has any more.
    sh(
        &lab,
        "sed -i '/^Package: lost$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/' /var/lib/dpkg/status
         rm /srv/repo/lost_*; . /root/make.sh; index",
    );
    let (_, report) = lab.apply(&package("late", ""));
    assert!(report.converged, "{report:#?}");
    let (_, report) = lab.apply(&package("nosuch", ""));
    let (error, help) = crate::lab::failed(&report, "package.nosuch");
    assert!(error.starts_with("lost is half unpacked") && help.contains("--force-remove-reinstreq lost"), "{error}");
    sh(&lab, "dpkg --remove --force-remove-reinstreq lost");
    // A repository that says another name of itself.
    let release = |codename: &str| {
        let script = "cd /srv/repo; printf 'Suite: s\\nCodename: %s\\nDate: %s\\nSHA256:\\n %s %s Packages\\n'";
        let values = "\"$(date -Ru)\" $(sha256sum Packages | cut -d' ' -f1) $(stat -c %s Packages) >Release";
        sh(&lab, &format!("{script} {codename} {values}"));
    };
    release("one");
    sh(&lab, "apt-get update --quiet=2");
    release("two");
    let (_, report) = lab.apply(&package("nosuch", ""));
    let error = failed(&report, "nosuch");
    assert!(error.contains("there is no package nosuch") && error.contains("changed its 'Codename'"), "{error}");
    sh(&lab, "rm /srv/repo/Release; rm -rf /var/lib/apt/lists/*; apt-get update --quiet=2");

    // A newer version mends it, and so does taking it away.
    publish(&lab, "pkg bad 2.0-1");
    converges(&lab, &version("bad", "2.0-*", ""));
    assert_eq!(dpkg(&lab, "bad"), "ii 2.0-1");
    let (_, report) = lab.apply(&version("bad", "1.0-*", ""));
    failed(&report, "bad");
    assert_eq!(dpkg(&lab, "bad"), "iF 1.0-1");
    converges(&lab, &format!("{}{}", absent("bad"), package("good", "")));
    assert_eq!(dpkg(&lab, "bad"), "");
    assert_eq!(lab.must(&["dpkg", "--audit"]), "");
}

fn active(lab: &Lab, unit: &str) -> String {
    lab.run(&["systemctl", "is-active", unit]).1.trim().to_owned()
}

fn runs(lab: &Lab, name: &str) -> String {
    assert_eq!(active(lab, name), "active");
    lab.wait("it says its version", Duration::from_secs(20), || {
        let main = lab.must(&["systemctl", "show", "--property", "MainPID", "--value", name]);
        lab.run(&["grep", "-q", "sleep", &format!("/proc/{}/cmdline", main.trim())]).0 == 0
    });
    sh(lab, &format!("cat /run/{name}.version"))
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn services_stop_with_their_package_and_are_started_anew_after_an_upgrade() {
    let lab = node("for v in 1.0-1 2.0-1; do daemon svc $v; daemon stopper $v stops; daemon wild $v; done");
    assert_ne!(lab.run(&["test", "-e", "/usr/sbin/policy-rc.d"]).0, 0, "no policy of somebody else's");
    let service = |name: &str| format!("[[service]]\nname = \"{name}\"\n");
    let all = |wanted: &str| {
        let packages: String = ["svc", "stopper", "wild"].iter().map(|name| version(name, wanted, "")).collect();
        format!("{packages}{}{}", service("svc"), service("stopper"))
    };
    converges(&lab, &all("1.0-*"));
    assert_ne!(active(&lab, "wild"), "active", "a package starts nothing by itself");
    sh(&lab, "systemctl start wild");
    for name in ["svc", "stopper", "wild"] {
        assert_eq!(runs(&lab, name), "1.0-1");
    }
    // Planned, done, and by nobody twice.
    let rows = plan(&lab, &all("2.0-*"));
    assert!(
        rows.iter().any(|row| row.resource.to_string() == "service.svc" && row.detail[0].starts_with("restart")),
        "{rows:#?}"
    );
    let report = converges(&lab, &all("2.0-*"));
    for name in ["svc", "stopper", "wild"] {
        assert_eq!(runs(&lab, name), "2.0-1");
    }
    assert!(report.drift.is_empty(), "{:?}", report.drift);
    let restarts = report.steps.iter().filter(|step| step.resource.kind() == "service");
    assert_eq!(
        restarts.map(|step| step.detail.join("")).filter(|line| line.starts_with("restart")).count(),
        2,
        "{report:#?}"
    );
    assert!(
        report.steps.iter().any(|step| step.notes.iter().any(|note| note.contains("restarted wild.service"))),
        "{report:#?}"
    );

    // The agent is killed between the upgrade and the restart; apt goes on. The restart is owed all the same.
    sh(&lab, "touch /run/kill-the-agent");
    lab.put("/root/apply.toml", &all("1.0-*"));
    lab.run(&["muster-agent", "apply", "/root/apply.toml", "--json"]);
    lab.wait("apt ends", Duration::from_secs(60), || lab.run(&["pidof", "apt-get", "dpkg"]).0 != 0);
    assert_eq!(sh(&lab, "ls /run/kill-the-agent 2>/dev/null || true"), "", "it was killed");
    let (_, report) = lab.apply(&all("1.0-*"));
    assert!(report.converged, "{report:#?}");
    for name in ["svc", "stopper", "wild"] {
        assert_eq!(runs(&lab, name), "1.0-1");
    }
    quiet(&lab, &all("1.0-*"));
    assert_ne!(lab.run(&["test", "-e", "/usr/sbin/policy-rc.d"]).0, 0, "packages may start services again");

    // Somebody else restarted it after an upgrade by apt under our policy: nothing is owed.
    let gone = format!(
        "{}{}{}[[service]]\nname = \"svc\"\nrunning = false\nenabled = false\n",
        absent("svc"),
        absent("wild"),
        absent("stopper")
    );
    converges(&lab, &gone);
    for name in ["svc", "stopper", "wild"] {
        assert_ne!(active(&lab, name), "active");
        assert_eq!(lab.run(&["pidof", "-x", &format!("/usr/sbin/{name}")]).0, 1);
    }
    assert_eq!(lab.run(&["pidof", "sleep"]).0, 1, "no process is left of them");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn an_agent_that_is_killed_anywhere_in_a_transaction_ends_it_the_next_time() {
    // The package's scripts kill what a word in a file says, once, at the point that it says.
    let kill = "if [ \"$(cat /run/kill 2>/dev/null)\" = \"POINT\" ]; then rm /run/kill; kill -9 $(pidof $(cat /run/who)); sleep 0.2; fi";
    let at = |point: &str| kill.replace("POINT", point);
    let scripts = |version: &str| {
        format!(
            "pkg til {version} '' '{postinst}'
             printf '#!/bin/sh\\n%s\\n' '{preinst}' >/root/deb/til/DEBIAN/preinst
             printf '#!/bin/sh\\n%s\\n' '{prerm}' >/root/deb/til/DEBIAN/prerm
             chmod 755 /root/deb/til/DEBIAN/p*; deb til {version}",
            postinst = at("postinst"),
            preinst = at("preinst"),
            prerm = at("prerm")
        )
    };
    let lab = node(&format!("{}\n{}", scripts("1.0-1"), scripts("2.0-1")));
    let mut hooks = String::new();
    for hook in ["Pre-Invoke", "Post-Invoke"] {
        let point = hook.to_lowercase();
        lab.put(&format!("/root/{point}.sh"), &at(&point));
        hooks.push_str(&format!("DPkg::{hook} {{ \"sh /root/{point}.sh\"; }};\n"));
    }
    lab.put("/etc/apt/apt.conf.d/99kill", &hooks);
    lab.must(&["apt-get", "check"]);
    let mut wanted = "2.0-1";
    for who in ["muster-agent", "muster-agent apt-get", "muster-agent apt-get dpkg"] {
        for point in ["pre-invoke", "preinst", "prerm", "postinst", "post-invoke"] {
            // From the other version, held by hand.
            let other = if wanted == "2.0-1" { "1.0-1" } else { "2.0-1" };
            sh(
                &lab,
                &format!(
                    "apt-get install --yes --quiet=2 --allow-downgrades --allow-change-held-packages til={other} >/dev/null; apt-mark hold til"
                ),
            );
            let toml = version("til", wanted, "");
            lab.put("/root/apply.toml", &toml);
            sh(&lab, &format!("echo {point} >/run/kill; echo {who} >/run/who"));
            let (status, _, _) = lab.run(&["muster-agent", "apply", "/root/apply.toml", "--json"]);
            assert_eq!(status, 137, "{who} at {point} was killed");
            lab.wait("apt ends", Duration::from_secs(60), || lab.run(&["pidof", "apt-get", "dpkg"]).0 != 0);
            assert_ne!(lab.run(&["test", "-e", "/run/kill"]).0, 0, "{point} was reached");
            let (_, report) = lab.apply(&toml);
            assert!(report.converged, "{who} at {point}: {report:#?}");
            assert_eq!((dpkg(&lab, "til"), held(&lab)), (format!("hi {wanted}"), "til".into()), "{who} at {point}");
            assert_eq!(lab.must(&["dpkg", "--audit"]), "");
            quiet(&lab, &toml);
            let left = sh(&lab, "ls /usr/sbin/policy-rc.d /var/lib/muster-agent/holds 2>/dev/null || true");
            assert_eq!(left, "", "{who} at {point}");
            wanted = other;
        }
    }
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn sources_that_do_not_go_together_are_said() {
    let lab = Lab::start();
    // By hand, with another key.
    let by_hand = format!("deb [signed-by=/root/key.asc] http://{}/debian muster main\\n", lab.server_address);
    sh(&lab, &format!("printf '{by_hand}' >/etc/apt/sources.list.d/hand.list"));
    let toml = format!("{}{}", lab.source(), package("tree", ""));
    let (_, report) = lab.apply(&toml);
    let error = failed(&report, "tree");
    assert!(error.starts_with("apt cannot read its sources") && error.contains("/root/key.asc"), "{error}");
    sh(&lab, "rm /etc/apt/sources.list.d/hand.list");
    converges(&lab, &toml);
}
