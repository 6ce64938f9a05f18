//! What can go wrong with Docker, in an admin's words, each with what to do.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::cloud::CloudError;

/// Why Docker did not do it.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("DOCKER_HOST is {host}, which is no Unix socket of this machine")]
    Host { host: String },
    #[error("there is no Docker socket at {}", socket.display())]
    NoSocket { socket: PathBuf },
    #[error("no permission on the Docker socket {}", socket.display())]
    Permission { socket: PathBuf },
    #[error("Docker does not answer at {}", socket.display())]
    NotRunning { socket: PathBuf },
    #[error("image {image} is not on this machine")]
    Image { image: String },
    #[error("subnet {subnet} is in use by {holder}")]
    Subnet { subnet: IpNet, holder: String },
    #[error("network {network} exists with subnet {found}, not {wanted}")]
    OtherSubnet { network: String, found: String, wanted: IpNet },
    #[error("the name {name} belongs to another container ({id})")]
    Name { name: String, id: String },
    #[error("container {name} was made with other parameters under the same token")]
    Parameters { name: String },
    #[error("the {what} {name} exists and is not muster's")]
    Foreign { what: &'static str, name: String },
    #[error("address {address} is in use by {holder}")]
    Address { address: String, holder: String },
    #[error("port {port} is in use on this machine")]
    Port { port: String },
    #[error("the volume of disk {disk} is gone, and its data with it")]
    DiskGone { disk: String },
    #[error("no space is left on Docker's disk")]
    DiskFull,
    #[error("haproxy refuses its configuration: {0}")]
    Balancer(String),
    #[error("container {name} ended at once: {log}")]
    Ended { name: String, log: String },
    #[error("nothing listens at {front} yet")]
    Deaf { front: std::net::SocketAddr },
    #[error("container {id} of {name} is not there to be started")]
    Gone { name: String, id: String },
    #[error("Docker is removing {name} just now")]
    Removing { name: String },
    #[error("could not {what}")]
    Slow { what: String },
    #[error("could not {what}: Docker answers {status}: {message}")]
    Refused { what: String, status: u16, message: String },
    #[error("could not {what}")]
    Lost {
        what: String,
        #[source]
        source: bollard::errors::Error,
    },
}

impl DockerError {
    /// What to do about it; absent: try again.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Host { .. } => {
                "nodes are containers on this machine: unset DOCKER_HOST, or let it be like unix:///var/run/docker.sock".to_owned()
            }
            Self::NoSocket { .. } => "install docker.io and start it; `cargo xtask up` does both".to_owned(),
            Self::Permission { .. } => {
                "run as root, or put your user into the group docker: usermod -aG docker $USER, then log in again".to_owned()
            }
            Self::NotRunning { .. } => "start the daemon: systemctl start docker, or run dockerd".to_owned(),
            Self::Image { .. } => "build the images: cargo xtask artefacts".to_owned(),
            Self::Subnet { .. } | Self::OtherSubnet { .. } => {
                "give the environment another subnet: [provider.docker] subnet = \"10.90.0.0/16\", or remove the other network"
                    .to_owned()
            }
            Self::Name { name, .. } => format!("look at it: docker inspect {name}; remove or rename it if it is not needed"),
            Self::Parameters { name } => format!("remove it, and it is made again as planned: docker rm -fv {name}"),
            Self::Foreign { what, name } => format!("rename or remove the {what} {name}; muster leaves it alone"),
            Self::Address { holder, .. } => format!("disconnect {holder} from the network, or remove it"),
            Self::Port { port } => format!("find who listens there: ss -ltnp sport = :{port}"),
            Self::DiskGone { disk } => {
                format!("restore a backup; to begin with an empty disk give it another name than {disk} in the site")
            }
            Self::DiskFull => "make room: docker system df shows what uses it".to_owned(),
            Self::Balancer(_) => "this is a fault of muster: the old configuration stays in use".to_owned(),
            Self::Ended { name, .. } => format!("docker logs {name}"),
            Self::Slow { .. } => "is the machine overloaded? docker stats; the daemon's log says more".to_owned(),
            Self::Refused { status, .. } if *status < 500 => "docker events and the daemon's log say more".to_owned(),
            Self::Deaf { .. } | Self::Gone { .. } | Self::Removing { .. } | Self::Refused { .. } | Self::Lost { .. } => return None,
        };
        Some(hint)
    }

    /// From an answer of the daemon to `what`, as in "create container x".
    pub(super) fn of(what: impl Into<String>, error: bollard::errors::Error) -> Self {
        let what = what.into();
        match error {
            bollard::errors::Error::DockerResponseServerError { status_code, message } => {
                let lower = message.to_lowercase();
                if lower.contains("no space left on device") {
                    Self::DiskFull
                } else if let Some(image) = message.strip_prefix("No such image: ") {
                    Self::Image { image: image.to_owned() }
                } else if lower.contains("port is already allocated") {
                    let port = message.split("0.0.0.0:").nth(1).unwrap_or(&message);
                    let port = port.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                    Self::Port { port: port.to_owned() }
                } else {
                    Self::Refused { what, status: status_code, message }
                }
            }
            source => Self::Lost { what, source },
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Whether the daemon says that there is no such thing.
pub(super) fn absent(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

impl From<DockerError> for CloudError {
    fn from(error: DockerError) -> Self {
        match error.hint() {
            Some(hint) => CloudError::Final { what: error.to_string(), hint },
            None => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                CloudError::Passing(format!("{error}{}", source.unwrap_or_default()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> DockerError {
        let message = message.to_owned();
        DockerError::of("try", bollard::errors::Error::DockerResponseServerError { status_code, message })
    }

    #[test]
    fn the_daemons_words_become_ours() {
        let full = answer(500, "write /var/lib/docker/x: no space left on device");
        assert!(matches!(full, DockerError::DiskFull));
        let image = answer(404, "No such image: muster-node:abc");
        assert_eq!(image.to_string(), "image muster-node:abc is not on this machine");
        assert_eq!(image.hint().as_deref(), Some("build the images: cargo xtask artefacts"));
        let port = answer(500, "driver failed: Bind for 0.0.0.0:8080 failed: port is already allocated");
        assert_eq!(port.to_string(), "port 8080 is in use on this machine");
        assert!(matches!(CloudError::from(answer(500, "hm")), CloudError::Passing(_)));
        assert!(matches!(CloudError::from(answer(400, "hm")), CloudError::Final { .. }));
    }
}
