//! Makes everything that the local environment needs and that is not this workspace's own code.
//!
//! ```text
//! packages, Docker ─┬─ Go: Kubernetes, etcd, CoreDNS ─┬─ apt repository
//!                   ├─ node image ── Debian packages ─┤
//!                   └─ services image, image bases ───┴─ container registry, with easypay
//! ```
//!
//! The Go builds keep all cores busy for minutes; the images wait for the network and for dpkg, so the two lanes run side
//! by side. `muster up --artefacts FILE` reads the result from a JSON file, the [`Manifest`]:
//!
//! | key | value |
//! |---|---|
//! | `node_image`, `services_image` | tags in the local Docker daemon |
//! | `coordinator_image` | the same; absent until `cargo xtask build` made it |
//! | `apt_repository` | folder of static files to serve under `/debian`: suite `muster`, component `main` |
//! | `apt_key` | file with the public key that signs it |
//! | `registry` | docker-registry's `rootdirectory`, complete, to be served read-only |
//! | `kubernetes` | version, without a `v` |

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cache::{self, Cache, Inputs};
use crate::cargo;
use crate::go;
use crate::machine_images::{self, MachineImage};
use crate::progress::Progress;
use crate::repository;
use crate::{docker, images, packages};

/// What `muster up` is told of the artefacts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub node_image: String,
    pub services_image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinator_image: Option<String>,
    pub apt_repository: PathBuf,
    pub apt_key: PathBuf,
    pub registry: PathBuf,
    pub kubernetes: String,
}

impl Manifest {
    /// Where the manifest of a checkout lies: one file for each, so that two checkouts do not disturb each other.
    pub fn path(cache_root: &Path, checkout: &Path) -> PathBuf {
        let hash = Inputs::new("checkout", 1).bytes(checkout.as_os_str().as_encoded_bytes()).hash();
        cache_root.join("checkouts").join(hash).join("local.json")
    }

    /// The coordinator's image that an earlier run wrote down, if it is still there.
    pub fn former_coordinator(path: &Path) -> Option<String> {
        let former: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        former.coordinator_image.filter(|tag| docker::has_image(tag))
    }

    /// Writes the file whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write the manifest as JSON")?;
        text.push('\n');
        cache::write_atomically(path, text.as_bytes())
    }
}

/// All that was made: the manifest for `muster up`, and programs that tests call.
pub struct Artefacts {
    pub manifest: Manifest,
    pub kubectl: PathBuf,
    /// What a bare API server needs.
    pub plane: Plane,
    pub easypay: PathBuf,
}

/// The programs of a control plane, for tests that run them as plain processes.
#[derive(Debug, Clone)]
pub struct Plane {
    pub etcd: PathBuf,
    pub api_server: PathBuf,
    pub controller_manager: PathBuf,
}

/// Installs packages and starts Docker: what everything else assumes.
pub fn prepare(cache_root: &Path, progress: &Progress) -> Result<()> {
    let logs = cache_root.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    packages::install(packages::TO_RUN, progress, &logs.join("apt.log"))?;
    docker::start(progress, &logs.join("dockerd.log"))?;
    docker::raise_inotify_limit(progress)
}

/// Makes what is not there yet. `easypay` is the application's program, which cargo has built.
pub fn make(cache: &Cache, progress: &Progress, checkout: &Path, easypay: &Path) -> Result<Artefacts> {
    let easypay = cargo::stripped(cache, progress, "easypay", easypay)?;
    let (compiled, machines) = std::thread::scope(|scope| {
        let compiled = scope.spawn(|| go::build(cache, progress, &checkout.join("tests/artefacts")));
        let machines = scope.spawn(|| -> Result<(MachineImage, MachineImage)> {
            let node = machine_images::node(cache, progress)?;
            let services = machine_images::services(cache, progress)?;
            repository::from_debian(cache, progress, &node)?;
            images::bases(cache, progress)?;
            Ok((node, services))
        });
        (join(compiled), join(machines))
    });
    // Both errors count: one run should tell all that is wrong.
    let (go, (node, services)) = match (compiled, machines) {
        (Ok(compiled), Ok(machines)) => (compiled, machines),
        (Err(first), Err(second)) => return Err(first.context(format!("and also: {second:#}"))),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
    };

    let (repository, registry) = std::thread::scope(|scope| {
        let repository = scope.spawn(|| repository::make(cache, progress, &go, &node));
        let registry = scope.spawn(|| images::make(cache, progress, &go, &easypay));
        (join(repository), join(registry))
    });
    let repository = repository?;
    let manifest = Manifest {
        node_image: node.tag,
        services_image: services.tag,
        coordinator_image: None,
        apt_repository: repository.dir,
        apt_key: repository.key,
        registry: registry?,
        kubernetes: go.kubernetes.version.trim_start_matches('v').to_owned(),
    };
    let plane = Plane {
        etcd: go.etcd.dir.join("etcd"),
        api_server: go.kubernetes.dir.join("kube-apiserver"),
        controller_manager: go.kubernetes.dir.join("kube-controller-manager"),
    };
    Ok(Artefacts { manifest, kubectl: go.kubernetes.dir.join("kubectl"), plane, easypay })
}

/// A thread's result; its panic is ours.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
