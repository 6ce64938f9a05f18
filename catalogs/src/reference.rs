//! The reference of the language, made from the schemas: what a key may hold is written once, at its type.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::{kinds, kinds::Spec, schema, shape, tables};

/// One example for each kind. A test loads them all.
pub const EXAMPLES: &[(&str, &str)] = &[
    (
        "apt_source",
        r#"[[apt_source]]
name = "kubernetes"
url = "{{ packages.kubernetes.url }}"
key = "{{ packages.kubernetes.key }}"
suites = ["/"]"#,
    ),
    (
        "archive",
        r#"[[archive]]
path = "/opt/node_exporter"
url = "https://example.org/node_exporter-1.9.1.linux-amd64.tar.gz"
sha256 = "becb950ee80daa8ae7331d77966d94a611af79ad0d3307380907e0ec08f5b4e8"
strip = 1"#,
    ),
    (
        "authorized_key",
        r#"[[authorized_key]]
name = "alice"
user = "deploy"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINamXkH41eWasofAyy3K2Qefk14Co+M/7JgkWC0UCXzA alice@laptop"
options = ['from="10.0.0.0/8"', "no-agent-forwarding"]"#,
    ),
    (
        "block",
        r#"[[block]]
name = "orders-hosts"
path = "/etc/hosts"
content = "10.0.0.9 orders-database"
notify = ["service.orders"]"#,
    ),
    (
        "ca_certificate",
        r#"[[ca_certificate]]
name = "internal"
source = "files/internal-ca.crt"
notify = ["service.orders"]"#,
    ),
    (
        "cluster_member",
        r#"[[cluster_member]]
settings = "/etc/kubernetes/muster""#,
    ),
    (
        "command",
        r#"[[command]]
name = "make-database"
run = ["/usr/local/bin/make-database", "--name", "orders"]
creates = "/var/lib/orders/database"
after = ["package.orders"]"#,
    ),
    (
        "container",
        r#"[[container]]
name = "cache"
image = "docker.io/library/redis:7"
ports = ["6379:6379"]
volumes = ["/srv/cache:/data"]"#,
    ),
    (
        "directory",
        r#"[[directory]]
path = "/srv/cache"
mode = "0750"
owner = "cache""#,
    ),
    (
        "file",
        r#"[[file]]
path = "/etc/orders/orders.conf"
template = "files/orders.conf.j2"
mode = "0640"
group = "orders"
notify = ["service.orders"]"#,
    ),
    (
        "group",
        r#"[[group]]
name = "orders"
system = true"#,
    ),
    (
        "hostname",
        r#"[[hostname]]
name = "bastion""#,
    ),
    (
        "image",
        r#"[[image]]
name = "docker.io/library/redis:7""#,
    ),
    (
        "kernel_module",
        r#"[[kernel_module]]
name = "overlay"
when = 'facts.virtualization != "container"'"#,
    ),
    (
        "link",
        r#"[[link]]
path = "/srv/orders/current"
target = "releases/42""#,
    ),
    (
        "manifest",
        r#"[[manifest]]
name = "quota"
source = "files/quota.yaml""#,
    ),
    (
        "mount",
        r#"[[mount]]
path = "/srv/scratch"
source = "tmpfs"
fstype = "tmpfs"
options = ["size=1g", "mode=1777"]"#,
    ),
    (
        "package",
        r#"[[package]]
name = "orders"
version = "2.4-*"
hold = true"#,
    ),
    (
        "pod_network",
        r#"[[pod_network]]
mtu = 1400"#,
    ),
    (
        "service",
        r#"[[service]]
name = "orders"
on_notify = "reload"
disrupts = "service""#,
    ),
    (
        "swap",
        r#"[[swap]]
path = "/var/swapfile"
size = "2Gi"
priority = 10
when = 'facts.virtualization == "vm"'"#,
    ),
    (
        "sysctl",
        r#"[[sysctl]]
key = "vm.max_map_count"
value = "262144""#,
    ),
    (
        "timer",
        r#"[[timer]]
name = "backup"
on_calendar = "Mon..Fri 02:30"
persistent = true
run = ["/usr/local/bin/backup", "--to", "/srv/backup"]
user = "backup""#,
    ),
    (
        "timezone",
        r#"[[timezone]]
name = "Europe/Zurich""#,
    ),
    (
        "user",
        r#"[[user]]
name = "cache"
system = true
home = "/srv/cache""#,
    ),
];

