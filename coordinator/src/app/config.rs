//! What the coordinator is told when its container is made: a small TOML file without a secret.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use muster_ids::{ClusterName, EnvName};
use muster_proto::Realm;
use serde::{Deserialize, Serialize};

/// `/etc/muster/coordinator.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// Holds the store, the keys and the local state. Made if absent.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// gRPC with mTLS.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Plain HTTP.
    #[serde(default = "http_listen")]
    pub http_listen: SocketAddr,
    /// The address that nodes reach this coordinator at.
    pub address: IpAddr,
    #[serde(default)]
    pub provider: ProviderKind,
    /// The agent's program, served to new nodes.
    #[serde(default = "agent_binary")]
    pub agent_binary: PathBuf,
    /// Image of new nodes.
    pub node_image: String,
    /// Image of load balancers.
    pub services_image: String,
    /// The public key of the environment's package repository, ASCII armour; templates see it as `local.apt_key`.
    #[serde(default)]
    pub apt_key: Option<String>,
    /// Capabilities of nodes, as read on the host.
    #[serde(default)]
    pub capabilities: Vec<String>,
    #[serde(default = "docker_socket")]
    pub docker_socket: PathBuf,
}

/// Which adapter of the cloud port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    #[default]
    Docker,
}

fn state_dir() -> PathBuf {
    "/var/lib/muster".into()
}

fn listen() -> SocketAddr {
    ([0, 0, 0, 0], 7443).into()
}

fn http_listen() -> SocketAddr {
    ([0, 0, 0, 0], 7480).into()
}

fn agent_binary() -> PathBuf {
    "/usr/local/bin/muster-agent".into()
}

fn docker_socket() -> PathBuf {
    crate::cloud::docker::DEFAULT_SOCKET.into()
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} cannot be read")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} is no configuration of a coordinator")]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })
    }

    pub fn realm(&self) -> Realm {
        Realm { cluster: self.cluster.clone(), environment: self.environment.clone() }
    }

    /// Values for templates that stand in no file of the site.
    pub(super) fn provided(&self) -> BTreeMap<String, serde_json::Value> {
        let local = serde_json::json!({ "apt_key": self.apt_key });
        self.apt_key.iter().map(|_| ("local".to_owned(), local.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_configuration_has_sensible_defaults() {
        let config: Config = toml::from_str(
            "cluster = \"easypay\"\nenvironment = \"local\"\naddress = \"10.89.0.2\"\n\
             node_image = \"muster-node:1\"\nservices_image = \"muster-services:1\"\n",
        )
        .unwrap();
        assert_eq!(config.listen.port(), 7443);
        assert_eq!(config.state_dir, Path::new("/var/lib/muster"));
        assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert!(toml::from_str::<Config>("cluster = \"a\"\nsecret = 1\n").is_err());
    }
}
