//! What a machine is told before it is a node: where the coordinator is and which CA it has (`agent.toml`, no secret), and
//! the provider's proof of what this machine is (`instance.json`, mode 0600).

use std::path::Path;

use muster_ids::{ClusterName, Digest, EnvName, NodeName};
use muster_proto::Realm;
use serde::Deserialize;

use super::disk::{self, DiskError};

/// `/etc/muster/agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// `host:port`.
    pub coordinator: String,
    /// The SHA-256 of the CA's certificate (DER), in hexadecimal.
    pub ca_pin: Digest,
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// Seconds between two converges that nothing woke.
    #[serde(default = "five_minutes")]
    pub converge_every: u64,
}

fn five_minutes() -> u64 {
    300
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration cannot be read")]
    Read(#[from] DiskError),
    #[error("there is no {0}")]
    Missing(String),
    #[error("{path} is not as it must be")]
    Toml {
        path: String,
        #[source]
        source: toml::de::Error,
    },
    #[error("{path} is not as it must be")]
    Json {
        path: String,
        #[source]
        source: serde_json::Error,
    },
}

impl AgentConfig {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = disk::read(path)?.ok_or_else(|| ConfigError::Missing(path.display().to_string()))?;
        toml::from_slice(&bytes).map_err(|source| ConfigError::Toml { path: path.display().to_string(), source })
    }

    pub fn realm(&self) -> Realm {
        Realm { cluster: self.cluster.clone(), environment: self.environment.clone() }
    }
}

/// `instance.json`: the single-use token, and whose it is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub token: String,
    /// The provider's id of this machine.
    pub instance: String,
    pub node: NodeName,
}

impl Instance {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = disk::read(path)?.ok_or_else(|| ConfigError::Missing(path.display().to_string()))?;
        serde_json::from_slice(&bytes).map_err(|source| ConfigError::Json { path: path.display().to_string(), source })
    }
}

/// Without the token.
impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("instance", &self.instance).field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_four_lines() {
        let text = format!(
            "coordinator = \"10.89.0.2:7443\"\nca_pin = \"{}\"\ncluster = \"easypay\"\nenvironment = \"local\"\n",
            Digest::of("ca")
        );
        let config: AgentConfig = toml::from_str(&text).unwrap();
        assert_eq!((config.realm().to_string().as_str(), config.converge_every), ("easypay/local", 300));
        assert!(toml::from_str::<AgentConfig>(&format!("{text}colour = \"red\"\n")).is_err());
    }

    #[test]
    fn a_token_is_not_printed() {
        let text = r#"{"token": "sesame", "instance": "i-1", "node": "workers-1"}"#;
        let instance: Instance = serde_json::from_str(text).unwrap();
        assert_eq!(instance.token, "sesame");
        assert!(!format!("{instance:?}").contains("sesame"));
    }
}