const HEAD: &str = "# The language

*Made from the kinds in `catalogs/src` by `MUSTER_BLESS=1 cargo test -p muster-catalog --test generated`; a test holds it to them.*

A *site* is a folder of TOML:

| file | holds |
|---|---|
| `muster.toml` | the cluster: pools, endpoints, disks, secrets, variables |
| `environments/NAME.toml` | where it runs, and what differs there |
| `roles/NAME.toml` | the resources of a role |
| `roles/files/…` | what roles name: templates, and files that are copied as they are, text or not |
| `apps/NAME.toml` | applications |

`catalogs/` is such a site, the one that is shipped. Errors come all at once, each with file, line, column, what was expected and
mostly a way out. Unknown keys are errors. `catalogs/schema/*.json` are JSON Schemas for editors. `muster validate` checks every environment;
with `-e` it checks one.

A site holds plain files and folders, of at most a mebibyte each and 32 in all. A link is followed as long as it stays in the site; one that leads out of it is
an error, and so are pipes, sockets and devices. Names that begin with `.` or end with `~` are left out.

## Environments

An environment is laid over `muster.toml` and `apps/`: tables are merged key by key, anything else, lists too, is replaced. It changes
pools, endpoints, disks, applications and variables that are declared there and adds none, so that a mistyped name is an error; `[provider]`
and `protected` are mostly its own. Below a variable's table that is declared empty it may add what it likes.
";

const TEMPLATES: &str = "## Templates and `when`

Every text of a role, of an application and of a variable, and every file that `template` names, is rendered for each node. The syntax is
Jinja's (`{{ value }}`, `{% if %}`, `{% for %}`, filters); what is not defined is an error, in branches that are not taken as well. Lines that
hold only a statement leave nothing behind, and the end of a line goes with a statement or comment that stands there: `{% endif +%}` keeps it.
What is true is written `True`, as Jinja does, and by `| tojson` as `true`; a value that is not there (`pool.cpus` where none is written) is an
error. A template may become 4 MiB. `validate` renders them for every member of each pool. Where a key expects no text, a text that is
one expression gives its value: `suites = \"{{ packages.kubernetes.suites }}\"`.

A comment is `{# … #}`: with a line's start, a blank or another mark before it and a blank inside; one of several lines begins its line. Any
other `{#`, as bash's `${#a[@]}`, is an error, because it would swallow what follows. Text of other programs that looks like a template (that,
or Go's `{{.Names}}`) stands between `{% raw %}` and `{% endraw %}`, or in a file that `source` names.

