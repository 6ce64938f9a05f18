//! Docker's containers and images: settings in odd words, data without a name, and containers of others.

use std::collections::BTreeMap;

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, list, sh, toml};

/// What the node has besides the registry's: two images with a volume that has no name.
pub const IMAGES: &str = r#"
docker pull --quiet server:5000/pause:3.10.1
build() { printf "$2" | docker build --quiet --tag "$1" -; }
build keeper:1 'FROM server:5000/pause:3.10.1\nVOLUME /data\n'
build keeper:2 'FROM keeper:1\nLABEL new=1\n'
"#;
const PAUSE: &str = "server:5000/pause:3.10.1";

const ENVIRONMENT: [(&str, &str); 5] = [
    ("A", "1"),
    ("EMPTY", ""),
    ("QUOTED", "it's \"q\" $HOME `id` \\n %s"),
    ("PATHS", "/a b:/c=d"),
    ("UMLAUT", "ж ü 鍵"),
];

pub fn container(tag: &str, dice: &mut Dice) -> Thing {
    let name = format!("{tag}{}", pick(dice, &["", ".web_1", "-a.b"]));
    let image = pick(dice, &["keeper:1", "keeper:2", PAUSE]);
    let mut thing = Thing { docker: true, ..Thing::default() };
    let head = format!("[[container]]\nname = \"{name}\"\nimage = ");
    let mut keys = String::new();
    thing = settings(thing, &mut keys, tag, &name, dice);
    let data = r#"{{range .Mounts}}{{if eq .Destination "/data"}}{{.Source}}{{end}}{{end}}"#;
    let precious = format!(
        "at=$(docker inspect --format '{data}' {name}); echo precious > $at/mark; echo $at > /var/lib/demo/{tag}.data\n"
    );
    let mut kept = false;
    match dice.random_range(0..6) {
        // Ours, from another catalog.
        0 | 1 => {
            let former = pick(dice, &["keeper:1", "keeper:2"]);
            thing.formerly(&format!("{head}\"{former}\"\nenvironment = {{ OLD = \"1\" }}\n"));
            thing.prep.push_str(&precious);
            kept = true;
        }
        // Somebody else's.
        2 => {
            thing
                .prep
                .push_str(&format!("docker run --detach --env OLD=1 --name {name} keeper:1 >/dev/null\n{precious}"));
            keys.push_str("adopt = true\n");
            kept = true;
        }
        // As it is to be, and not running.
        3 => {
            thing.formerly(&format!("{head}\"{image}\"\n{keys}"));
            thing
                .prep
                .push_str(&format!("docker {} {name} >/dev/null\n", pick(dice, &["stop --time 1", "pause", "kill"])));
        }
        _ => {}
    }
    if dice.random_bool(0.4) {
        let theirs = format!("{tag}-theirs");
        thing.prep.push_str(&format!(
            "docker run --detach --restart always --volume /data --name {theirs} {PAUSE} > /var/lib/demo/{tag}.id\n"
        ));
        let same = format!(
            "test \"$(docker inspect --format '{{{{.Id}}}} {{{{.State.Running}}}}' {theirs})\" = \"$(cat /var/lib/demo/{tag}.id) true\" && echo same"
        );
        thing = thing.check(same.clone(), "same").gone(same, "same");
    }
    thing.present.push_str(&format!("{head}\"{image}\"\n{keys}"));
    thing.absent.push_str(&format!("{head}\"{image}\"\nabsent = true\n"));
    if kept {
        thing = thing
            .check(format!("cat $(docker inspect --format '{data}' {name})/mark"), "precious")
            .gone(format!("cat $(cat /var/lib/demo/{tag}.data)/mark"), "precious");
    }
    thing
        .check(
            format!(
                "docker inspect --format '{{{{.State.Running}}}} {{{{.State.Paused}}}} {{{{.Config.Image}}}}' {name}"
            ),
            format!("true false {image}"),
        )
        .check(
            format!(
                "docker inspect --format '{{{{range .Config.Env}}}}{{{{println .}}}}{{{{end}}}}' {name} | grep -c ^OLD="
            ),
            "0",
        )
        .check(format!("docker ps --all --quiet --filter name={name}.muster | wc -l"), "0")
        .gone(format!("docker inspect {name} >/dev/null 2>&1 || echo none"), "none")
        .owns(format!("container:{name}"))
        .makes("volume:")
}

