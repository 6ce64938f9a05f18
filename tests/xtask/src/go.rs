//! Builds Kubernetes, etcd and CoreDNS from pinned Go modules: no container registry or package archive of theirs is needed.
//!
//! The versions stand in `tests/artefacts/*/go.mod` alone. With a filled module cache no network is used; the local
//! toolchain is always the one that builds. None of the fetched source enters the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, Inputs};
use crate::command::{Cmd, find, search_path};
use crate::progress::Progress;

const AGNHOST_VERSION: &str = "agnhost.version";

/// What is built of one Go module.
struct Module {
    /// The artefact's kind, and the folder under `tests/artefacts` with its go.mod.
    name: &'static str,
    /// The required module that gives the version.
    versioned_by: &'static str,
    /// Package path and the name that its program gets.
    programs: &'static [(&'static str, &'static str)],
    /// The same of packages whose tests become a program.
    tests: &'static [(&'static str, &'static str)],
}

const KUBERNETES: Module = Module {
    name: "kubernetes",
    versioned_by: "k8s.io/kubernetes",
    programs: &[
        ("k8s.io/kubernetes/cmd/kubeadm", "kubeadm"),
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
        ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
        ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
        ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
        ("k8s.io/kubernetes/test/images/agnhost", "agnhost"),
    ],
    tests: &[],
};

const ETCD: Module = Module {
    name: "etcd",
    versioned_by: "go.etcd.io/etcd/server/v3",
    programs: &[
        ("go.etcd.io/etcd/server/v3", "etcd"),
        ("go.etcd.io/etcd/etcdctl/v3", "etcdctl"),
        ("go.etcd.io/etcd/etcdutl/v3", "etcdutl"),
    ],
    tests: &[],
};

const COREDNS: Module = Module {
    name: "coredns",
    versioned_by: "github.com/coredns/coredns",
    programs: &[("github.com/coredns/coredns", "coredns")],
    tests: &[],
};

/// Upstream's end-to-end tests, and what runs them side by side: minutes of work, so a module of its own, built when asked for.
const E2E: Module = Module {
    name: "e2e",
    versioned_by: KUBERNETES.versioned_by,
    programs: &[("github.com/onsi/ginkgo/v2/ginkgo", "ginkgo")],
    tests: &[("k8s.io/kubernetes/test/e2e", "e2e.test")],
};

/// Programs of one module.
pub struct Programs {
    /// The folder that holds them.
    pub dir: PathBuf,
    /// `v1.34.4`.
    pub version: String,
}

/// Everything that Go builds.
pub struct GoArtefacts {
    pub kubernetes: Programs,
    pub etcd: Programs,
    pub coredns: Programs,
    /// The images that this kubeadm asks for, in its own spelling.
    pub images: Vec<ImageName>,
    /// The tag under which this Kubernetes' end-to-end suite asks for agnhost: `2.56`.
    pub agnhost_tag: String,
    /// A folder with the certificate that agnhost serves with.
    pub agnhost_files: PathBuf,
}

/// Upstream's end-to-end tests.
pub struct EndToEnd {
    pub program: PathBuf,
    /// What runs several specs side by side.
    pub runner: PathBuf,
    /// The kubectl that specs call.
    pub kubectl: PathBuf,
    pub version: String,
}

/// An image as kubeadm lists it, without its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// `coredns/coredns`.
    pub repository: String,
    /// `v1.12.1`.
    pub tag: String,
}

/// Builds all of it, one module after the other, for each uses every core.
pub fn build(cache: &Cache, progress: &Progress, modules: &Path) -> Result<GoArtefacts> {
    let go = compiler()?;
    let kubernetes = module(cache, progress, modules, &go, &KUBERNETES)?;
    let etcd = module(cache, progress, modules, &go, &ETCD)?;
    let coredns = module(cache, progress, modules, &go, &COREDNS)?;

    let listing = Cmd::new(kubernetes.dir.join("kubeadm"))
        .args(["config", "images", "list", "--kubernetes-version", &kubernetes.version])
        .output()?;
    let images = parse_images(&listing)?;
    // kubeadm pins its etcd as 3.6.5-0: upstream's packaging number follows ours.
    agrees(&images, "etcd", etcd.version.trim_start_matches('v'))?;
    agrees(&images, "coredns/coredns", &coredns.version)?;
    let agnhost_tag = fs::read_to_string(kubernetes.dir.join(AGNHOST_VERSION))
        .context("the built Kubernetes tells no version of agnhost")?;
    let agnhost_files = agnhost_files(cache, progress, modules, &go, &kubernetes.version)?;
    Ok(GoArtefacts { kubernetes, etcd, coredns, images, agnhost_tag: agnhost_tag.trim().to_owned(), agnhost_files })
}

