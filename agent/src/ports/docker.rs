//! The Docker daemon of this node: images and containers that run outside Kubernetes.

use std::collections::BTreeMap;

use futures::stream::BoxStream;
use muster_catalog::kinds::container::ContainerSpec;

/// Images and containers.
#[async_trait::async_trait]
pub trait Docker: Send + Sync {
    /// The image's id, where it is here.
    async fn image(&self, name: &str) -> Result<Option<String>, DockerError>;
    async fn pull(&self, name: &str) -> Result<(), DockerError>;
    async fn container(&self, name: &str) -> Result<Option<ContainerState>, DockerError>;
    /// Creates and starts; pulls the image where it is missing.
    async fn run(&self, spec: &ContainerSpec, labels: &BTreeMap<String, String>) -> Result<(), DockerError>;
    async fn start(&self, name: &str) -> Result<(), DockerError>;
    async fn restart(&self, name: &str) -> Result<(), DockerError>;
    /// Stops and removes; no error where it is gone already.
    async fn remove(&self, name: &str) -> Result<(), DockerError>;
    /// What happens to containers and images, until the daemon goes away.
    fn events(&self) -> BoxStream<'static, DockerEvent>;
}

/// A container as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerState {
    pub running: bool,
    pub labels: BTreeMap<String, String>,
    /// The id of the image that it was made from.
    pub image: String,
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
            DockerError::Refused(why) => Self::failed(format!("Docker refuses: {why}")),
        }
    }
}
