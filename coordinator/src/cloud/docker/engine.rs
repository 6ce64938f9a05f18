//! The connection to the daemon, and what belongs to an environment as a whole.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions},
};
use tracing::debug;

use super::{container::Found, error::DockerError, scope::Scope};

/// Where Docker listens by default.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Seconds; creating a container may copy an image's files into a volume.
const TIMEOUT: u64 = 120;

/// The socket of this machine's daemon, which a value of `DOCKER_HOST` names; the default one without a value.
///
/// # Errors
///
/// Another kind of address: nodes are reached by their addresses on this machine.
pub fn socket(host: Option<&OsStr>) -> Result<PathBuf, DockerError> {
    let Some(host) = host.filter(|host| !host.is_empty()) else { return Ok(DEFAULT_SOCKET.into()) };
    let path = host.to_str().and_then(|host| host.strip_prefix("unix://")).filter(|path| path.starts_with('/'));
    path.map(PathBuf::from).ok_or_else(|| DockerError::Host { host: host.to_string_lossy().into_owned() })
}

/// [`socket`] by this process's environment.
pub fn own_socket() -> Result<PathBuf, DockerError> {
    socket(std::env::var_os("DOCKER_HOST").as_deref())
}

/// A daemon that answered.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) docker: Docker,
}

impl Engine {
    /// Connects and asks for a sign of life.
    pub async fn connect(socket: &Path) -> Result<Self, DockerError> {
        let socket_path = || PathBuf::from(socket);
        if !socket.exists() {
            return Err(DockerError::NoSocket { socket: socket_path() });
        }
        let uri = format!("unix://{}", socket.display());
        let docker = Docker::connect_with_unix(&uri, TIMEOUT, API_DEFAULT_VERSION)
            .map_err(|source| DockerError::Lost { what: format!("connect to {uri}"), source })?;
        // Our own connection attempt tells "refused" from "forbidden"; the client's error hides it.
        match tokio::net::UnixStream::connect(socket).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(DockerError::Permission { socket: socket_path() });
            }
            Err(_) => return Err(DockerError::NotRunning { socket: socket_path() }),
        }
        docker.ping().await.map_err(|error| DockerError::of("reach Docker", error))?;
        Ok(Self { docker })
    }

    /// Whether an image is on this machine.
    pub async fn has_image(&self, image: &str) -> Result<bool, DockerError> {
        match self.docker.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(error) if super::error::absent(&error) => Ok(false),
            Err(error) => Err(DockerError::of(format!("look at image {image}"), error)),
        }
    }

    /// The images of these repositories as `NAME:TAG`, sorted.
    pub async fn images(&self, repositories: &[&str]) -> Result<Vec<String>, DockerError> {
        let filters =
            HashMap::from([("reference".to_owned(), repositories.iter().map(|name| format!("{name}:*")).collect())]);
        let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
        let images = self.docker.list_images(Some(options)).await;
        let images = images.map_err(|error| DockerError::of("list images", error))?;
        let ours = |tag: &String| repositories.iter().any(|name| tag.split(':').next() == Some(name));
        let mut tags: Vec<String> = images.into_iter().flat_map(|image| image.repo_tags).filter(ours).collect();
        tags.sort();
        Ok(tags)
    }

    /// The youngest image of a repository, as `NAME:TAG`.
    pub async fn newest_image(&self, repository: &str) -> Result<Option<String>, DockerError> {
        let filters = HashMap::from([("reference".to_owned(), vec![format!("{repository}:*")])]);
        let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
        let images = self.docker.list_images(Some(options)).await;
        let images = images.map_err(|error| DockerError::of("list images", error))?;
        let youngest = images.into_iter().filter(|image| !image.repo_tags.is_empty()).max_by_key(|image| image.created);
        Ok(youngest
            .and_then(|image| image.repo_tags.into_iter().find(|tag| tag.starts_with(&format!("{repository}:")))))
    }

    /// All containers of the environment, stopped ones included.
    pub async fn containers(&self, scope: &Scope) -> Result<Vec<Found>, DockerError> {
        let options = ListContainersOptions { all: true, filters: Some(scope.filter()), ..Default::default() };
        let list = self.docker.list_containers(Some(options)).await;
        Ok(list.map_err(|error| DockerError::of("list containers", error))?.into_iter().map(Found::from).collect())
    }

    /// Removes every container, volume and network of the environment, disks and their data included, and nothing else.
    /// Returns how many of each. Safe to call again after a crash.
    pub async fn remove_all(&self, scope: &Scope) -> Result<Removed, DockerError> {
        let mut removed = Removed::default();
        // The coordinator first: it would put back what goes.
        let mut containers = self.containers(scope).await?;
        containers.sort_by_key(|found| found.role != "coordinator");
        let (first, rest): (Vec<_>, Vec<_>) = containers.iter().partition(|found| found.role == "coordinator");
        for group in [first, rest] {
            let removals = group.iter().map(|found| self.remove_container(&found.id));
            futures::future::try_join_all(removals).await?;
            removed.containers += group.len();
        }
        for volume in self.volumes(scope).await? {
            debug!(volume, "remove volume");
            self.remove_volume(&volume).await?;
            removed.volumes += 1;
        }
        let options = ListNetworksOptions { filters: Some(scope.filter()) };
        let networks = self.docker.list_networks(Some(options)).await;
        for network in networks.map_err(|error| DockerError::of("list networks", error))? {
            let id = network.id.unwrap_or_default();
            match self.docker.remove_network(&id).await {
                Ok(()) => removed.networks += 1,
                Err(error) if super::error::absent(&error) => {}
                Err(error) => {
                    let name = network.name.unwrap_or(id);
                    return Err(DockerError::of(format!("remove network {name}"), error));
                }
            }
        }
        Ok(removed)
    }

    /// Names of the environment's volumes, anonymous ones of nodes included.
    pub async fn volumes(&self, scope: &Scope) -> Result<Vec<String>, DockerError> {
        let options = ListVolumesOptions { filters: Some(scope.filter()) };
        let list = self.docker.list_volumes(Some(options)).await;
        let list = list.map_err(|error| DockerError::of("list volumes", error))?;
        Ok(list.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }
}

/// What [`Engine::remove_all`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub containers: usize,
    pub volumes: usize,
    pub networks: usize,
}