/// Environment, arguments, ports, volumes and network, each written or not.
fn settings(mut thing: Thing, keys: &mut String, tag: &str, name: &str, dice: &mut Dice) -> Thing {
    let asks = |format: &str| format!("docker inspect --format '{format}' {name}");
    if dice.random_bool(0.5) {
        let some: BTreeMap<_, _> = ENVIRONMENT.into_iter().filter(|_| dice.random_bool(0.5)).collect();
        let pairs: Vec<String> = some.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
        keys.push_str(&format!("environment = {{ {} }}\n", pairs.join(", ")));
        for (key, value) in some {
            let all = asks("{{range .Config.Env}}{{println .}}{{end}}");
            thing = thing.check(format!("{all} | grep -cxF -- {}", sh(&format!("{key}={value}"))), "1");
        }
    }
    if dice.random_bool(0.3) {
        let command = ["-x", "two words", "$HOME `id` \"q\"", "", "ж"];
        keys.push_str(&format!("command = {}\n", list(&command)));
        thing = thing.check(asks("{{json .Config.Cmd}}"), serde_json::to_string(&command).expect("JSON"));
    } else {
        thing = thing.check(asks("{{json .Config.Cmd}}"), "null");
    }
    if dice.random_bool(0.5) {
        let port = dice.random_range(20_000..29_000u16);
        let (written, inner, address, protocol) = pick(
            dice,
            &[
                ("P:80", "80/tcp", "", "t"),
                ("127.0.0.1:P:80", "80/tcp", "127.0.0.1", "t"),
                ("P:53/udp", "53/udp", "", "u"),
            ],
        );
        keys.push_str(&format!("ports = [\"{}\"]\n", written.replace('P', &port.to_string())));
        thing = thing
            .check(
                asks("{{json .HostConfig.PortBindings}}"),
                format!(r#"{{"{inner}":[{{"HostIp":"{address}","HostPort":"{port}"}}]}}"#),
            )
            .check(format!("ss -Hln{protocol} 'sport = :{port}' | grep -q . && echo open"), "open")
            .gone(format!("ss -Hln{protocol} 'sport = :{port}' | wc -l"), "0");
    }
    if dice.random_bool(0.5) {
        let host = format!("/srv/{tag}/with space");
        thing.prep.push_str(&format!("mkdir -p {0}; printf theirs > {0}/x\n", sh(&host)));
        keys.push_str(&format!("volumes = [\"{tag}-named:/named\", \"{host}:/in:ro\"]\n"));
        let mounts = asks(
            "{{range .Mounts}}{{if ne .Destination \"/data\"}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{println}}{{end}}{{end}}",
        );
        thing = thing
            .check(
                format!("{mounts} | grep . | sort"),
                format!("bind {host} /in false\nvolume /var/lib/docker/volumes/{tag}-named/_data /named true"),
            )
            .gone(
                format!("cat {}/x; docker volume ls --quiet --filter name={tag}-named", sh(&host)),
                format!("theirs{tag}-named"),
            );
    }
    if dice.random_bool(0.2) {
        thing.prep.push_str(&format!("docker network create {tag}-net >/dev/null\n"));
        keys.push_str(&format!("network = \"{tag}-net\"\n"));
        thing = thing.check(
            asks("{{range $name, $_ := .NetworkSettings.Networks}}{{println $name}}{{end}}"),
            format!("{tag}-net"),
        );
    }
    thing
}

pub fn image(_tag: &str, dice: &mut Dice) -> Thing {
    let prep = pick(
        dice,
        &[
            "docker rmi --force server:5000/pause:3.10.1 >/dev/null 2>&1 || true\n",
            "docker pull --quiet server:5000/pause:3.10.1 >/dev/null\n",
        ],
    );
    Thing {
        prep: prep.to_owned(),
        present: format!("[[image]]\nname = \"{PAUSE}\"\n"),
        docker: true,
        ..Thing::default()
    }
    .check(format!("docker image inspect --format '{{{{join .RepoTags \",\"}}}}' {PAUSE}"), PAUSE)
    .owns("image:server:5000/pause")
}
