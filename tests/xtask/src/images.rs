//! The container images that the cluster runs, made here, under upstream's names and tags.
//!
//! Small, for they are unpacked on every node: a static program needs nothing around it, and what needs Debian's
//! libraries gets just these. PostgreSQL goes without its just-in-time compiler, which is most of it.

mod upstream;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{Cache, Inputs};
use crate::command::Cmd;
use crate::go::GoArtefacts;
use crate::oci::{self, Compression, Run};
use crate::progress::Progress;
use crate::registry::{self, Entry};
use crate::rootfs::{RootFs, Variant};

/// The tag that the shipped site asks for.
const EASYPAY_TAG: &str = "1.4.0";

const PAUSE_SOURCE: &str = include_str!("../../artefacts/images/pause/pause.c");
const POSTGRES_ENTRYPOINT: &str = include_str!("../../artefacts/images/postgres/entrypoint.sh");
const PROXY_START: &str = include_str!("../../artefacts/images/kube-proxy/start.sh");

/// Character conversions and locale sources, which no program here uses.
const NO_CONVERSIONS: &[&str] = &["/usr/lib/*/gconv/*", "/usr/share/i18n/*"];

const BASE: RootFs = RootFs {
    variant: Variant::Extracted,
    packages: &["base-files", "ca-certificates", "libc6", "libgcc-s1"],
    without: NO_CONVERSIONS,
    overlay: None,
};

/// netbase has /etc/protocols. Without it nft shows `6` where kube-proxy wrote `tcp`, and kube-proxy takes every Service that is
/// there for a leftover and removes it: at each full sync (hourly, after a failed one, when the node's zone changes).
const PROXY: RootFs = RootFs {
    variant: Variant::Extracted,
    packages: &["base-files", "conntrack", "dash", "libc6", "netbase", "nftables"],
    without: NO_CONVERSIONS,
    overlay: None,
};

const POSTGRES: RootFs = RootFs {
    variant: Variant::Extracted,
    packages: &["base-files", "coreutils", "dash", "libc-bin", "libc6", "postgresql-15", "postgresql-client-15"],
    without: &[
        "/usr/lib/*/gconv/*",
        "/usr/share/i18n/*",
        "/usr/lib/llvm*",
        "/usr/lib/*/libLLVM*",
        "/usr/lib/*/libz3*",
        "/usr/lib/postgresql/15/lib/llvmjit*",
        "/usr/lib/postgresql/15/lib/bitcode/*",
        "/usr/bin/perl*",
        "/usr/lib/*/libperl*",
        "/usr/lib/*/perl*",
        "/usr/share/perl*",
    ],
    overlay: None,
};

