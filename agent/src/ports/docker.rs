//! The Docker daemon of this node: images and containers that run outside Kubernetes.

use std::collections::BTreeMap;

use futures::stream::BoxStream;
use muster_catalog::kinds::container::ContainerSpec;
use muster_plan::kinds::container::Volume;

/// Images and containers.
#[async_trait::async_trait]
pub trait Docker: Send + Sync {
    /// The image's id, where it is here.
    async fn image(&self, name: &str) -> Result<Option<String>, DockerError>;
    async fn pull(&self, name: &str) -> Result<(), DockerError>;
    async fn container(&self, name: &str) -> Result<Option<ContainerState>, DockerError>;
    /// Creates it, with these volumes besides its own; the image must be here.
    async fn create(
        &self,
        spec: &ContainerSpec,
        labels: &BTreeMap<String, String>,
        volumes: &[Volume],
    ) -> Result<(), DockerError>;
    /// Starts it, also where it is paused; no error where it runs.
    async fn start(&self, name: &str) -> Result<(), DockerError>;
    /// Asks it to end, and makes it after ten seconds; no error where it does not run.
    async fn stop(&self, name: &str) -> Result<(), DockerError>;
    async fn restart(&self, name: &str) -> Result<(), DockerError>;
    /// Docker starts it again whenever it ends, and after a boot, unless it was stopped.
    async fn keep_up(&self, name: &str) -> Result<(), DockerError>;
    async fn rename(&self, from: &str, to: &str) -> Result<(), DockerError>;
    /// Stops and removes, and leaves all of its volumes; no error where it is gone already.
    async fn remove(&self, name: &str) -> Result<(), DockerError>;
    /// The last lines that it wrote.
    async fn last_words(&self, name: &str, lines: u32) -> Result<Vec<String>, DockerError>;
    /// The names of the containers that live in its namespaces.
    async fn lodgers(&self, name: &str) -> Result<Vec<String>, DockerError>;
    /// What happens to containers and images, until the daemon goes away.
    fn events(&self) -> BoxStream<'static, DockerEvent>;
}

/// A container as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerState {
    pub id: String,
    /// The id of the container whose network it shares.
    pub lives_in: Option<String>,
    /// It runs, is not paused, and is not between two starts.
    pub running: bool,
    /// How often Docker started it again by itself since it was started.
    pub restarts: u64,
    /// A name for its present run, or for the last one: another one after each start.
    pub run: String,
    /// Seconds since it was last started.
    pub up: u64,
    /// Docker starts it again whenever it ends, and after a boot.
    pub kept_up: bool,
    /// Seconds since its last end, or since it was made where it never ran.
    pub down: u64,
    /// The status of its last end.
    pub status: i64,
    pub labels: BTreeMap<String, String>,
    /// The id of the image that it was made from.
    pub image: String,
    /// The image as it was asked for.
    pub image_name: String,
    pub volumes: Vec<Volume>,
    /// Docker removes it, and its volumes without a name, when it ends (`--rm`).
    pub goes_when_it_ends: bool,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerEvent {
    Container { name: String },
    Image { name: String },
}

/// Docker did not do it.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("the Docker daemon does not answer on /var/run/docker.sock")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the registry does not answer for image {image}")]
    Registry {
        image: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("no registry has image {image}")]
    NoImage { image: String },
    #[error("port {port} is in use already")]
    PortInUse { port: String },
    #[error("containerd does not answer Docker")]
    Containerd(String),
    #[error("Docker refuses: {0}")]
    Refused(String),
}

impl From<DockerError> for crate::StepError {
    fn from(error: DockerError) -> Self {
        match error {
            DockerError::Unreachable(source) => {
                Self::failed("the Docker daemon does not answer on /var/run/docker.sock")
                    .because(source)
                    .help("is Docker installed and running? a service resource `docker` keeps it so")
                    .retry()
            }
            DockerError::Registry { image, source } => {
                Self::failed(format!("the registry does not answer for image {image}"))
                    .because(source)
                    .help("is the registry up, and can this node reach it?")
                    .retry()
            }
            DockerError::NoImage { image } => Self::failed(format!("no registry has image {image}"))
                .help("check name and tag; images without a registry's name come from Docker Hub")
                .retry(),
            DockerError::PortInUse { port } => Self::failed(format!("port {port} is in use already"))
                .help("free it, or give the container another host port")
                .retry(),
            DockerError::Containerd(why) => Self::failed("containerd does not answer Docker")
                .because(why)
                .help("does containerd run? a service resource `containerd` keeps it so")
                .retry(),
            DockerError::Refused(why) if why.contains("network") && why.contains("not found") => {
                Self::failed(format!("Docker refuses: {why}"))
                    .help("a [[command]] with `docker network create` may make it: name that in `after`")
            }
            DockerError::Refused(why) => Self::failed(format!("Docker refuses: {why}")),
        }
    }
}