/// Builds upstream's end-to-end tests.
pub fn end_to_end(cache: &Cache, progress: &Progress, modules: &Path) -> Result<EndToEnd> {
    let go = compiler()?;
    let kubernetes = module(cache, progress, modules, &go, &KUBERNETES)?;
    let e2e = module(cache, progress, modules, &go, &E2E)?;
    if e2e.version != kubernetes.version {
        bail!("tests/artefacts pins end-to-end tests of {} for Kubernetes {}", e2e.version, kubernetes.version);
    }
    let [program, runner] = ["e2e.test", "ginkgo"].map(|name| e2e.dir.join(name));
    Ok(EndToEnd { program, runner, kubectl: kubernetes.dir.join("kubectl"), version: e2e.version })
}

fn compiler() -> Result<PathBuf> {
    find("go").context("Go is not installed: see https://go.dev/doc/install, or put its `bin` folder on the PATH")
}

fn module(cache: &Cache, progress: &Progress, modules: &Path, go: &Path, module: &Module) -> Result<Programs> {
    let dir = modules.join(module.name);
    let go_mod = dir.join("go.mod");
    let text = fs::read_to_string(&go_mod).with_context(|| format!("cannot read {}", go_mod.display()))?;
    let version = required_version(&text, module.versioned_by)
        .with_context(|| format!("{} does not require {}", go_mod.display(), module.versioned_by))?;
    let compiler = Cmd::new(go).args(["env", "GOVERSION", "GOARCH"]).env("GOTOOLCHAIN", "local").output()?;
    let flags = linker_flags(module, &version)?;

    let inputs = Inputs::new(module.name, 1)
        .file(&go_mod)?
        .file(&dir.join("go.sum"))?
        .text(&compiler)
        .text(&flags)
        .texts(module.programs.iter().chain(module.tests).flat_map(|(package, program)| [*package, *program]));
    let title = format!("build {} {version} from its Go modules", module.name);
    let dir = cache.folder(progress, &title, &inputs, |out| {
        let log = cache.new_log(module.name);
        // By go's own naming into a folder, then renamed: one command shares the work of all programs.
        let packages = module.programs.iter().map(|(package, _)| package);
        let go_to = |verb: &[&str]| {
            Cmd::long(go)
                .args(verb)
                .args(["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", &flags])
                .dir(&dir)
                .env("CGO_ENABLED", "0")
                .env("GOTOOLCHAIN", "local")
                .env("PATH", search_path())
        };
        patiently(|| go_to(&["build"]).arg("-o").arg(format!("{}/", out.display())).args(packages.clone()).log(&log))?;
        for (package, program) in module.tests {
            patiently(|| go_to(&["test", "-c", "-vet=off"]).arg("-o").arg(out.join(program)).arg(package).log(&log))?;
        }
        for (package, program) in module.programs {
            let built = out.join(default_name(package));
            fs::rename(&built, out.join(program)).with_context(|| format!("go build made no {}", built.display()))?;
        }
        if module.name == KUBERNETES.name {
            let version = source(go, &dir)?.join("test/images/agnhost/VERSION");
            fs::copy(&version, out.join(AGNHOST_VERSION))
                .with_context(|| format!("cannot copy {}", version.display()))?;
        }
        Ok(())
    })?;
    Ok(Programs { dir, version })
}

/// Hundreds of modules come over the network, and go gives up at the first transfer that breaks. What has come and what is
/// compiled stays, so to begin again costs little, also where the cause is another.
fn patiently(mut run: impl FnMut() -> Result<()>) -> Result<()> {
    const TRIES: u32 = 3;
    for _failed in 1..TRIES {
        if run().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(5));
    }
    run()
}

/// What of agnhost's image is neither program nor Debian's.
fn agnhost_files(cache: &Cache, progress: &Progress, modules: &Path, go: &Path, version: &str) -> Result<PathBuf> {
    let inputs = Inputs::new("agnhost", 1).text(version);
    cache.folder(progress, "take agnhost's certificate from its module", &inputs, |out| {
        let porter = source(go, &modules.join(KUBERNETES.name))?.join("test/images/agnhost/porter");
        ["localhost.crt", "localhost.key"].into_iter().try_for_each(|name| {
            // By content, for the module cache is read-only and a copy of its mode would be too.
            let content = fs::read(porter.join(name)).with_context(|| format!("cannot read agnhost's {name}"))?;
            fs::write(out.join(name), content).with_context(|| format!("cannot write {name}"))
        })
    })
}

