//! `[[cluster_member]]`: this node's membership of the Kubernetes cluster, by kubeadm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Kind, Need, Owned, Presence, SecretName, Signal};

/// Membership by `kubeadm init` or `join`. A node that is a member already is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterMemberSpec {
    /// The node's name in Kubernetes.
    pub name: String,
    pub role: MemberRole,
    /// Exactly one node of a cluster that was never born has `init`: the coordinator chooses it, the site cannot.
    #[serde(default)]
    pub start: Start,
    /// The address that the node's API server and kubelet advertise.
    pub address: String,
    /// `host:port` of the API for everyone, the load balancer's.
    pub api_endpoint: String,
    /// As in `1.34.4`.
    pub kubernetes: String,
    /// The pods' range, CIDR.
    pub pods: String,
    /// The services' range, CIDR.
    pub services: String,
    /// Where kubeadm's images come from.
    pub image_repository: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `key=value:Effect`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<String>,
    /// Further host names and addresses of the API server's certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_names: Vec<String>,
    /// A folder of the node with YAML files, each merged into kubeadm's document of the same `kind`
    /// (`KubeletConfiguration`, `KubeProxyConfiguration`, `ClusterConfiguration`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// kubeadm preflight checks that may fail, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_preflight: Vec<String>,
    /// How many control planes the site wants.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub control_planes: u32,
    /// Nodes that died and have not left, and nodes that were revoked: the control plane that leads removes what the cluster
    /// still has of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Gone>,
    /// Names of nodes that the cluster refuses for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// What the control plane that leads keeps on the workers' Node objects, because they may not themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<Worker>,
    /// This node tries the catalog before all others: what it would do for the whole cluster, where it leads, waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tries: bool,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_one(count: &u32) -> bool {
    *count == 1
}

/// A worker's labels and taints by its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `key=value:Effect`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<String>,
}

/// A node whose instance is gone for sure, or that was revoked and may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    pub name: String,
    /// Its address, which nobody else has yet.
    pub address: String,
    /// Its instance may run, and what it says of itself counts for nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

/// The static pods of a control plane.
pub const STATIC_PODS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// What the node is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRole {
    ControlPlane,
    Worker,
}

/// How the node comes to be a member, or that it is to be one no longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    #[default]
    Join,
    Init,
    /// Its pods are moved, then it leaves the cluster, etcd included; it never comes back under this name.
    Leave,
}

/// This node's membership of the Kubernetes cluster, by kubeadm. Its name, addresses and ranges come from the site and
/// from what was decided for the node; labels and taints add to those of the pool.
///
/// Equal are that it is a member, its labels and taints of the site, and the settings of kubelet and kube-proxy. Labels, taints and annotations
/// that somebody else put on are left alone. A node that is a member is never joined anew; one that leaves the site leaves the cluster first.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a cluster member")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema counts: the compiler adds the other keys before decoding")]
pub(crate) struct Written {
    /// Where kubeadm's images come from.
    #[serde(default)]
    image_repository: Option<String>,
    /// Labels of this node besides its pool's.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Taints of this node besides its pool's: `key=value:Effect`.
    #[serde(default)]
    taints: Vec<crate::tables::Taint>,
    /// Further host names and addresses of the API server's certificate.
    #[serde(default)]
    api_names: Vec<String>,
    /// A folder of the node with YAML files, each merged into kubeadm's document of the same `kind`
    /// (`KubeletConfiguration`, `KubeProxyConfiguration`, `ClusterConfiguration`).
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    settings: Option<String>,
    /// kubeadm preflight checks that may fail, by name.
    #[serde(default)]
    ignore_preflight: Vec<String>,
}

impl Kind for ClusterMemberSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("cluster member", "of this node"), super::hostname::claim()]
    }

    fn needs(&self) -> Vec<Need> {
        if self.start == Start::Leave {
            // Who is to go because of what fails on it must not wait for that.
            return Vec::new();
        }
        let packages = [
            "containerd",
            "containernetworking-plugins",
            "conntrack",
            "cri-tools",
            "ethtool",
            "iptables",
            "kubeadm",
            "kubectl",
            "kubelet",
            "kubernetes-cni",
            "nftables",
            "runc",
            "socat",
        ];
        let mut needs: Vec<Need> = packages.iter().map(|p| Need::Named("package", (*p).to_owned())).collect();
        // With the pods' network in place the node is Ready as soon as it has joined.
        needs.push(Need::Kind("pod_network"));
        needs.extend([Need::Kind("kernel_module"), Need::Kind("sysctl"), Need::Kind("mount")]);
        needs.push(Need::Named("service", "containerd".to_owned()));
        let folders =
            ["/etc/containerd", "/etc/kubernetes", "/etc/default/kubelet", "/etc/systemd/system/kubelet.service.d"];
        needs.extend(folders.iter().map(|f| Need::Within((*f).to_owned())));
        needs.extend(self.settings.iter().map(|f| Need::Within(f.clone())));
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        ["/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd"].map(Owned::tree).into()
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
        if self.start == Start::Leave {
            return Vec::new();
        }
        let mut signals =
            vec![Signal::Node(self.name.clone()), Signal::Path("/etc/kubernetes/kubelet.conf".to_owned())];
        if self.role == MemberRole::ControlPlane {
            signals.push(Signal::Cluster);
            signals.push(Signal::Path("/var/lib/etcd/member".to_owned()));
            signals.extend(STATIC_PODS.map(|pod| Signal::Path(format!("/etc/kubernetes/manifests/{pod}.yaml"))));
        }
        signals
    }
}
