//! The signed apt repository that nodes install from.
//!
//! It holds our packages of Kubernetes and etcd under upstream's names and version form, and of Debian's what the nodes' roles ask
//! for with all that the node image lacks, so that a node needs no other source. apt itself resolves the
//! dependencies, against the package list of the very node image. A folder of plain files: any web server can serve it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cache::{Cache, Inputs};
use crate::command::Cmd;
use crate::deb::{self, Content, Package, PackageFile};
use crate::go::GoArtefacts;
use crate::machine_images::MachineImage;
use crate::progress::Progress;
use crate::rootfs;

/// What a site may ask for: the container runtimes, the CNI plugins, and a few tools an administrator wants at hand.
const FROM_DEBIAN: &[&str] = &[
    "containerd",
    "containernetworking-plugins",
    "docker.io",
    "htop",
    "ipset",
    "jq",
    "rsync",
    "runc",
    "strace",
    "tcpdump",
    "tree",
];

/// The suite and component under which nodes find it.
pub const SUITE: &str = "muster";
pub const COMPONENT: &str = "main";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The repository and the key that signs it.
pub struct Repository {
    pub dir: PathBuf,
    /// Public, ASCII-armoured.
    pub key: PathBuf,
}

/// Makes the repository.
pub fn make(cache: &Cache, progress: &Progress, go: &GoArtefacts, node: &MachineImage) -> Result<Repository> {
    let architecture = architecture()?;
    let key = signing_key(cache, progress)?;
    let debian = from_debian(cache, progress, node)?;

    let ours = our_packages(go, &architecture);
    let mut inputs = Inputs::new("repository", 1).text(folder_name(&debian)?).text(folder_name(&key)?);
    inputs = inputs.text(folder_name(&go.kubernetes.dir)?).text(folder_name(&go.etcd.dir)?).text(&format!("{ours:?}"));
    let dir = cache.folder(progress, "make the apt repository", &inputs, |dir| {
        let pool = dir.join("pool");
        fs::create_dir(&pool)?;
        for package in &ours {
            package.build(dir, &pool)?;
        }
        for deb in sorted_files(&debian)? {
            fs::hard_link(&deb, pool.join(deb.file_name().context("a package without a name")?))?;
        }
        write_indexes(dir, &architecture)?;
        sign(&dir.join("dists").join(SUITE), &key)
    })?;
    Ok(Repository { dir, key: key.join("key.asc") })
}

fn architecture() -> Result<String> {
    Ok(Cmd::new("dpkg").arg("--print-architecture").output()?.trim().to_owned())
}

fn our_packages<'a>(go: &'a GoArtefacts, architecture: &'a str) -> Vec<Package<'a>> {
    // The packages live as long as the process: four short strings are not worth threading owners through.
    let version = |of: &str| -> &'static str { format!("{}-1.1", of.trim_start_matches('v')).leak() };
    let program = |path, from: PathBuf| PackageFile { path, content: Content::Program(from) };
    let text = |path, text| PackageFile { path, content: Content::Text(text) };
    let kubernetes = |name| go.kubernetes.dir.join(name);
    vec![
        Package {
            name: "kubelet",
            version: version(&go.kubernetes.version),
            architecture,
            depends: "conntrack, ethtool, iproute2, iptables (>= 1.4.21), mount, socat, util-linux",
            description: "Node agent of Kubernetes",
            files: vec![
                program("usr/bin/kubelet", kubernetes("kubelet")),
                text("usr/lib/systemd/system/kubelet.service", include_str!("../../artefacts/kubelet/kubelet.service")),
                text(
                    "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
                    include_str!("../../artefacts/kubelet/10-kubeadm.conf"),
                ),
            ],
        },
        Package {
            name: "kubeadm",
            version: version(&go.kubernetes.version),
            architecture,
            depends: "kubelet (>= 1.30)",
            description: "Founds and joins Kubernetes clusters",
            files: vec![program("usr/bin/kubeadm", kubernetes("kubeadm"))],
        },
        Package {
            name: "kubectl",
            version: version(&go.kubernetes.version),
            architecture,
            depends: "",
            description: "Command line of Kubernetes",
            files: vec![program("usr/bin/kubectl", kubernetes("kubectl"))],
        },
        Package {
            name: "muster-etcd-tools",
            version: version(&go.etcd.version),
            architecture,
            depends: "",
            description: "etcdctl and etcdutl, of the etcd that control planes run",
            files: vec![
                program("usr/bin/etcdctl", go.etcd.dir.join("etcdctl")),
                program("usr/bin/etcdutl", go.etcd.dir.join("etcdutl")),
            ],
        },
    ]
}

