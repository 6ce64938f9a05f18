//! Fixed addresses within the nodes' network, so that nothing has to be looked up and everything survives a restart.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

/// The subnet is none that the local environment can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subnet {0} cannot hold the local environment: an IPv4 range of /22 or larger is needed")]
pub struct InvalidSubnet(IpNet);

/// The addresses that are not nodes'. Nodes have those from the second /24 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub gateway: Ipv4Addr,
    pub coordinator: Ipv4Addr,
    /// The package repository and the registry.
    pub artefacts: Ipv4Addr,
}

impl Addresses {
    pub fn of(subnet: IpNet) -> Result<Self, InvalidSubnet> {
        match subnet {
            IpNet::V4(net) if net.prefix_len() <= 22 => {
                let at = |host: u32| nth(net, host);
                Ok(Self { gateway: at(1), coordinator: at(2), artefacts: at(3) })
            }
            IpNet::V4(_) | IpNet::V6(_) => Err(InvalidSubnet(subnet)),
        }
    }
}

fn nth(net: Ipv4Net, host: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_fixed() {
        let addresses = Addresses::of("10.89.0.0/16".parse().unwrap()).unwrap();
        assert_eq!(addresses.coordinator, Ipv4Addr::new(10, 89, 0, 2));
        assert!(Addresses::of("10.89.0.0/24".parse().unwrap()).is_err());
        assert!(Addresses::of("fd00::/48".parse().unwrap()).is_err());
    }
}
