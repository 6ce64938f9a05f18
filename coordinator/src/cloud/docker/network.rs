//! The nodes' network: a bridge with a fixed subnet.

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use ipnet::IpNet;

use super::{
    engine::Engine,
    error::{DockerError, absent},
    scope::{LABEL, Role, Scope},
};

impl Engine {
    /// Makes the network or finds it as it should be. Returns its id.
    pub async fn ensure_network(&self, scope: &Scope, subnet: IpNet) -> Result<String, DockerError> {
        let name = scope.network();
        if let Some(network) = self.network(&name).await? {
            return found(&name, scope, subnet, &network);
        }
        let gateway = subnet.hosts().next().map(|address| address.to_string());
        let config = IpamConfig { subnet: Some(subnet.to_string()), gateway, ..Default::default() };
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config: Some(vec![config]), ..Default::default() }),
            labels: Some(scope.labels(Role::Network)),
            ..Default::default()
        };
        match self.docker.create_network(request).await {
            Ok(created) => Ok(created.id),
            Err(error) => {
                let error = DockerError::of(format!("create network {name}"), error);
                // Someone else was quicker, or the address range is taken.
                if let Some(network) = self.network(&name).await? {
                    return found(&name, scope, subnet, &network);
                }
                let text = error.to_string();
                if text.contains("Pool overlaps") || text.contains("conflicts with") || text.contains("overlaps") {
                    return Err(DockerError::Subnet { subnet, holder: self.subnet_holder(subnet).await });
                }
                Err(error)
            }
        }
    }

    /// The network by name.
    pub(super) async fn network(&self, name: &str) -> Result<Option<NetworkInspect>, DockerError> {
        match self.docker.inspect_network(name, None).await {
            Ok(network) => Ok(Some(network)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(DockerError::of(format!("look at network {name}"), error)),
        }
    }

    async fn subnet_holder(&self, subnet: IpNet) -> String {
        let networks = self.docker.list_networks(None).await.unwrap_or_default();
        let holder = networks.into_iter().find(|network| {
            let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
            configs
                .into_iter()
                .flatten()
                .filter_map(|config| config.subnet.as_ref()?.parse::<IpNet>().ok())
                .any(|theirs| theirs.contains(&subnet) || subnet.contains(&theirs))
        });
        match holder.and_then(|network| network.name) {
            Some(name) => format!("Docker network {name}"),
            None => "a route or interface of this machine".to_owned(),
        }
    }

    /// Who has an address on the network, for messages.
    pub(super) async fn address_holder(&self, network: &str, address: &str) -> String {
        let containers = self.network(network).await.ok().flatten().and_then(|network| network.containers);
        let holder = containers.unwrap_or_default().into_values().find(|endpoint| {
            endpoint.ipv4_address.as_ref().is_some_and(|theirs| theirs.split('/').next() == Some(address))
        });
        holder.and_then(|endpoint| endpoint.name).unwrap_or_else(|| "another container".to_owned())
    }
}

fn found(name: &str, scope: &Scope, subnet: IpNet, network: &NetworkInspect) -> Result<String, DockerError> {
    let label = network.labels.as_ref().and_then(|labels| labels.get(LABEL));
    if label != Some(&scope.to_string()) {
        return Err(DockerError::Foreign { what: "network", name: name.to_owned() });
    }
    let config = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref()).and_then(|configs| configs.first());
    let theirs = config.and_then(|config| config.subnet.clone()).unwrap_or_default();
    if theirs.parse() != Ok(subnet) {
        return Err(DockerError::OtherSubnet { network: name.to_owned(), found: theirs, wanted: subnet });
    }
    Ok(network.id.clone().unwrap_or_default())
}
