//! What goes wrong on a node is said clearly, costs nothing, and the next run goes on.

use muster_ids::ResourceId;
use muster_plan::{Outcome, Report};

use crate::lab::Lab;

fn failed(report: &Report, resource: &str) -> (String, String, bool) {
    let resource: ResourceId = resource.parse().unwrap();
    let step = report.steps.iter().find(|step| step.resource == resource);
    let Some(Outcome::Failed { error, help, retry }) = step.map(|step| &step.outcome) else { panic!("{report:#?}") };
    (error.clone(), help.clone().unwrap_or_default(), *retry)
}

fn package(name: &str) -> String {
    format!("[[package]]\nname = \"{name}\"\n")
}

/// The same with a key that the repository is not signed by.
fn forged(toml: &str) -> String {
    let (start, rest) = toml.split_once("-----BEGIN PGP").unwrap();
    let (_, end) = rest.split_once("-----END PGP PUBLIC KEY BLOCK-----\n").unwrap();
    format!("{start}{}{end}", include_str!("other-key.asc"))
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn what_apt_refuses_is_said_in_words_that_lead_on() {
    let lab = Lab::start();
    // Before there is any source.
    let (status, report) = lab.apply(&package("runc"));
    let (error, help, _) = failed(&report, "package.runc");
    assert_eq!((status, error.as_str()), (4, "there is no package runc"));
    assert!(help.contains("apt_source"), "{help}");

    // The repository does not answer; then it does.
    lab.stop_server();
    let toml = format!("{}{}", lab.source(), package("runc"));
    let (_, report) = lab.apply(&toml);
    let (error, help, retry) = failed(&report, "apt_source.muster");
    assert!(error.starts_with("the package repository does not answer") && retry, "{error}");
    assert!(help.contains("reach"), "{help}");
    let blocked =
        report.steps.iter().any(|step| matches!(&step.outcome, Outcome::Blocked { by } if by.kind() == "apt_source"));
    assert!(blocked, "{report:#?}");
    lab.start_server();

    // Signed by another key than the one that is given.
    let (_, report) = lab.apply(&forged(&toml));
    let (error, help, _) = failed(&report, "apt_source.muster");
    assert!(error.contains("is not signed by the key"), "{error}");
    assert!(help.contains("nothing was installed"), "{help}");

    // A package and a version that nobody has; the others go in.
    let toml = format!(
        "{}{}{}[[package]]\nname = \"kubectl\"\nversion = \"9.9-*\"\n",
        lab.source(),
        package("runc"),
        package("muster-no-such-package")
    );
    let (status, report) = lab.apply(&toml);
    assert_eq!(status, 6);
    assert_eq!(failed(&report, "package.muster-no-such-package").0, "there is no package muster-no-such-package");
    let (error, help, _) = failed(&report, "package.kubectl");
    assert!(error.starts_with("there is no package kubectl of version 9.9-*: there are 1."), "{error}");
    assert!(help.contains("epoch"), "{help}");
    lab.must(&["runc", "--version"]);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_source_that_was_read_once_is_refused_under_another_key_until_it_is_put_right() {
    let lab = Lab::start();
    let (_, report) = lab.apply(&lab.source());
    assert!(report.converged, "{report:#?}");
    let toml = format!("{}{}", lab.source(), package("tree"));
    for _ in 0..2 {
        let (status, report) = lab.apply(&forged(&toml));
        assert_eq!(status, 4, "{report:#?}");
        assert!(failed(&report, "apt_source.muster").0.contains("is not signed by the key"), "{report:#?}");
        assert_ne!(lab.run(&["dpkg", "--status", "tree"]).0, 0, "nothing comes from it");
    }
    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");
    assert_eq!(lab.apply(&toml).0, 0);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn what_is_not_as_it_was_signed_is_not_installed_and_the_next_run_goes_on() {
    let lab = Lab::start();
    lab.at_server(
        "mkdir -p /srv/broken/pool /srv/aside; cp -r /srv/debian/dists /srv/broken; ln -s /srv/debian/pool/* /srv/broken/pool
         mv /srv/broken/dists/muster/InRelease /srv/broken/dists/muster/Release.gpg /srv/aside",
    );
    let source = lab.source().replace("/debian\"", "/broken\"");
    let toml = format!("{source}{}{}", package("runc"), package("tree"));
    let place = format!("http://{}/broken", lab.server_address);
    let (status, report) = lab.apply(&toml);
    let (error, help, _) = failed(&report, "apt_source.muster");
    assert_eq!((status, error), (4, format!("the repository {place} muster Release has no signature")));
    assert!(help.contains("nothing was installed") && help.contains("signed"), "{help}");

    // Signed again; and one package is not the one that was signed for. The other goes in.
    lab.at_server(
        "mv /srv/aside/* /srv/broken/dists/muster; cd /srv/broken/pool; deb=$(ls runc_*.deb)
         rm $deb; cp /srv/debian/pool/$deb $deb; chmod u+w $deb; printf tampered | dd of=$deb bs=1 seek=1000 conv=notrunc 2>/dev/null",
    );
    let (status, report) = lab.apply(&toml);
    let (error, help, retry) = failed(&report, "package.runc");
    assert!(error.starts_with(&format!("what {place}/pool/runc_")), "{error}");
    assert!(error.ends_with("is not what its repository signed") && retry, "{error}");
    assert!(help.contains("nothing was installed"), "{help}");
    assert_eq!(status, 6, "{report:#?}");
    lab.must(&["tree", "--version"]);
    assert_ne!(lab.run(&["dpkg", "--status", "runc"]).0, 0);

    lab.at_server("cp /srv/debian/pool/runc_*.deb /srv/broken/pool");
    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");
    lab.must(&["runc", "--version"]);

    // Each source has a key of its own: what one is signed by says nothing for another.
    let second = forged(&source.replace("name = \"muster\"", "name = \"second\""));
    for _ in 0..2 {
        let (_, report) = lab.apply(&format!("{}{second}", lab.source()));
        assert!(failed(&report, "apt_source.second").0.contains("is not signed by the key"), "{report:#?}");
        assert!(report.steps.iter().all(|step| step.resource.name() != "muster" || step.outcome == Outcome::Done));
    }
    let keys = lab.must(&["grep", "-c", "BEGIN PGP", "/etc/apt/keyrings/muster.asc", "/etc/apt/keyrings/second.asc"]);
    assert!(keys.lines().count() == 2 && keys.lines().all(|line| line.ends_with(":1")), "{keys}");
    lab.must(&["sh", "-c", "! cmp -s /etc/apt/keyrings/muster.asc /etc/apt/keyrings/second.asc"]);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_full_disk_is_said_and_the_next_run_goes_on() {
    let lab = Lab::start();
    // A folder with room for nothing, where files go and where apt keeps what it fetched.
    lab.must(&["sh", "-c", "mkdir -p /srv/small && mount -t tmpfs -o size=64k tmpfs /srv/small && mount -t tmpfs -o size=1m tmpfs /var/cache/apt/archives"]);
    let content = "0123456789abcdef".repeat(10_000);
    let toml = format!(
        "{}{}[[file]]\npath = \"/srv/small/big\"\ncontent = \"{content}\"\n[[file]]\npath = \"/srv/other\"\ncontent = \"x\"\n",
        lab.source(),
        package("docker.io")
    );
    let (status, report) = lab.apply(&toml);
    assert_eq!(status, 6, "{report:#?}");
    let (error, help, retry) = failed(&report, "file./srv/small/big");
    assert!(
        error.starts_with("cannot write /srv/small/big: No space left") && help.contains("disk is full") && retry,
        "{error}"
    );
    let (error, help, retry) = failed(&report, "package.docker.io");
    assert!(error == "the disk is full" && help.contains("free") && retry, "{error}");
    assert_eq!(lab.must(&["ls", "-A", "/srv/small"]), "", "nothing by halves");
    assert_eq!(lab.must(&["cat", "/srv/other"]), "x");

    lab.must(&["sh", "-c", "mount -o remount,size=1m /srv/small && umount /var/cache/apt/archives"]);
    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_missing_unit_and_a_missing_registry_are_said() {
    let lab = Lab::start();
    let (_, report) = lab.apply("[[service]]\nname = \"muster-no-such\"\n");
    let (error, help, _) = failed(&report, "service.muster-no-such");
    assert_eq!(error, "there is no unit muster-no-such.service");
    assert!(help.contains("package"), "{help}");
    let (_, report) = lab.apply("[[image]]\nname = \"x:1\"\n");
    let (error, help, retry) = failed(&report, "image.x:1");
    assert!(
        error.starts_with("the Docker daemon does not answer") && help.contains("service resource") && retry,
        "{error}"
    );
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_port_in_use_and_a_registry_that_goes_away_are_said_and_the_next_run_goes_on() {
    let lab = Lab::start();
    let toml = crate::apply::site(&lab);
    lab.must(&["systemd-run", "--unit=squatter", "socat", "TCP-LISTEN:5432,fork", "OPEN:/dev/null"]);
    let (status, report) = lab.apply(&toml);
    assert_eq!(status, 6, "{report:#?}");
    let (error, help, _) = failed(&report, "container.database");
    assert_eq!(error, "port 5432 is in use already");
    assert!(!help.is_empty(), "{error}");
    lab.must(&["systemctl", "stop", "squatter"]);
    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");

    lab.stop_server();
    let toml = format!("{toml}\n[[image]]\nname = \"easypay-web:1.4.0\"\nafter = [\"service.docker\"]\n");
    // containerd's by the registry's own name: it asks nobody else.
    let name = format!("{}:5000/easypay-web:1.4.0", lab.server_address);
    let toml =
        format!("{toml}[[image]]\nname = \"{name}\"\nruntime = \"kubernetes\"\nafter = [\"service.containerd\"]\n");
    let (status, report) = lab.apply(&toml);
    assert_eq!(status, 4, "{report:#?}");
    let (error, help, retry) = failed(&report, &format!("image.{name}"));
    assert!(error.starts_with(&format!("the registry does not answer for image {name}")) && retry, "{error}");
    assert!(help.contains("is the registry up"), "{help}");
    assert_eq!(lab.must(&["docker", "ps", "--format", "{{.Names}}"]).trim(), "database", "what runs runs on");
    let (error, help, retry) = failed(&report, "image.easypay-web:1.4.0");
    assert!(error.contains("easypay-web:1.4.0") && !help.is_empty() && retry, "{error}; {help}");
    lab.start_server();
    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");
}
