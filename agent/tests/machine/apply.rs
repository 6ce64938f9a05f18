//! The program on a real node: from nothing to as written, and back to it whatever is done to it.

use std::time::Duration;

use muster_ids::ResourceId;
use muster_plan::Outcome;

use crate::lab::Lab;

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

/// What a container needs to run containers, and Docker.
pub fn site(lab: &Lab) -> String {
    let address = &lab.server_address;
    format!(
        r#"{source}
[[file]]
path = "/usr/local/lib/muster/container-node"
mode = "0755"
content = '''
#!/bin/sh
set -eu
mount -o remount,rw /sys
mount -o remount,rw /sys/fs/cgroup || true
while read -r _ where kind _; do
    case $kind in
        cgroup | cgroup2) mount -o remount,bind,rw "$where" ;;
    esac
done </proc/mounts
mount --make-rshared /
[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11
'''

[[file]]
path = "/etc/systemd/system/muster-container.service"
content = '''
[Unit]
DefaultDependencies=no
After=local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/muster/container-node
[Install]
WantedBy=multi-user.target
'''

[[service]]
name = "muster-container"

[[sysctl]]
key = "net.ipv4.ip_forward"
value = "1"

[[file]]
path = "/etc/docker/daemon.json"
content = '''
{{"registry-mirrors": ["http://{address}:5000"], "insecure-registries": ["{address}:5000"]}}
'''
notify = ["service.docker"]

[[package]]
name = "docker.io"
after = ["file./etc/docker/daemon.json", "service.muster-container", "sysctl.net.ipv4.ip_forward"]

[[service]]
name = "docker"
after = ["service.containerd"]

[[file]]
path = "/etc/containerd/config.toml"
notify = ["service.containerd"]
content = '''
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
'''

[[file]]
path = "/etc/containerd/certs.d/_default/hosts.toml"
content = '''
[host."http://{address}:5000"]
  capabilities = ["pull", "resolve"]
'''

[[package]]
name = "containerd"
after = ["file./etc/containerd/config.toml", "service.muster-container"]

[[service]]
name = "containerd"
after = ["package.containerd"]

[[package]]
name = "kubelet"
version = "1.34.4-*"
hold = true

[[image]]
name = "registry.k8s.io/pause:3.10.1"
runtime = "kubernetes"
after = ["service.containerd", "file./etc/containerd/certs.d/_default/hosts.toml"]

[[container]]
name = "database"
image = "postgres:15"
ports = ["5432:5432"]
environment = {{ POSTGRES_PASSWORD = "x" }}
after = ["service.docker"]

[[group]]
name = "app"
gid = 700

[[user]]
name = "app"
group = "app"
shell = "/bin/bash"
home = "/srv/app"
groups = ["docker"]
after = ["package.docker.io"]

[[directory]]
path = "/srv/drop"
owner = "app"
purge = true

[[mount]]
path = "/srv/scratch"
source = "tmpfs"
fstype = "tmpfs"
options = ["size=1m"]

[[kernel_module]]
name = "overlay"

[[command]]
name = "once"
run = ["touch", "/srv/once"]
creates = "/srv/once"
"#,
        source = lab.source()
    )
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_bare_node_becomes_as_written_and_stays_so() {
    let lab = Lab::start();
    let toml = site(&lab);
    lab.put("/root/apply.toml", &toml);
    let (status, plan, err) = lab.run(&["muster-agent", "plan", "/root/apply.toml", "--json"]);
    assert_eq!(status, 2, "{err}");
    let planned: Vec<muster_plan::Row> = serde_json::from_str(&plan).unwrap();
    assert!(!lab.must(&["ls", "-A", "/etc/systemd/system"]).contains("muster-container"), "a plan writes nothing");

    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");
    let done: Vec<_> = report.steps.iter().map(|step| &step.resource).collect();
    for row in &planned {
        assert!(done.contains(&&row.resource), "planned and not done: {row:?}");
    }
    for resource in &done {
        assert!(planned.iter().any(|row| row.resource == **resource), "done and not planned: {resource}");
    }
    let transactions = lab.must(&["grep", "-c", "^Commandline", "/var/log/apt/history.log"]);
    assert_eq!(transactions.trim(), "1", "all packages in one run of apt");
    assert_eq!(lab.must(&["docker", "ps", "--format", "{{.Names}}"]).trim(), "database");
    assert_eq!(lab.must(&["apt-mark", "showhold"]).trim(), "kubelet");

    let (status, again) = lab.apply(&toml);
    assert_eq!((status, again.steps), (0, vec![]));

    // By hand, and back.
    lab.must(&[
        "sh", "-c",
        "set -e; docker rm -f database; systemctl stop containerd; sysctl -qw net.ipv4.ip_forward=0; umount /srv/scratch;
         printf x > /srv/drop/stranger; usermod --shell /bin/sh app; apt-mark unhold kubelet;
         sed -i s/RemainAfterExit/RemainAfterExi7/ /etc/systemd/system/muster-container.service",
    ]);
    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");
    for drifted in [
        "container.database",
        "directory./srv/drop",
        "file./etc/systemd/system/muster-container.service",
        "mount./srv/scratch",
        "package.kubelet",
        "service.containerd",
        "sysctl.net.ipv4.ip_forward",
        "user.app",
    ] {
        assert!(report.drift.contains(&id(drifted)), "{drifted}: {:#?}", report.drift);
    }
    assert_eq!(lab.must(&["ls", "-A", "/srv/drop"]), "");

    // A changed specification replaces, a changed file restarts.
    let edited = toml.replace("5432:5432", "5433:5432").replace("version = 2\n", "version = 2\n# edited\n");
    let before = lab.must(&["systemctl", "show", "--property", "MainPID", "containerd"]);
    let (_, report) = lab.apply(&edited);
    assert!(report.converged && report.drift.is_empty(), "{report:#?}");
    assert_ne!(before, lab.must(&["systemctl", "show", "--property", "MainPID", "containerd"]));
    assert!(lab.must(&["docker", "port", "database"]).contains("5433"));

    // And away again.
    let gone = "[[container]]\nname = \"database\"\nimage = \"postgres:15\"\nabsent = true\n
        [[package]]\nname = \"kubelet\"\nabsent = true\n[[user]]\nname = \"app\"\nabsent = true\n
        [[mount]]\npath = \"/srv/scratch\"\nsource = \"tmpfs\"\nabsent = true\n
        [[directory]]\npath = \"/srv/drop\"\npurge = true\nabsent = true\n";
    let (status, report) = lab.apply(gone);
    assert!(status == 2 && report.converged, "{report:#?}");
    assert_eq!(lab.must(&["docker", "ps", "--all", "--quiet"]), "");
    assert_eq!(lab.apply(gone).0, 0);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_nodes_ports_keep_their_contracts() {
    let lab = Lab::start();
    lab.copy(&std::env::current_exe().unwrap(), "/root/contracts");
    let (_, report) = lab.apply(&lab.source());
    assert!(report.converged, "{report:#?}");
    let (status, out, err) = lab.run(&["/root/contracts", "--ignored", "--test-threads", "1", "inside_a_node"]);
    assert_eq!(status, 0, "{out}\n{err}");
    assert!(out.contains("4 passed"), "{out}");
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn the_agent_installs_itself_and_systemd_starts_it_again_and_again() {
    let lab = Lab::start();
    let said = lab.must(&["muster-agent", "install"]);
    assert!(said.contains("enabled muster-agent.service"), "{said}");
    assert_eq!(lab.must(&["systemctl", "is-enabled", "muster-agent"]).trim(), "enabled");
    assert_eq!(lab.must(&["muster-agent", "install", "--no-start"]), "", "the second time nothing is left to do");
    // Without a coordinator to follow it has nothing to run for; systemd tries again all the same.
    let tries = || lab.must(&["systemctl", "show", "--property", "NRestarts", "--value", "muster-agent"]);
    lab.wait("systemd tries again", Duration::from_secs(20), || tries().trim().parse::<u32>().unwrap_or(0) >= 2);
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_kill_in_the_middle_of_apt_is_mended() {
    let lab = Lab::start();
    let toml = format!("{}[[package]]\nname = \"docker.io\"\n", lab.source());
    lab.apply(&lab.source());
    lab.put("/root/apply.toml", &toml);
    // The agent, apt and dpkg, as soon as dpkg unpacks.
    let killed = lab.run(&[
        "sh", "-c",
        "muster-agent apply /root/apply.toml >/dev/null 2>&1 &
         for try in $(seq 3000); do grep -qs ' install docker.io' /var/log/dpkg.log && break; sleep 0.01; done
         for process in muster-agent apt-get dpkg; do kill -9 $(pidof $process); done; sleep 0.3; dpkg --audit | head -1",
    ]);
    assert!(!killed.1.trim().is_empty(), "dpkg was cut off: {killed:?}");
    let (status, report) = lab.apply(&toml);
    assert!(status == 2 && report.converged, "{report:#?}");
    assert_eq!(lab.must(&["dpkg", "--audit"]), "");
    let outcome = report.steps.iter().find(|step| step.resource == id("package.docker.io")).map(|step| &step.outcome);
    assert_eq!(outcome, Some(&Outcome::Done));
}