| name | holds |
|---|---|
| `facts` | what the node says of itself: `hostname`, `os`, `os_version`, `arch`, `kernel`, `virtualization` (`container`, `vm` or `none`), `cgroup` (1 or 2), `cpus`, `memory` (bytes), `machine_cpus`, `machine_memory` (a container's limits left out), `address`, `interface` |
| `node` | `name`, `pool`, `address`, `pods` (its pods' range), `disks` |
| `pool` | `name`, `role`, `member`, `cpus` (thousandths), `memory` (bytes) |
| `peers` | the other nodes: `name`, `address`, `pods` |
| `cluster` | `name`, `environment`, `kubernetes`, `pods`, `services`, `dns`, `network`, `api` (`host:port`) |
| `endpoints.NAME` | `address`, `listen`, `port` |
| each of `[variables]` | under its own name, of letters, digits and `_` (`-` is minus: what has one below it is `{{ hosts[\"db-1\"] }}`): `[variables.packages.kubernetes] url` is `{{ packages.kubernetes.url }}`. Its texts may use all of the above |
| `local` | given by the coordinator of a local environment: `apt_key`, the key of its package repository |

`when` is an expression with the same names: `when = 'facts.virtualization == \"container\"'`. It must be true or false.
";

const ORDER: &str = "## Order

Resources are converged in parallel along a graph, and a failure stops only what depends on it. Edges come from three sources.

- `after` names resources that come before, `notify` resources that come after and are told of a change. A resource is named by its kind and
  its naming key: `service.containerd`, `file./etc/motd`. A name that no role of the pool has is an error; one that `when` leaves out on this node
  is not.
- Needs: a file, folder or mount comes after the folders and mounts above it and after its owner and group; a folder after what is mounted
  at it, because its mode and owner are then those of what is mounted; a package after all package
  sources and the configuration of apt; a service after the package of its own name, its unit and drop-ins, or, where there is neither and
  `after` names no package, after all packages; a sysctl after kernel modules; a user after its groups and what is above its
  home (a folder there that belongs to the user comes after it), a key after its user; an image after its runtime's service; a container
  after Docker, its image and its volumes' folders; the cluster member after the packages, settings and services that kubeadm uses; `service.kubelet` and
  manifests after the cluster member. Where both are `absent` it is the other way round.
- Claims: two resources of one node that own the same path, package, unit, user, port and so on are an error at both places,
  by whatever name: below a bind mount or a link that the site makes, `/var/run` and `/run`, `/bin` and `/usr/bin`, a unit by its alias. So are a mount and a
  file at one path, and a file that others have a part of, as `/etc/fstab` with mounts.

A circle is an error that shows each of its edges and what would open it. Ties keep the order of the files.

## What leaves the site

- Nodes, disks, endpoints: the plan says what becomes of each. A disk is kept.
- Applications and manifests: an object that no set names any more is deleted, those first that others do not need. All sets are
  written before that, and while one of them fails nothing is deleted: what moves to another set, to an application or to a set of another
  name is never gone in between, and a claim keeps its data. A namespace that holds something else stays, and so does a definition whose
  kind others use; what was there before a set named it only loses muster's marks. The plan and the report name each with its fate.
- Everything else on a node is no longer managed and stays as it is. To remove it, write `absent = true` first, apply, and then take it out;
  of a sysctl and a kernel module that takes away what a boot would do, and of a container all but its volumes.
";

const APPS: &str = "
What an application becomes, without being asked: a namespace that enforces the pod security standard `restricted`; containers without root, privileges or a
writable root file system; roll-outs that never have fewer pods than `replicas`; replicas on different nodes; a disruption budget; a drain
before the end. A component with a disk is a StatefulSet of one pod with a PersistentVolume that follows the label `muster.dev/disk-NAME`, which
the node that holds the disk has; one without is a Deployment. An endpoint's Service keeps traffic on the node that it came to, so that the
load balancer's check tells whether that very node serves. `allow_from` makes a NetworkPolicy; it counts once the pod network enforces policies, which the
one of today does not.
";

/// `docs/language.md`.
pub fn reference() -> String {
    let mut out = HEAD.to_owned();
    let site = &*schema::SITE;
    for (heading, pointer) in [
        ("`[cluster]`", "cluster"),
        ("`[provider.docker]`", "provider/docker"),
        ("`[provider.aws]`", "provider/aws"),
        ("`[pool.NAME]`", "pool"),
        ("`[endpoint.NAME]`", "endpoint"),
        ("`[disk.NAME]`", "disk"),
        ("`[secret.NAME]`", "secret"),
    ] {
        let mut table = site;
        for key in pointer.split('/') {
            table = named(site, &table["properties"][key]);
        }
        section(&mut out, 2, heading, site, table);
    }
    out.push_str("\n## `[variables.…]`\n\n");
    out.push_str(description(&site["properties"]["variables"]).as_str());
    out.push_str("\n\n## `[app.NAME]`\n\n| key | holds |\n|---|---|\n");
    out.push_str("| `namespace` | its namespace in Kubernetes; absent: the application's name |\n");
    out.push_str("| any other | a component; its name is also the host name that the others reach it by |\n");
    out.push_str(APPS);
    let component = named(&schema::APP, &schema::APP);
    section(&mut out, 3, "`[app.NAME.COMPONENT]`", &schema::APP, component);
    out.push_str("\n## Roles\n\nA file in `roles/` is a role: its own keys, and resources.\n");
    let head = shape::schema_of::<tables::RoleHead>();
    keys(&mut out, &head, &head, &[]);
    out.push_str("\nEvery resource may have, besides its kind's keys:\n");
    let common = shape::schema_of::<tables::Common>();
    keys(&mut out, &common, &common, &[]);
    out.push('\n');
    out.push_str(TEMPLATES);
    out.push('\n');
    out.push_str(ORDER);
    out.push_str("\n## Kinds\n");
    let common: Vec<&str> = common["properties"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    for kind in Spec::KINDS {
        let schema = &kinds::SCHEMAS[kind];
        let _ = write!(out, "\n### `{kind}`\n\n{}\n", description(schema));
        if let Some((_, example)) = EXAMPLES.iter().find(|(k, _)| k == kind) {
            let _ = write!(out, "\n```toml\n{example}\n```\n");
        }
        keys(&mut out, schema, schema, &common);
    }
    out
}

fn section(out: &mut String, level: usize, heading: &str, root: &Json, table: &Json) {
    let _ = writeln!(out, "\n{} {heading}", "#".repeat(level));
    keys(out, root, table, &[]);
}

/// The table behind a property: itself, a reference, an option, or what a map holds.
fn named<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    if let Some(pointer) = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        return root.pointer(pointer).map_or(schema, |s| named(root, s));
    }
    let some = schema["anyOf"].as_array().map(|all| all.iter().filter(|s| s["type"] != "null").collect::<Vec<_>>());
    if let Some([one]) = some.as_deref() {
        return named(root, one);
    }
    if let Some((_, value)) = schema["patternProperties"].as_object().and_then(|p| p.iter().next()) {
        return named(root, value);
    }
    schema
}

/// Needed keys first, then by the alphabet.
fn keys(out: &mut String, root: &Json, table: &Json, without: &[&str]) {
    let Some(properties) = table["properties"].as_object() else { return };
    let needed: Vec<&str> = table["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut rows: Vec<(&String, &Json)> = properties.iter().filter(|(k, _)| !without.contains(&k.as_str())).collect();
    rows.sort_by_key(|(key, _)| (!needed.contains(&key.as_str()), *key));
    out.push_str("\n| key | holds | default |\n|---|---|---|\n");
    for (key, property) in rows {
        let default = match &property["default"] {
            Json::Null if needed.contains(&key.as_str()) => "**needed**".to_owned(),
            Json::Null => String::new(),
            Json::String(text) if text.is_empty() => String::new(),
            Json::Object(map) if map.is_empty() => String::new(),
            Json::Array(all) if all.is_empty() => String::new(),
            other => format!("`{other}`"),
        };
        let mut holds = words(root, property);
        let text = description(property);
        if !text.is_empty() {
            let _ = write!(holds, ". {text}");
        }
        let _ = writeln!(out, "| `{key}` | {} | {default} |", holds.replace('\n', " ").replace('|', "\\|"));
    }
}

/// What a property holds.
fn words(root: &Json, property: &Json) -> String {
    let schema = named(root, property);
    let branches = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(all) = branches {
        let words: Vec<String> = all
            .iter()
            .filter(|b| b["type"] != "null")
            .flat_map(|b| match (&b["const"], &b["enum"]) {
                (Json::String(one), _) => vec![format!("`\"{one}\"`{}", meaning(b))],
                (_, Json::Array(many)) => many.iter().map(|m| format!("`{m}`")).collect(),
                _ => vec![words(root, b)],
            })
            .collect();
        return words.join(" or ");
    }
    if let Some(all) = schema["enum"].as_array() {
        return all.iter().map(|m| format!("`{m}`")).collect::<Vec<_>>().join(" or ");
    }
    if let Some(properties) = schema["properties"].as_object() {
        let mut keys: Vec<String> = properties.keys().map(|k| format!("`{k}`")).collect();
        keys.sort();
        return format!("a table of {}", keys.join(" and "));
    }
    if property["patternProperties"].is_object() || schema["additionalProperties"].is_object() {
        return "a table".to_owned();
    }
    if let Some(items) = schema.get("items").filter(|_| schema["type"] == "array" || schema["type"][0] == "array") {
        let of = words(root, items);
        return if of == "a text" { "a list of texts".to_owned() } else { format!("a list, each {of}") };
    }
    shape::type_words(schema)
}

fn meaning(constant: &Json) -> String {
    match description(constant).as_str() {
        "" => String::new(),
        text => format!(" ({})", text.trim_end_matches('.')),
    }
}

fn description(schema: &Json) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}