/// A key made once for this cache. It guards nothing but this machine's own nodes, and has no passphrase, since it
/// signs unattended; its folder is readable by its owner alone.
fn signing_key(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.folder(progress, "make the key that signs packages", &Inputs::new("apt-key", 1), |dir| {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        let home = dir.join("gnupg");
        fs::create_dir(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        gpg(&home)
            .args(["--passphrase", "", "--quick-generate-key", "muster local packages", "ed25519", "sign", "never"])
            .output()?;
        gpg(&home).args(["--armor", "--export"]).into_file(&dir.join("key.asc"))?;
        stop_agent(&home);
        Ok(())
    })
}

fn gpg(home: &Path) -> Cmd {
    Cmd::new("gpg").arg("--homedir").arg(home).args([
        "--batch",
        "--yes",
        "--quiet",
        "--no-tty",
        "--pinentry-mode",
        "loopback",
    ])
}

/// gpg leaves a daemon for each home folder.
fn stop_agent(home: &Path) {
    Cmd::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "gpg-agent"]).succeeds();
}

fn sign(suite: &Path, key: &Path) -> Result<()> {
    let home = key.join("gnupg");
    let release = suite.join("Release");
    gpg(&home).arg("--clearsign").arg("--output").arg(suite.join("InRelease")).arg(&release).output()?;
    gpg(&home)
        .args(["--armor", "--detach-sign"])
        .arg("--output")
        .arg(suite.join("Release.gpg"))
        .arg(&release)
        .output()?;
    stop_agent(&home);
    Ok(())
}

/// Debian's packages with everything that the node image lacks, recompressed.
pub fn from_debian(cache: &Cache, progress: &Progress, node: &MachineImage) -> Result<PathBuf> {
    let architecture = architecture()?;
    let inputs = Inputs::new("debian", 1).text(&node.tag).text(&architecture).texts(FROM_DEBIAN.iter().copied());
    cache.folder(progress, "download the packages that nodes install", &inputs, |dir| {
        let log = cache.new_log("debian");
        let apt = tempfile::tempdir_in(dir)?;
        let root = apt.path();
        for folder in ["lists/partial", "archives/partial", "preferences.d"] {
            fs::create_dir_all(root.join(folder))?;
        }
        Cmd::new("tar").arg("-xOf").arg(&node.rootfs).arg("./var/lib/dpkg/status").into_file(&root.join("status"))?;
        fs::write(root.join("sources.list"), sources(&rootfs::mirrors()))?;

        let option = |name: &str, value: &str| format!("--option={name}={value}");
        let at = |name: &str, file: &str| option(name, &root.join(file).display().to_string());
        let apt_get = || {
            Cmd::new("apt-get")
                .arg(at("Dir::State::lists", "lists"))
                .arg(at("Dir::State::status", "status"))
                .arg(at("Dir::Cache::archives", "archives"))
                .arg(at("Dir::Cache::pkgcache", "pkgcache.bin"))
                .arg(at("Dir::Cache::srcpkgcache", "srcpkgcache.bin"))
                .arg(at("Dir::Etc::sourcelist", "sources.list"))
                .arg(option("Dir::Etc::sourceparts", "/dev/null"))
                .arg(at("Dir::Etc::preferencesparts", "preferences.d"))
                .arg(option("Dir::Etc::preferences", "/dev/null"))
                .arg(option("APT::Architecture", &architecture))
                .arg(option("APT::Sandbox::User", ""))
                .arg(option("APT::Update::Post-Invoke-Success::", "/bin/true"))
                .arg(option("Debug::NoLocking", "true"))
        };
        apt_get().arg("update").log(&log)?;
        apt_get()
            .args(["install", "--yes", "--no-install-recommends", "--download-only"])
            .args(FROM_DEBIAN)
            .log(&log)?;

        let debs: Vec<PathBuf> = sorted_files(&root.join("archives"))?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "deb"))
            .collect();
        if debs.is_empty() {
            bail!("apt downloaded nothing; see {}", log.display());
        }
        for deb in debs {
            let name = deb.file_name().context("a package without a name")?;
            deb::recompress(&deb, &dir.join(name), root)?;
        }
        Ok(())
    })
}

