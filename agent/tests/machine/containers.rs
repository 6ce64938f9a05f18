//! Docker's containers on a real node: their data, and those of others.

use crate::lab::{Lab, failed};

/// Docker alone, of what the node of another test has.
pub fn docker(lab: &Lab) -> String {
    let whole = crate::apply::site(lab);
    let end = whole.find("[[file]]\npath = \"/etc/containerd/config.toml\"").expect("Docker comes first");
    whole[..end].replace("after = [\"service.containerd\"]", "")
}

/// An image with a volume that has no name, a newer one, and one whose program ends at once.
const IMAGES: &str = r#"
docker pull --quiet postgres:15
build() { printf "$2" | docker build --quiet --tag "$1" -; }
build keeper:1 'FROM postgres:15\nUSER root\nSTOPSIGNAL SIGKILL\nVOLUME /data\nENTRYPOINT ["sh", "-c"]\nCMD ["exec sleep 100000"]\n'
build keeper:2 'FROM keeper:1\nLABEL new=1\n'
build keeper:broken 'FROM keeper:1\nCMD ["echo no such luck; exit 3"]\n'
"#;

/// The volume of a container at a place, by name.
fn volume(lab: &Lab, container: &str, at: &str) -> String {
    let format =
        format!(r#"{{{{range .Mounts}}}}{{{{if eq .Destination "{at}"}}}}{{{{.Name}}}}{{{{end}}}}{{{{end}}}}"#);
    lab.must(&["docker", "inspect", "--format", &format, container]).trim().to_owned()
}

fn names(lab: &Lab) -> String {
    lab.must(&["docker", "ps", "--all", "--format", "{{.Names}} {{.State}}"]).trim().to_owned()
}

fn keeper(image: &str, more: &str) -> String {
    format!("[[container]]\nname = \"keeper\"\nimage = \"{image}\"\nports = [\"127.0.0.1:8080:80\"]\n{more}\n")
}

/// What the container has in its volume.
fn mark(lab: &Lab) -> String {
    lab.must(&["docker", "exec", "keeper", "cat", "/data/mark"])
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn containers_keep_their_data_and_those_of_others_are_left_alone() {
    let lab = Lab::start();
    lab.applied(&docker(&lab));
    lab.must(&["sh", "-ec", IMAGES]);
    a_replaced_one_keeps_its_data(&lab);
    one_that_does_not_stay_up_is_put_back(&lab);
    what_was_cut_off_is_brought_to_its_end(&lab);
    a_purge_spares_its_folder(&lab);
    data_outlives_the_container(&lab);
    those_of_others(&lab);
    one_in_the_network_of_another_follows_it(&lab);
    docker_finds_containerd_again(&lab);
}

fn one_in_the_network_of_another_follows_it(lab: &Lab) {
    let side = "[[container]]\nname = \"side\"\nimage = \"keeper:1\"\nnetwork = \"container:keeper\"\n";
    let addresses = || ["side", "keeper"].map(|name| lab.must(&["docker", "exec", name, "cat", "/proc/net/fib_trie"]));
    let both = |image: &str| format!("{}{side}", keeper(image, ""));
    lab.applied(&both("keeper:1"));
    lab.applied(&both("keeper:2"));
    let [of_side, of_keeper] = addresses();
    assert!(of_side == of_keeper && of_side.contains("LOCAL"), "{of_side}\n{of_keeper}");
    lab.must(&["docker", "stop", "keeper"]);
    std::thread::sleep(std::time::Duration::from_secs(3));
    lab.must(&["docker", "start", "keeper"]);
    lab.applied(&both("keeper:2"));
    let [of_side, of_keeper] = addresses();
    assert_eq!(of_side, of_keeper);
    lab.applied(&both("keeper:2").replace("image =", "absent = true\nimage ="));
}

/// Docker looks for a containerd that was started anew after pauses, and refuses until then.
fn docker_finds_containerd_again(lab: &Lab) {
    lab.applied(&keeper("keeper:1", ""));
    lab.must(&["docker", "stop", "--time", "0", "keeper"]);
    lab.put("/root/apply.toml", &keeper("keeper:1", ""));
    let script = "systemctl stop containerd; systemctl is-active docker
        docker start keeper 2>&1 | grep -c containerd.sock
        (sleep 4; systemctl start containerd) & muster-agent apply /root/apply.toml; echo $?; docker ps --format '{{.Names}}'";
    let (_, said, err) = lab.script(script);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["active", "1"], "Docker runs, and refuses: {said}{err}");
    assert_eq!(lines[lines.len() - 2..], ["2", "keeper"], "{said}{err}");
    lab.applied(&keeper("keeper:1", "absent = true"));
}

fn a_replaced_one_keeps_its_data(lab: &Lab) {
    lab.applied(&keeper("keeper:1", ""));
    let data = volume(lab, "keeper", "/data");
    assert_eq!(data.len(), 64, "it has no name of people's: {data}");
    lab.must(&["docker", "exec", "keeper", "sh", "-c", "echo precious > /data/mark"]);
    let report = lab.applied(&keeper("keeper:2", ""));
    let detail = &report.steps[0].detail;
    assert_eq!(detail[1], "image keeper:1 → keeper:2", "{detail:?}");
    assert!(detail.contains(&"the volume at /data goes along".to_owned()), "{detail:?}");
    assert_eq!(mark(lab), "precious\n");
    let settings = keeper("keeper:2", "environment = { A = \"1\" }");
    lab.applied(&settings);
    assert_eq!(volume(lab, "keeper", "/data"), data);
    assert_eq!(names(lab), "keeper running");
    // A name that nobody bears is nobody's, whatever an id begins with.
    let id = lab.must(&["docker", "inspect", "--format", "{{.Id}}", "keeper"]);
    let short = format!("[[container]]\nname = \"{}\"\nimage = \"keeper:1\"\n", &id[..2]);
    assert_eq!(lab.apply(&format!("{short}absent = true\n")).0, 0);
    lab.applied(&short);
    lab.applied(&format!("{short}absent = true\n"));
    assert_eq!(names(lab), "keeper running");
    // It comes back after a boot, whatever somebody told Docker.
    lab.must(&["docker", "update", "--restart", "no", "keeper"]);
    lab.applied(&settings);
    let policy = lab.must(&["docker", "inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "keeper"]);
    assert_eq!(policy.trim(), "unless-stopped");
    // Paused is not right.
    lab.must(&["docker", "pause", "keeper"]);
    lab.applied(&settings);
    assert_eq!(names(lab), "keeper running");
}

fn one_that_does_not_stay_up_is_put_back(lab: &Lab) {
    let (status, report) = lab.apply(&keeper("keeper:broken", ""));
    let (error, help) = failed(&report, "container.keeper");
    assert!(status == 4 && error.contains("ended with status 3: no such luck"), "{error}");
    assert!(error.contains("the old container is back"), "{error}");
    assert!(help.contains("docker logs keeper.muster-failed"), "{help}");
    assert!(names(lab).contains("keeper running") && !names(lab).contains("muster-replaced"), "{}", names(lab));
    assert!(lab.must(&["docker", "logs", "keeper.muster-failed"]).contains("no such luck"));
    assert_eq!(mark(lab), "precious\n");
    // What runs is not stopped for it at each converge.
    let began = || lab.must(&["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "keeper"]);
    let before = began();
    let (status, report) = lab.apply(&keeper("keeper:broken", ""));
    let (error, help) = failed(&report, "container.keeper");
    assert!(status == 4 && error.contains("the old one runs") && help.contains("docker rm"), "{error}; {help}");
    assert_eq!(began(), before);
    lab.applied(&keeper("keeper:1", ""));
    assert_eq!(names(lab), "keeper running");
    // The first of its name: Docker goes on trying, but it is not right.
    let broken = keeper("keeper:broken", "").replace("\"keeper\"", "\"hopeless\"").replace("8080", "8081");
    for _ in 0..2 {
        let (status, report) = lab.apply(&broken);
        assert!(status == 4 && failed(&report, "container.hopeless").0.contains("no such luck"), "{report:#?}");
    }
    lab.applied(&format!("{broken}absent = true\n"));
}

fn what_was_cut_off_is_brought_to_its_end(lab: &Lab) {
    let data = volume(lab, "keeper", "/data");
    lab.must(&[
        "sh",
        "-ec",
        "docker rename keeper keeper.muster-replaced; docker stop --time 0 keeper.muster-replaced",
    ]);
    lab.applied(&keeper("keeper:2", ""));
    assert_eq!(names(lab), "keeper running");
    assert_eq!(volume(lab, "keeper", "/data"), data);
    lab.must(&["docker", "create", "--name", "keeper.muster-replaced", "keeper:1"]);
    lab.applied(&keeper("keeper:2", ""));
    assert_eq!(names(lab), "keeper running");
}

fn a_purge_spares_its_folder(lab: &Lab) {
    let folder = "[[directory]]\npath = \"/srv/kept\"\npurge = true\n\n";
    let volume = keeper("keeper:2", "volumes = [\"/srv/kept/data:/more\"]");
    lab.must(&["sh", "-ec", "mkdir -p /srv/kept/data /srv/kept/stranger; echo precious > /srv/kept/data/mark"]);
    lab.applied(&format!("{folder}{volume}"));
    assert_eq!(lab.must(&["docker", "exec", "keeper", "cat", "/more/mark"]), "precious\n");
    assert_eq!(lab.must(&["ls", "-A", "/srv/kept"]).trim(), "data");
    lab.applied(&keeper("keeper:2", ""));
}

fn data_outlives_the_container(lab: &Lab) {
    let data = volume(lab, "keeper", "/data");
    let report = lab.applied(&keeper("keeper:2", "absent = true"));
    let said = format!("the volume {data} of /data stays");
    assert!(report.steps[0].detail.contains(&said), "{report:#?}");
    assert_eq!(names(lab), "");
    let at = format!("{data}:/old");
    assert_eq!(lab.must(&["docker", "run", "--rm", "--volume", &at, "keeper:1", "cat /old/mark"]), "precious\n");
}

fn those_of_others(lab: &Lab) {
    let theirs = "docker run --detach --name keeper keeper:1; docker exec keeper sh -c 'echo theirs > /data/mark'";
    lab.must(&["sh", "-ec", theirs]);
    let id = || lab.must(&["docker", "inspect", "--format", "{{.Id}} {{.State.Status}}", "keeper"]);
    let before = id();
    for toml in [keeper("keeper:2", ""), keeper("keeper:2", "absent = true")] {
        let (status, report) = lab.apply(&toml);
        let (error, help) = failed(&report, "container.keeper");
        assert!(status == 4 && error.contains("muster did not make") && help.contains("adopt = true"), "{error}");
        assert_eq!(id(), before);
    }
    let adopt = keeper("keeper:2", "adopt = true");
    lab.must(&["docker", "run", "--detach", "--name", "lodger", "--network", "container:keeper", "keeper:1"]);
    let (_, report) = lab.apply(&adopt);
    assert!(failed(&report, "container.keeper").0.contains("in use by the container lodger"), "{report:#?}");
    assert_eq!(id(), before);
    lab.must(&["docker", "rm", "--force", "lodger"]);
    lab.applied(&adopt);
    assert_eq!(mark(lab), "theirs\n");
    lab.applied(&keeper("keeper:2", "absent = true"));
    // Docker would take the data of such a one along when it ends.
    lab.must(&["docker", "run", "--detach", "--rm", "--name", "keeper", "keeper:1"]);
    let (_, report) = lab.apply(&adopt);
    assert!(failed(&report, "container.keeper").0.contains("--rm"), "{report:#?}");
    lab.must(&["docker", "rm", "--force", "keeper"]);
}
