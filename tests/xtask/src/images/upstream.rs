//! The images that upstream's own network tests start, under upstream's names: its programs built from its modules, the
//! tools beside them from Debian in place of Alpine and an older Debian.
//!
//! Of the 45 specs of sig-network's conformance, all need agnhost or pause, those about names jessie-dnsutils too, and one
//! nginx. The others that `e2e.test --list-images` names belong to other groups.

use super::{Image, Item};
use crate::go::GoArtefacts;
use crate::oci::{Compression, Run};
use crate::rootfs::{RootFs, Variant};

/// `test/utils/image/manifest.go` of the pinned Kubernetes has these two; agnhost's own comes from its VERSION file.
const DNSUTILS_TAG: &str = "1.7";
const NGINX_TAG: &str = "1.14-4";

const NGINX_CONF: &str = include_str!("../../../artefacts/images/nginx/nginx.conf");

/// Shells and network tools: agnhost and jessie-dnsutils share them as one layer.
pub const TOOLS: RootFs = RootFs {
    variant: Variant::Extracted,
    packages: &[
        "base-files",
        "bash",
        "bind9-dnsutils",
        "ca-certificates",
        "coreutils",
        "curl",
        "dash",
        "grep",
        "hostname",
        "iperf",
        "iproute2",
        "libc-bin",
        "netcat-openbsd",
        "sed",
    ],
    without: &["/usr/lib/*/gconv/*", "/usr/share/i18n/*", "/usr/bin/perl*", "/usr/lib/*/perl*", "/usr/share/perl*"],
    overlay: None,
};

pub const NGINX: RootFs = RootFs {
    variant: Variant::Extracted,
    packages: &["base-files", "libc6", "nginx-light"],
    without: &["/usr/lib/*/gconv/*", "/usr/share/i18n/*", "/usr/bin/perl*", "/usr/lib/*/perl*", "/usr/share/perl*"],
    overlay: None,
};

pub fn definitions(go: &GoArtefacts) -> Vec<Image<'_>> {
    let agnhost = Image {
        repository: "e2e-test-images/agnhost",
        tag: &go.agnhost_tag,
        base: Some(&TOOLS),
        items: vec![
            ("agnhost", Item::Program(go.kubernetes.dir.join("agnhost"))),
            ("agnhost-2", Item::Link("agnhost")),
            // Debian's package leaves the name to its installation script.
            ("bin/nc", Item::Link("nc.openbsd")),
            ("coredns", Item::Program(go.coredns.dir.join("coredns"))),
            // What its subcommand `porter` serves TLS with unless told otherwise.
            ("localhost.crt", Item::File(go.agnhost_files.join("localhost.crt"))),
            ("localhost.key", Item::File(go.agnhost_files.join("localhost.key"))),
            ("tmp", Item::Folder(0o1777)),
            ("uploads", Item::Folder(0o755)),
            ("etc/passwd", Item::Text("root:x:0:0:root:/root:/bin/sh\nuser-defined-in-image:x:1000:1000::/:/bin/sh\n")),
            (
                "etc/group",
                Item::Text(
                    "root:x:0:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n",
                ),
            ),
        ],
        run: Run { entrypoint: &["/agnhost"], cmd: &["pause"], ..Run::default() },
        compression: Compression::Gzip,
    };
    let dnsutils = Image {
        repository: "e2e-test-images/jessie-dnsutils",
        tag: DNSUTILS_TAG,
        base: Some(&TOOLS),
        items: vec![
            ("coredns", Item::Program(go.coredns.dir.join("coredns"))),
            ("etc/passwd", Item::Text("root:x:0:0:root:/root:/bin/sh\n")),
            ("etc/group", Item::Text("root:x:0:\n")),
            ("tmp", Item::Folder(0o1777)),
        ],
        run: Run { cmd: &["/bin/bash"], ..Run::default() },
        compression: Compression::Gzip,
    };
    let nginx = Image {
        repository: "e2e-test-images/nginx",
        tag: NGINX_TAG,
        base: Some(&NGINX),
        items: vec![
            ("etc/nginx/nginx.conf", Item::Text(NGINX_CONF)),
            ("etc/passwd", Item::Text("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n")),
            ("etc/group", Item::Text("root:x:0:\nwww-data:x:33:\n")),
            ("tmp", Item::Folder(0o1777)),
        ],
        run: Run { cmd: &["nginx", "-g", "daemon off;"], stop_signal: "SIGQUIT", ..Run::default() },
        compression: Compression::Gzip,
    };
    vec![agnhost, dnsutils, nginx]
}