fn sources(mirrors: &[String]) -> String {
    let default;
    let mirrors = if mirrors.is_empty() {
        default = [
            format!("deb http://deb.debian.org/debian {} main", rootfs::SUITE),
            format!("deb http://deb.debian.org/debian {}-updates main", rootfs::SUITE),
            format!("deb http://deb.debian.org/debian-security {}-security main", rootfs::SUITE),
        ];
        &default[..]
    } else {
        mirrors
    };
    mirrors.iter().map(|line| line.replacen("deb ", &format!("deb [signed-by={KEYRING}] "), 1) + "\n").collect()
}

/// Writes `Packages` and `Release` for the packages in `pool/`.
fn write_indexes(dir: &Path, architecture: &str) -> Result<()> {
    let mut packages = String::new();
    for deb in sorted_files(&dir.join("pool"))? {
        let control = Cmd::new("dpkg-deb").arg("--field").arg(&deb).output()?;
        let name = deb.file_name().context("a package without a name")?.to_string_lossy().into_owned();
        packages.push_str(&package_entry(&control, &format!("pool/{name}"), fs::metadata(&deb)?.len(), &sha256(&deb)?));
    }
    let suite = dir.join("dists").join(SUITE);
    let index = format!("{COMPONENT}/binary-{architecture}/Packages");
    let path = suite.join(&index);
    fs::create_dir_all(path.parent().context("an index without a folder")?)?;
    fs::write(&path, &packages)?;
    // The date is what apt guards against replay with; ours never changes under one content.
    let date = Cmd::new("date").args(["--utc", "-R"]).output()?;
    let release = format!(
        "Origin: muster\nLabel: muster\nSuite: {SUITE}\nCodename: {SUITE}\nDate: {}\nArchitectures: {architecture}\nComponents: {COMPONENT}\n\
         Description: packages for the nodes of local environments\nSHA256:\n {} {} {index}\n",
        date.trim(),
        sha256(&path)?,
        packages.len(),
    );
    fs::write(suite.join("Release"), release)?;
    Ok(())
}

/// One stanza of a `Packages` file: a package's control fields and where to get it.
fn package_entry(control: &str, filename: &str, size: u64, sha256: &str) -> String {
    format!("{}\nFilename: {filename}\nSize: {size}\nSHA256: {sha256}\n\n", control.trim_end())
}

fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

fn sorted_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

fn folder_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has no plain name", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_ends_with_a_blank_line() {
        let entry = package_entry("Package: a\nVersion: 1\nDescription: x\n more\n", "pool/a_1_all.deb", 7, "ff");
        assert_eq!(
            entry,
            "Package: a\nVersion: 1\nDescription: x\n more\nFilename: pool/a_1_all.deb\nSize: 7\nSHA256: ff\n\n"
        );
    }

    #[test]
    fn sources_are_bound_to_debians_key() {
        let text = sources(&["deb http://mirror.example/debian/ bookworm main".to_owned()]);
        assert_eq!(text, format!("deb [signed-by={KEYRING}] http://mirror.example/debian/ bookworm main\n"));
        assert_eq!(sources(&[]).lines().count(), 3);
    }
}
