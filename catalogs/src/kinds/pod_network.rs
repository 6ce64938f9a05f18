//! `[[pod_network]]`: the node's part of the pod network.
//!
//! Each node's range comes from the blueprint, not from the controller manager, so that the catalog alone says
//! all: a node routes right after a reboot with no coordinator and no API server.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Kind, Need, Owned, Presence, SecretName, Signal};

/// CNI configuration of this node and its routes to the others' pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodNetworkSpec {
    #[serde(default)]
    pub mode: Mode,
    /// All pods of the cluster, CIDR.
    pub pods: String,
    /// This node's pods, CIDR.
    pub node_pods: String,
    /// This node's address among the nodes.
    pub address: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Bytes; absent: the interface's, less 50 with VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub name: String,
    pub address: String,
    /// Its pods, CIDR.
    pub pods: String,
}

/// How pods of different nodes reach one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// VXLAN, 1 device `muster.vxlan`, VNI 4096, UDP port 4789.
    #[default]
    Vxlan,
    /// Routes by the peers' addresses: all nodes on one network.
    Direct,
    /// Left to a manifest that the admin applies.
    External,
}

/// The node's part of the pod network: CNI configuration, and routes to the pods of the others. Its ranges and peers come
/// from what was decided for the nodes.
///
/// Equal are the CNI configuration, to the byte, and a route for each peer. Routes, devices and CNI files of others are left alone; the
/// route of a node that is gone is removed.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a pod network")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema counts: the compiler adds the other keys before decoding")]
pub(crate) struct Written {
    /// Absent: the cluster's `network`.
    #[serde(default)]
    mode: Option<Mode>,
    /// Bytes; absent: the interface's, less 50 with VXLAN.
    #[serde(default)]
    #[schemars(range(min = 1280, max = 9216))]
    mtu: Option<u32>,
}

impl Kind for PodNetworkSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("pod network", "of this node")]
    }

    fn needs(&self) -> Vec<Need> {
        vec![
            Need::Named("package", "containernetworking-plugins".to_owned()),
            Need::Named("package", "nftables".to_owned()),
            Need::Kind("kernel_module"),
            Need::Kind("sysctl"),
        ]
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::tree("/etc/cni/net.d")]
    }

    fn presence(&self) -> Presence {
        Presence::Present
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Call
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Routes(self.address.clone())]
    }
}
