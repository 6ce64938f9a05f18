//! Sites that are unusual and right: what the checks must not refuse.

mod apps;
#[path = "../common/mod.rs"]
mod common;

use std::path::Path;

use common::{facts, node, read};
use muster_catalog::{Catalog, Site, Spec, compile, load, local};
use muster_ids::Generation;

/// The small site of the tests with these texts at the ends of these files.
fn site(added: &[(&str, &str)]) -> Site {
    let mut files = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good"));
    for (path, text) in added {
        files.texts.entry((*path).to_owned()).or_default().push_str(text);
    }
    load(&files, &"test".parse().unwrap()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn what_is_switched_off_needs_no_values() {
    let site = site(&[
        ("muster.toml", "\n[variables.watcher]\nversion = \"\"\nname = \"\"\n"),
        (
            "roles/worker.toml",
            r#"
[[container]]
name = "watcher"
when = 'watcher.version != ""'
image = "registry.example.org/watcher:{{ watcher.version }}"

[[package]]
name = "linux-image-{{ watcher.version }}"
when = 'watcher.version != ""'
"#,
        ),
        (
            "roles/plane.toml",
            r#"
[[manifest]]
name = "watcher"
when = 'watcher.name != ""'
content = "{ apiVersion: v1, kind: Namespace, metadata: { name: '{{ watcher.name }}' } }"
"#,
        ),
    ]);
    for pool in ["workers", "control-plane"] {
        let catalog = compile(&site, &node(&site, pool, facts("vm")), Generation::default()).unwrap();
        assert!(!catalog.to_toml().contains("watcher"), "{pool}");
    }
}

#[test]
fn two_endpoints_may_lead_to_one_component() {
    let text = "\n[endpoint.inside]\nto = \"workers\"\nlisten = 8080\nport = 30080\naddress = \"10.89.0.12\"\n";
    assert_eq!(site(&[("muster.toml", text)]).endpoints.len(), 3);
}

#[test]
fn names_of_machines_in_the_field() {
    site(&[(
        "roles/worker.toml",
        r#"
[[sysctl]]
key = "net.ipv4.conf.eth0/1.forwarding"
value = "1"

[[user]]
name = "john.doe"

[[group]]
name = "Debian-snmp"

[[service]]
name = "getty@tty1"

[[service]]
name = "tun@site.example"

[[service]]
name = "app8.2-fpm"

[[service]]
name = "apt-daily.timer"

[[service]]
name = "fsck-once"
running = false
enabled = true

[[timer]]
name = "backup-8.2"
on_calendar = ["Mon..Fri 06:30", "Sat *-*-1..7 18:00 Europe/Berlin"]
run = ["/usr/local/bin/backup", "50% of \"$HOME\"", ";"]

[[timer]]
name = "left"
absent = true

[[package]]
name = "libstdc++6:amd64"

[[image]]
name = "localhost:5000/shop/web_1:1.4@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"#,
    )]);
}

#[test]
fn folders_links_and_blocks_as_admins_write_them() {
    site(&[(
        "roles/worker.toml",
        r##"
[[directory]]
path = "/srv/shop/conf.d"
mode = "2775"
purge = true

[[user]]
name = "shop"
home = "/srv/shop"

[[mount]]
path = "/srv/scratch"
source = "tmpfs"
fstype = "tmpfs"

[[directory]]
path = "/srv/scratch"
mode = "1777"
purge = true

[[directory]]
path = "/home/gone"
absent = true
purge = true

[[link]]
path = "/srv/shop/current"
target = "releases/{{ 40 + 2 }}"

[[link]]
path = "/etc/localtime"
target = "/usr/share/zoneinfo/Etc/UTC"
replace = true

[[link]]
path = "/srv/shop/old"
absent = true

[[block]]
name = "shop-hosts"
path = "/etc/hosts"
content = """
10.0.0.9 shop-database
# BEGIN of a comment
"""

[[block]]
name = "shop_sql"
path = "/srv/shop/init.sql"
content = "select 1;"
comment = "--"

[[block]]
name = "shop.old"
path = "/etc/hosts"
absent = true
"##,
    )]);
}

/// A pod is only ever spread over nodes that take it.
#[test]
fn closed_pools_are_no_place_for_pods() {
    let text = "\n[pool.closed]\nrole = \"worker\"\ncount = 1\ntaints = [\"gpu=yes:NoSchedule\"]\n";
    let site = site(&[("muster.toml", text), ("environments/test.toml", "\n[app.shop.web]\nreplicas = 3\n")]);
    let catalog = compile(&site, &node(&site, "control-plane", facts("vm")), Generation::default()).unwrap();
    let content = catalog.resource.iter().find_map(|resource| match &resource.spec {
        Spec::Manifest(manifest) if manifest.name == "app-shop" => manifest.content.clone(),
        _other => None,
    });
    let content = content.unwrap();
    assert!(content.contains("minDomains: 2") || content.contains("\"minDomains\": 2"), "{content}");
}

#[test]
fn keys_certificates_and_zones_of_the_field() {
    let text = r#"
[[authorized_key]]
name = "rsa"
user = "root"
key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDBQBtJKYxOLQ6ZiWT4R6VJ3Yo7yGy1Sjo53/jX2ze6giZlbRO+26A998mHbI/dmNIRvXyJCTENQ8OPV7BQQN8nMFYe/0Vsa4FxfhkKrp2auhpHmfxXohCB0O3k9fZT+cLvsUf8iNALR0LXhaplXZc3bYYSFUlQk3iiHwU/EcOqbio6mLkrwuKRKFGJav3S6LgwceEQkI6CvFFUAv19ZxmbJ5jInecCHEfPIYY3uLZs6c6PBD9m5AAIMEgvRVx4kLi/N/2xv7JPyDgIzEGzf9yr4C1VOiBB78r03onsruzEvXPWD0SY49jZTDP5GcIiuL9wgj/MCtpDkM8LeJFI5Y1L carol"
options = ['from="10.0.0.0/8,!10.0.0.1"', 'command="/usr/bin/rsync --server \"$HOME\""', "restrict", "X11-forwarding"]

[[authorized_key]]
name = "ecdsa"
user = "deploy"
key = """
ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJq9Ve3edRFQFq8XPHu+BjoGXWLAOMm161mkOdLhKsUFptO3b8bxoazBY9aUGsTP/a55wykUOv6+lYfXborcUA4= bob
"""
comment = "with a comment of its own"

[[authorized_key]]
name = "gone"
user = "deploy"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINamXkH41eWasofAyy3K2Qefk14Co+M/7JgkWC0UCXzA"
absent = true

[[ca_certificate]]
name = "internal"
source = "files/ca.crt"

[[ca_certificate]]
name = "old"
absent = true

[[timezone]]
name = "Etc/GMT+5"
"#;
    site(&[
        ("roles/worker.toml", text),
        ("roles/files/ca.crt", &format!("Internal CA\n{}", include_str!("../ca.crt"))),
    ]);
}

/// Every byte of a file that is no text is in the catalog, and comes back from it.
#[test]
fn a_source_may_be_anything() {
    let mut files = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good"));
    let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
    files.insert("roles/files/all".to_owned(), all.clone());
    files.insert("roles/files/latin1.txt".to_owned(), b"Stra\xdfe\n".to_vec());
    files.texts.entry("roles/worker.toml".to_owned()).or_default().push_str(
        r#"
[[file]]
path = "/srv/all"
source = "files/all"
mode = "0755"

[[file]]
path = "/srv/latin1"
source = "files/latin1.txt"
"#,
    );
    let site = load(&files, &"test".parse().unwrap()).unwrap_or_else(|errors| panic!("{errors}"));
    let catalog = compile(&site, &node(&site, "workers", facts("vm")), Generation::default()).unwrap();
    let again = Catalog::from_toml(&catalog.to_toml()).unwrap();
    assert_eq!(again, catalog);
    let bytes = |path: &str| {
        again.resource.iter().find_map(|resource| match &resource.spec {
            Spec::File(file) if file.path == path => Some(file.bytes().to_vec()),
            _other => None,
        })
    };
    assert_eq!(bytes("/srv/all"), Some(all));
    assert_eq!(bytes("/srv/latin1"), Some(b"Stra\xdfe\n".to_vec()));
}

/// Comments, what stands for itself, names with a dash below a variable, and what may be missing.
#[test]
fn templates_as_people_write_them() {
    let site = site(&[
        ("muster.toml", "\n[variables.hosts]\ndb-1 = \"10.0.0.1\"\n\n[variables.spare]\n"),
        (
            "roles/worker.toml",
            r#"
[[file]]
path = "/etc/hosts.app"
content = '''
{# Who is where. -#}
{% for name, address in hosts | items %}{{ address }} {{ name }}{# one line #}
{% endfor %}
{#- Several
    lines -#}
{{ hosts["db-1"] }}
{% raw %}echo ${#a[@]} {{.Names}}{% endraw %}
{{ "${#a[@]}" }} {{ spare.size | default("small") }} {% if node.disks[0] is defined %}{{ node.disks[0] }}{% endif %}
echo ${b#} {# and a later end #}
'''
"#,
        ),
    ]);
    let catalog = compile(&site, &node(&site, "workers", facts("vm")), Generation::default()).unwrap();
    let content = catalog.resource.iter().find_map(|resource| match &resource.spec {
        Spec::File(file) if file.path == "/etc/hosts.app" => file.content.clone(),
        _other => None,
    });
    // The end of a line goes with the block or comment that stands there.
    let expected = "10.0.0.1 db-110.0.0.1\necho ${#a[@]} {{.Names}}${#a[@]} small ordersecho ${b#} ";
    assert_eq!(content.unwrap(), expected);
}

/// A folder that belongs to a user, and his home below it: the user comes first, and makes the folder above his home.
#[test]
fn a_home_may_lie_in_a_folder_of_its_owner() {
    let text = r#"
[[user]]
name = "app"
home = "/srv/app/home"
group = "app"

[[group]]
name = "app"

[[directory]]
path = "/srv/app"
owner = "app"

[[directory]]
path = "/srv"

[[user]]
name = "other"
home = "/srv/app/other"
"#;
    let catalog =
        local("a.toml", text.to_owned(), &mut |_| Ok(None), &facts("vm")).unwrap_or_else(|errors| panic!("{errors}"));
    let ids: Vec<String> = catalog.resource.iter().map(|resource| resource.id().to_string()).collect();
    assert_eq!(ids, ["group.app", "directory./srv", "user.app", "directory./srv/app", "user.other"]);
}

/// What looks like one thing by two names and is two.
#[test]
fn names_that_are_alike_and_not_the_same() {
    site(&[(
        "roles/worker.toml",
        r#"
[[mount]]
path = "/srv/shop"
source = "/data/shop"
options = ["bind"]

[[directory]]
path = "/srv/shop"

[[directory]]
path = "/data/shop"

[[file]]
path = "/srv/shops/page"
content = ""

[[file]]
path = "/data/shop/page"
content = ""

[[directory]]
path = "/var/running"

[[mount]]
path = "/srv/old"
source = "/dev/vdb"
absent = true

[[file]]
path = "/srv/old"
content = "now a file"

[[file]]
path = "/etc/systemd/system/web.service"
content = "[Service]\nExecStart=/usr/bin/web\n[Install]\nAlias=httpd.service\n"

[[service]]
name = "httpd"
"#,
    )]);
}

/// Numbers, truth and empty texts as they were written, and the end of a line where `+` keeps it.
#[test]
fn values_are_written_as_they_are() {
    let site = site(&[
        (
            "muster.toml",
            "\n[variables.spare]\nmany = 123456789012\nbig = 20161216\nyes = true\nhalf = 0.5\nzero = \"007\"\n",
        ),
        (
            "roles/worker.toml",
            r#"
[[file]]
path = "/etc/values.conf"
content = '''
{{ spare.many }} {{ spare.big * 10 }} {{ spare.yes }} {{ spare.yes | tojson }} {{ spare.half }} {{ spare.zero }} {{ ["", "a", ""] | join(",") }}
Password {% if spare.yes %}yes{% endif +%}
{% if "x" in [] %}never{% endif %}
Root no
'''
"#,
        ),
        // Nothing but ends of lines, for which others' parsers ran out of stack.
        ("roles/base.toml", &"\n".repeat(1 << 19)),
    ]);
    let catalog = compile(&site, &node(&site, "workers", facts("vm")), Generation::default()).unwrap();
    let content = catalog.resource.iter().find_map(|resource| match &resource.spec {
        Spec::File(file) if file.path == "/etc/values.conf" => file.content.clone(),
        _other => None,
    });
    let expected = "123456789012 201612160 True true 0.5 007 ,a,\nPassword yes\nRoot no\n";
    assert_eq!(content.unwrap(), expected);
}

/// What is given twice and is no contradiction.
#[test]
fn what_two_may_have_at_once() {
    site(&[(
        "roles/worker.toml",
        r#"
[[user]]
name = "old"
uid = 4000
absent = true

[[user]]
name = "new"
uid = 4000

[[container]]
name = "inner"
image = "redis:7"
ports = ["127.0.0.1:8080:80", "8080:80/udp"]

[[container]]
name = "outer"
image = "redis:7"
ports = ["10.0.0.1:8080:80"]

[[package]]
name = "libc6"

[[package]]
name = "libc6:i386"

[[timer]]
name = "sweeping"
every = "1h"
service = "sweep"

[[service]]
name = "sweep"
running = false
enabled = false

[[archive]]
path = "/opt/tool"
url = "https://example.org/tool.tar"
sha256 = "becb950ee80daa8ae7331d77966d94a611af79ad0d3307380907e0ec08f5b4e8"

[[file]]
path = "/opt/tool/etc/tool.conf"
content = ""

[[command]]
name = "index"
run = ["/opt/tool/bin/tool", "index"]
creates = "/opt/tool-data/index"

[[mount]]
path = "/srv/once"
source = "tmpfs"
fstype = "tmpfs"
options = ["size=1m", "size=1m", "x-systemd.requires=a.service", "x-systemd.requires=b.service"]

[[link]]
path = "/srv/here"
target = "."

[[file]]
path = "/home/other/.ssh/authorized_keys"
content = ""

[[authorized_key]]
name = "deploy"
user = "deploy"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINamXkH41eWasofAyy3K2Qefk14Co+M/7JgkWC0UCXzA"

[[file]]
path = "/etc/shop.conf"
content = """
....................................................................................................................
[a.b] {{ peers | map(attribute='adress') | select('defined') | join(', ') }} {{ peers | map(attribute='name') | join(', ') }}
{{ 'x' | indent(8) }} {{ '%05d' | format(7) }} {{ node | tojson }} {{ 'a-b' | replace('-', '.') }} {{ peers }}
"""
"#,
    )]);
}

/// Two disks are spread over two workers: each has one.
#[test]
fn every_member_of_a_pool_may_hold_a_disk() {
    site(&[
        ("muster.toml", "\n[disk.more]\npool = \"workers\"\nsize = \"1Gi\"\n"),
        (
            "roles/worker.toml",
            "\n[[file]]\npath = \"/etc/disk\"\ncontent = \"{{ node.disks[0] }} {{ peers[0].name }}\"\n",
        ),
    ]);
}