/// What lies at a path of an image.
enum Item {
    /// A program, copied, mode 0755.
    Program(PathBuf),
    /// A script, mode 0755.
    Script(&'static str),
    /// A file, copied, mode 0644.
    File(PathBuf),
    /// A file, mode 0644.
    Text(&'static str),
    /// A symbolic link.
    Link(&'static str),
    /// An empty folder of this mode.
    Folder(u32),
}

struct Image<'a> {
    repository: &'a str,
    tag: &'a str,
    base: Option<&'a RootFs<'a>>,
    items: Vec<(&'a str, Item)>,
    run: Run<'a>,
    compression: Compression,
}

/// The registry's storage folder with all images. `easypay` is the application's program.
pub fn make(cache: &Cache, progress: &Progress, go: &GoArtefacts, easypay: &Path) -> Result<PathBuf> {
    let pause = pause_program(cache, progress)?;
    let images = definitions(go, pause, easypay.to_owned());
    let mut entries = Vec::new();
    let mut inputs = Inputs::new("registry", 2);
    for image in &images {
        let folder = make_image(cache, progress, image)?;
        inputs = inputs.text(image.repository).text(image.tag).text(&oci::manifest_digest(&folder)?);
        // `postgres:15` means docker.io/library/postgres:15 to every container runtime, and a mirror is asked for that path.
        if !image.repository.contains('/') {
            let repository = format!("library/{}", image.repository);
            entries.push(Entry { repository, tag: image.tag.to_owned(), image: folder.clone() });
        }
        entries.push(Entry { repository: image.repository.to_owned(), tag: image.tag.to_owned(), image: folder });
    }
    cache.folder(progress, "lay out the container registry", &inputs, |dir| registry::lay_out(dir, &entries))
}

fn definitions(go: &GoArtefacts, pause: PathBuf, easypay: PathBuf) -> Vec<Image<'_>> {
    let program = |dir: &Path, name: &str| Item::Program(dir.join(name));
    let etcd = &go.etcd.dir;
    let mut images: Vec<Image> = Vec::new();
    for listed in &go.images {
        let (base, items, run): (Option<&RootFs>, _, _) = match listed.repository.as_str() {
            "coredns/coredns" => (
                None,
                vec![("coredns", program(&go.coredns.dir, "coredns"))],
                Run { entrypoint: &["/coredns"], ..Run::default() },
            ),
            "etcd" => (
                None,
                vec![
                    ("usr/local/bin/etcd", program(etcd, "etcd")),
                    ("usr/local/bin/etcdctl", program(etcd, "etcdctl")),
                    ("usr/local/bin/etcdutl", program(etcd, "etcdutl")),
                ],
                Run::default(),
            ),
            "pause" => (
                None,
                vec![("pause", Item::Program(pause.clone()))],
                Run { entrypoint: &["/pause"], user: "65535:65535", ..Run::default() },
            ),
            "kube-proxy" => (
                Some(&PROXY),
                vec![
                    ("usr/local/libexec/kube-proxy", program(&go.kubernetes.dir, "kube-proxy")),
                    ("usr/local/bin/kube-proxy", Item::Script(PROXY_START)),
                ],
                Run::default(),
            ),
            "kube-apiserver" => (
                None,
                vec![("usr/local/bin/kube-apiserver", program(&go.kubernetes.dir, "kube-apiserver"))],
                Run::default(),
            ),
            "kube-controller-manager" => (
                None,
                vec![("usr/local/bin/kube-controller-manager", program(&go.kubernetes.dir, "kube-controller-manager"))],
                Run::default(),
            ),
            "kube-scheduler" => (
                None,
                vec![("usr/local/bin/kube-scheduler", program(&go.kubernetes.dir, "kube-scheduler"))],
                Run::default(),
            ),
            // An image that a later Kubernetes asks for is missed at its first pull; failing here would be no better.
            _ => continue,
        };
        // Only kubelet asks for these, through containerd; pause is small, and handy for trying Docker with.
        let compression = if listed.repository == "pause" { Compression::Gzip } else { Compression::Zstd };
        images.push(Image { repository: &listed.repository, tag: &listed.tag, base, items, run, compression });
    }
    images.push(postgres());
    images.push(Image {
        repository: "easypay-web",
        tag: EASYPAY_TAG,
        base: Some(&BASE),
        items: vec![("usr/local/bin/easypay", Item::Program(easypay))],
        run: Run { entrypoint: &["/usr/local/bin/easypay"], cmd: &["serve"], user: "65532:65532", ..Run::default() },
        compression: Compression::Gzip,
    });
    images.extend(upstream::definitions(go));
    images
}

fn postgres<'a>() -> Image<'a> {
    Image {
        repository: "postgres",
        tag: "15",
        base: Some(&POSTGRES),
        items: vec![
            ("usr/local/bin/entrypoint", Item::Script(POSTGRES_ENTRYPOINT)),
            ("tmp", Item::Folder(0o1777)),
            // So that it also runs without a volume.
            ("var/lib/postgresql/data", Item::Folder(0o1777)),
            (
                "etc/passwd",
                Item::Text("root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n"),
            ),
            ("etc/group", Item::Text("root:x:0:\npostgres:x:999:\n")),
        ],
        run: Run {
            entrypoint: &["/usr/local/bin/entrypoint"],
            cmd: &["postgres"],
            env: &[
                "PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin",
                "LANG=C.UTF-8",
                "PGDATA=/var/lib/postgresql/data/pgdata",
            ],
            user: "999:999",
            // Fast shutdown: clients are sent away. SIGTERM would wait for them.
            stop_signal: "SIGINT",
        },
        compression: Compression::Gzip,
    }
}

fn make_image(cache: &Cache, progress: &Progress, image: &Image) -> Result<PathBuf> {
    let mut inputs =
        Inputs::new("image", 3).text(image.repository).text(&format!("{:?} {:?}", image.run, image.compression));
    let base = image.base.map(|base| base_folder(cache, progress, base)).transpose()?;
    if let Some((_, hash)) = &base {
        inputs = inputs.text(hash);
    }
    for (path, item) in &image.items {
        inputs = inputs.text(path);
        inputs = match item {
            // It lies in a folder that is named by its inputs, so the name tells as much as the content, and sooner.
            Item::Program(from) | Item::File(from) => inputs.text(cache.name_of(from)?),
            Item::Script(text) | Item::Text(text) | Item::Link(text) => inputs.text(text),
            Item::Folder(mode) => inputs.text(&format!("{mode:o}")),
        };
    }
    cache.folder(progress, &format!("make image {}:{}", image.repository, image.tag), &inputs, |dir| {
        let tree = tempfile::tempdir_in(dir)?;
        for (path, item) in &image.items {
            place(&tree.path().join(path), item)?;
        }
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755))?;
        let own = tree.path().with_extension("tar");
        oci::tar(tree.path(), &own)?;
        let layers: Vec<PathBuf> =
            base.iter().map(|(folder, _)| folder.join("rootfs.tar")).chain([own.clone()]).collect();
        oci::write(dir, &layers, image.compression, &image.run)?;
        fs::remove_file(own).context("cannot remove the layer's tar file")
    })
}

