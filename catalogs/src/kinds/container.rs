//! `[[container]]`: a Docker container that runs on the node itself, outside Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Presence, SecretName, Signal};

/// A Docker container, kept running, also over a boot. Equal is the specification that it was made from, which it carries as a label; what
/// somebody changed within it since is left alone. A changed specification replaces it: the old one is set aside as
/// `NAME.muster-replaced`, and put back where the new one does not stay up. That one is kept as `NAME.muster-failed`, and while
/// the old one runs it is tried again after an hour, or once it is removed. Data is never deleted: volumes that the old one had
/// without a name are mounted in the new one at their places, and with `absent` all volumes stay. What it wrote outside of
/// volumes goes with it. A tag that moves in the registry is not followed: name another tag, or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a container")]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    #[schemars(extend("format" = "file-name"))]
    pub name: String,
    #[schemars(extend("format" = "image"))]
    pub image: String,
    /// Arguments; absent: the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// `host:container[/udp]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// `source:target[:ro]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Docker's network, or `container:NAME` for that of another container; absent: its default bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// True takes over a container of this name that muster did not make, and replaces it. Without it that is an error, and so it
    /// is where another tool manages it (Docker Compose, say) or another container lives in its network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// What a port of the node is called as a claim.
pub(crate) const PORT: &str = "port";

/// The node's side of a port, however it is written: `8080/tcp` at every address, `127.0.0.1:8080/tcp` at one.
fn published(port: &str) -> String {
    let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let host = port.rsplit_once(':').map_or(port, |(host, _)| host);
    let (address, number) = host.rsplit_once(':').unwrap_or(("", host));
    let number = number.parse::<u16>().map_or_else(|_| number.to_owned(), |number| number.to_string());
    match address {
        "" | "0.0.0.0" => format!("{number}/{protocol}"),
        one => format!("{one}:{number}/{protocol}"),
    }
}

impl ContainerSpec {
    /// Where the container that is being replaced waits.
    pub fn aside(&self) -> String {
        format!("{}.muster-replaced", self.name)
    }

    /// The container whose network it shares.
    pub fn lives_in(&self) -> Option<&str> {
        self.network.as_ref()?.strip_prefix("container:")
    }

    /// Where one waits that did not stay up when it was to replace another.
    pub fn failed(&self) -> String {
        format!("{}.muster-failed", self.name)
    }
}

impl Kind for ContainerSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        let ports = self.ports.iter().filter(|_| !self.absent).map(|port| Claim::new(PORT, published(port)));
        std::iter::once(Claim::new("container", &self.name)).chain(ports).collect()
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Named("service", "docker".to_owned()), Need::Named("image", self.image.clone())];
        needs.extend(self.lives_in().map(|host| Need::Named("container", host.to_owned())));
        for volume in &self.volumes {
            let source = volume.split(':').next().unwrap_or_default();
            if source.starts_with('/') {
                needs.push(Need::Within(source.to_owned()));
                needs.push(Need::Above(source.to_owned()));
            }
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        self.volumes
            .iter()
            .filter_map(|volume| volume.split(':').next())
            .filter(|source| source.starts_with('/'))
            .map(Owned::tree)
            .collect()
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Call
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Container(self.name.clone())]
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut taken = BTreeSet::new();
        for port in &self.ports {
            let (numbers, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let parts: Vec<&str> = numbers.split(':').collect();
            let good = ["tcp", "udp"].contains(&protocol)
                && (parts.len() == 2 || parts.len() == 3)
                && parts.iter().rev().take(2).all(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
            if !good {
                faults.push(Fault::new(
                    "ports",
                    format!("`{port}` is no port"),
                    "expected \"host:container\", as in \"8080:80\" or \"53:53/udp\"",
                ));
            } else if !taken.insert(published(port)) {
                let label = "expected each port of the node once";
                faults.push(Fault::new("ports", format!("`{port}` takes a port that is taken"), label));
            }
        }
        for volume in &self.volumes {
            let parts: Vec<&str> = volume.split(':').collect();
            let good = (parts.len() == 2 || (parts.len() == 3 && parts[2] == "ro"))
                && !parts[0].is_empty()
                && parts[1].starts_with('/')
                && !parts.iter().any(|p| p.split('/').any(|p| p == ".."));
            if !good {
                faults.push(Fault::new(
                    "volumes",
                    format!("`{volume}` is no volume"),
                    "expected \"source:/target\" or \"source:/target:ro\"",
                ));
            }
        }
        faults
    }
}