/// Where Go keeps the source of Kubernetes.
fn source(go: &Path, dir: &Path) -> Result<PathBuf> {
    let list = Cmd::new(go).args(["list", "-m", "-f", "{{.Dir}}", KUBERNETES.versioned_by]);
    Ok(PathBuf::from(list.dir(dir).env("GOTOOLCHAIN", "local").output()?.trim()))
}

/// kubeadm refuses to work with binaries that do not know their version, so it is linked in. The commit is not
/// upstream's, for these are our builds.
fn linker_flags(module: &Module, version: &str) -> Result<String> {
    let mut flags = String::from("-s -w");
    if module.versioned_by != KUBERNETES.versioned_by {
        return Ok(flags);
    }
    let mut parts = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else { bail!("`{version}` is no version") };
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", version),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitCommit", "muster"),
            ("gitTreeState", "clean"),
            ("buildDate", "1970-01-01T00:00:00Z"),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    Ok(flags)
}

/// The name that `go build` gives a package's program: the last element that is not a major version.
fn default_name(package: &str) -> &str {
    let is_major =
        |part: &&str| part.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    package.rsplit('/').find(|part| !is_major(part)).unwrap_or(package)
}

/// The version that a go.mod requires of a module.
fn required_version(go_mod: &str, module: &str) -> Option<String> {
    let mut words = go_mod.lines().map(|line| line.trim().trim_start_matches("require ").split_whitespace());
    words
        .find_map(|mut line| (line.next()? == module).then(|| line.next())?)
        .filter(|v| v.starts_with('v'))
        .map(str::to_owned)
}

fn parse_images(listing: &str) -> Result<Vec<ImageName>> {
    let parse = |line: &str| {
        let (_, path) = line.split_once('/')?;
        let (repository, tag) = path.rsplit_once(':')?;
        Some(ImageName { repository: repository.to_owned(), tag: tag.to_owned() })
    };
    listing
        .lines()
        .map(|line| parse(line.trim()).with_context(|| format!("kubeadm lists an image as `{line}`")))
        .collect()
}

/// Checks that the go.mod pins what kubeadm asks for.
fn agrees(images: &[ImageName], repository: &str, version: &str) -> Result<()> {
    let image = images.iter().find(|image| image.repository == repository);
    let image = image.with_context(|| format!("kubeadm lists no image {repository}"))?;
    if image.tag != version && !image.tag.starts_with(&format!("{version}-")) {
        bail!(
            "kubeadm asks for {repository}:{}, but tests/artefacts pins {version}: bring its go.mod to that version",
            image.tag
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_transfer_is_asked_for_again() {
        let mut runs = 0;
        let second = || {
            runs += 1;
            anyhow::ensure!(runs == 2, "unexpected EOF");
            Ok(())
        };
        patiently(second).unwrap();
        assert_eq!(runs, 2);
    }

    #[test]
    fn reads_versions_from_go_mod() {
        let text = "module m\n\nrequire k8s.io/kubernetes v1.34.4\n\nrequire (\n\tgo.etcd.io/etcd/server/v3 v3.6.5 // indirect\n)\n\
                    replace k8s.io/kubernetes => x v9.9.9\n";
        assert_eq!(required_version(text, "k8s.io/kubernetes").as_deref(), Some("v1.34.4"));
        assert_eq!(required_version(text, "go.etcd.io/etcd/server/v3").as_deref(), Some("v3.6.5"));
        assert_eq!(required_version(text, "no/such"), None);
    }

    #[test]
    fn names_programs_as_go_does() {
        assert_eq!(default_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(default_name("k8s.io/kubernetes/cmd/kubeadm"), "kubeadm");
    }

    #[test]
    fn reads_the_image_list_and_compares_it() {
        let images = parse_images("registry.k8s.io/coredns/coredns:v1.12.1\nregistry.k8s.io/etcd:3.6.5-0\n").unwrap();
        assert_eq!(images[0], ImageName { repository: "coredns/coredns".into(), tag: "v1.12.1".into() });
        assert!(agrees(&images, "etcd", "3.6.5").is_ok());
        assert!(agrees(&images, "etcd", "3.6.50").is_err());
        assert!(agrees(&images, "coredns/coredns", "v1.12.2").is_err());
        assert!(parse_images("nonsense").is_err());
    }

    #[test]
    fn kubernetes_is_told_its_version() {
        let flags = linker_flags(&KUBERNETES, "v1.34.4").unwrap();
        assert!(flags.contains("k8s.io/component-base/version.gitVersion=v1.34.4"));
        assert!(flags.contains("k8s.io/client-go/pkg/version.gitMinor=34"));
        assert_eq!(linker_flags(&ETCD, "v3.6.5").unwrap(), "-s -w");
    }
}