/// Makes the Debian parts of all images ahead of the images.
pub fn bases(cache: &Cache, progress: &Progress) -> Result<()> {
    [&BASE, &PROXY, &POSTGRES, &upstream::TOOLS, &upstream::NGINX]
        .into_iter()
        .try_for_each(|base| base_folder(cache, progress, base).map(drop))
}

fn base_folder(cache: &Cache, progress: &Progress, base: &RootFs) -> Result<(PathBuf, String)> {
    let inputs = base.add_to(Inputs::new("base", 1));
    let folder = cache.folder(progress, &format!("make a base of {}", base.packages.join(", ")), &inputs, |dir| {
        base.make(&dir.join("rootfs.tar"), &cache.new_log(&format!("base-{}", inputs.hash())))
    })?;
    Ok((folder, inputs.hash()))
}

fn place(path: &Path, item: &Item) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file without a folder")?)?;
    let mode = match item {
        Item::Program(from) => {
            fs::copy(from, path).with_context(|| format!("cannot copy {}", from.display()))?;
            0o755
        }
        Item::File(from) => {
            fs::copy(from, path).with_context(|| format!("cannot copy {}", from.display()))?;
            0o644
        }
        Item::Script(text) => {
            fs::write(path, text)?;
            0o755
        }
        Item::Text(text) => {
            fs::write(path, text)?;
            0o644
        }
        Item::Link(to) => return Ok(symlink(to, path)?),
        Item::Folder(mode) => {
            fs::create_dir(path)?;
            *mode
        }
    };
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// The pod's own process: 3 KiB of C, static, so that a node with a hundred pods pays nothing for it.
fn pause_program(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    let flags = ["-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror"];
    let inputs = Inputs::new("pause", 1).text(std::env::consts::ARCH).text(PAUSE_SOURCE).texts(flags);
    let folder = cache.folder(progress, "compile pause", &inputs, |dir| {
        let source = dir.join("pause.c");
        fs::write(&source, PAUSE_SOURCE)?;
        Cmd::new("cc").args(flags).arg("-o").arg(dir.join("pause")).arg(&source).output()?;
        Ok(())
    })?;
    Ok(folder.join("pause"))
}
