//! What kubeadm is told: its configuration documents (v1beta4), as JSON, which is YAML.
//!
//! Pure. kubeadm is never told anything by arguments but the phase and the path: tickets must not stand in a process
//! list, and one document says all.

use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, MemberRole};
use muster_plan::kinds::cluster_member::kubelet_may_set;
use serde_json::{Value, json};

use super::fragments::{DocumentKind, Fragments, merge};

/// Where every control plane keeps the key that Secrets are encrypted with in etcd. In kubeadm's folder of
/// certificates, because the API server has that mounted and a backup of the folder is then complete.
pub const ENCRYPTION_FILE: &str = "/etc/kubernetes/pki/muster-encryption.json";

/// kubeadm's CA, on every node.
const CLIENT_CA: &str = "/etc/kubernetes/pki/ca.crt";
/// A folder that is not there.
const NO_PKI: &str = "/run/muster/no-pki";

/// The socket of containerd's CRI.
pub const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// The API server's port on each control plane.
pub const API_PORT: u16 = 6443;

/// How many members of etcd may learn at once: two may be on their way in, and a learner counts for no quorum.
pub const MAX_LEARNERS: &str = "2";

/// The secrets of a join.
#[derive(Clone)]
pub struct JoinSecrets {
    pub token: String,
    /// Only for control planes.
    pub certificate_key: Option<String>,
}

/// InitConfiguration, ClusterConfiguration, KubeletConfiguration and KubeProxyConfiguration: what `kubeadm init`
/// and its phases read, and what restores a control plane's static pods.
pub fn init(spec: &ClusterMemberSpec, fragments: &Fragments) -> String {
    let init = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "nodeRegistration": registration(spec),
        "localAPIEndpoint": {"advertiseAddress": spec.address, "bindPort": API_PORT},
    });
    [init, cluster(spec, fragments), kubelet(fragments), proxy(fragments)]
        .iter()
        .map(|document| format!("{document:#}\n"))
        .collect::<Vec<_>>()
        .join("---\n")
}

/// kubelet's settings on this node.
pub fn kubelet(fragments: &Fragments) -> Value {
    let body = json!({
        "cgroupDriver": "systemd",
        "rotateCertificates": true,
        // It says every five seconds that it lives. See the controller manager's grace period.
        "nodeLeaseDurationSeconds": 20,
        "authentication": {"x509": {"clientCAFile": CLIENT_CA}},
    });
    let body = fragments.merge_into(DocumentKind::KubeletConfiguration, body);
    typed(DocumentKind::KubeletConfiguration, "kubelet.config.k8s.io/v1beta1", body)
}

/// kube-proxy's settings, for the whole cluster.
pub fn proxy(fragments: &Fragments) -> Value {
    let body = fragments.merge_into(DocumentKind::KubeProxyConfiguration, json!({ "mode": "nftables" }));
    typed(DocumentKind::KubeProxyConfiguration, "kubeproxy.config.k8s.io/v1alpha1", body)
}

fn cluster(spec: &ClusterMemberSpec, fragments: &Fragments) -> Value {
    let mut names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    names.extend(spec.api_names.iter().cloned());
    let mut document = fragments.merge_into(
        DocumentKind::ClusterConfiguration,
        json!({
            // Elliptic keys take milliseconds to make where RSA takes seconds of a small node's CPU.
            "encryptionAlgorithm": "ECDSA-P256",
            "apiServer": {
                "certSANs": names,
                "extraArgs": [{"name": "encryption-provider-config", "value": ENCRYPTION_FILE}],
            },
            "controllerManager": {
                "extraArgs": [
                    // Each node's range comes from its catalog.
                    {"name": "allocate-node-cidrs", "value": "false"},
                    // A node that says nothing for 20 s is not ready, and its pods get no more requests: after 50 s by
                    // default, of which half go to somebody who is not there. Two of its signs of life in a row may be lost.
                    {"name": "node-monitor-grace-period", "value": "20s"},
                    {"name": "node-monitor-period", "value": "2s"},
                    // A disk's volume and its claim are bound by two workers that get in each other's way, and what
                    // failed is tried again at the next period only: after 15 s, of which an application often waits 30.
                    {"name": "pvclaimbinder-sync-period", "value": "2s"},
                ],
            },
            "etcd": {"local": {"dataDir": "/var/lib/etcd", "extraArgs": [{"name": "max-learners", "value": MAX_LEARNERS}]}},
        }),
    );
    // Its data is made before kubelet starts it: without it it must not begin a cluster of its own.
    let existing = json!([{"name": "initial-cluster-state", "value": "existing"}]);
    merge(&mut document, &json!({"etcd": {"local": {"extraArgs": existing}}}));
    if !is_control_plane(spec) {
        // A CA without its key looks like somebody else's CA to kubeadm, which then wants the control plane's keys.
        document["certificatesDir"] = json!(NO_PKI);
    }
    // A fragment cannot contradict the cluster's own table.
    merge(
        &mut document,
        &json!({
            "kubernetesVersion": format!("v{}", spec.kubernetes),
            "controlPlaneEndpoint": spec.api_endpoint,
            "imageRepository": spec.image_repository,
            // Where the agent looks for its data, and makes it.
            "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
            "networking": {"podSubnet": spec.pods, "serviceSubnet": spec.services, "dnsDomain": "cluster.local"},
        }),
    );
    typed(DocumentKind::ClusterConfiguration, "kubeadm.k8s.io/v1beta4", document)
}

/// JoinConfiguration. `discovery` is the path of a kubeconfig with the cluster's address and CA, without credentials.
/// `secrets` are absent for phases that run after the node has credentials of its own.
pub fn join(spec: &ClusterMemberSpec, discovery: &str, secrets: Option<&JoinSecrets>) -> String {
    let mut document = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "nodeRegistration": registration(spec),
        "discovery": {"file": {"kubeConfigPath": discovery}},
    });
    if let Some(secrets) = secrets {
        document["discovery"]["tlsBootstrapToken"] = json!(secrets.token);
    }
    match spec.role {
        MemberRole::Worker => {}
        MemberRole::ControlPlane => {
            document["controlPlane"] =
                json!({"localAPIEndpoint": {"advertiseAddress": spec.address, "bindPort": API_PORT}});
            if let Some(key) = secrets.and_then(|s| s.certificate_key.as_ref()) {
                document["controlPlane"]["certificateKey"] = json!(key);
            }
        }
    }
    format!("{document:#}\n")
}

pub(crate) fn is_control_plane(spec: &ClusterMemberSpec) -> bool {
    match spec.role {
        MemberRole::ControlPlane => true,
        MemberRole::Worker => false,
    }
}

fn registration(spec: &ClusterMemberSpec) -> Value {
    let labels: Vec<_> = spec
        .labels
        .iter()
        .filter(|(key, _)| kubelet_may_set(key))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut arguments = vec![json!({"name": "node-ip", "value": spec.address})];
    if !labels.is_empty() {
        arguments.push(json!({"name": "node-labels", "value": labels.join(",")}));
    }
    let taints: Vec<Taint> = spec.taints.iter().filter_map(|text| Taint::parse(text)).collect();
    if !taints.is_empty() {
        // kubeadm taints a control plane when all else is done, and a worker by its join alone; until then, or when its
        // Node is made anew, anything could be scheduled there.
        let all: Vec<_> = taints.iter().map(|t| format!("{}={}:{}", t.key, t.value, t.effect)).collect();
        arguments.push(json!({"name": "register-with-taints", "value": all.join(",")}));
    }
    json!({
        "name": spec.name,
        "criSocket": CRI_SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "imagePullSerial": false,
        "taints": taints.iter().map(Taint::to_json).collect::<Vec<_>>(),
        "kubeletExtraArgs": arguments,
        "ignorePreflightErrors": spec.ignore_preflight,
    })
}

/// A taint, written `key=value:Effect` or `key:Effect`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl Taint {
    /// None: no effect that Kubernetes knows; the language refuses such a text before it comes here.
    pub fn parse(text: &str) -> Option<Self> {
        let (left, effect) = text.rsplit_once(':')?;
        let (key, value) = left.split_once('=').unwrap_or((left, ""));
        let known = matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute");
        (known && !key.is_empty()).then(|| Self {
            key: key.to_owned(),
            value: value.to_owned(),
            effect: effect.to_owned(),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut taint = json!({"key": self.key, "effect": self.effect});
        if !self.value.is_empty() {
            taint["value"] = json!(self.value);
        }
        taint
    }
}

/// The `kind` and `apiVersion` of a document whose body was merged.
fn typed(kind: DocumentKind, api_version: &str, mut body: Value) -> Value {
    body["kind"] = json!(kind.name());
    body["apiVersion"] = json!(api_version);
    body
}

#[cfg(test)]
pub(crate) mod tests {
    use muster_catalog::kinds::cluster_member::Start;

    use super::*;

    pub(crate) fn spec(role: MemberRole) -> ClusterMemberSpec {
        ClusterMemberSpec {
            name: "control-plane-1".into(),
            role,
            start: Start::Join,
            address: "10.89.1.1".into(),
            api_endpoint: "10.89.0.10:6443".into(),
            kubernetes: "1.34.4".into(),
            pods: "10.244.0.0/16".into(),
            services: "10.96.0.0/12".into(),
            image_repository: "registry.k8s.io".into(),
            labels: [("muster.dev/pool".to_owned(), "control-plane".to_owned())].into(),
            taints: vec!["node-role.kubernetes.io/control-plane:NoSchedule".into()],
            api_names: vec!["api.example".into()],
            settings: None,
            ignore_preflight: vec!["SystemVerification".into()],
            gone: vec![],
            refused: Default::default(),
            workers: vec![],
            control_planes: 3,
            tries: false,
        }
    }

    #[test]
    fn init_documents() {
        let fragments = Fragments::parse(&[(
            "node.yaml".to_owned(),
            "kind: KubeletConfiguration\nfailSwapOn: false\n---\nkind: ClusterConfiguration\ncontrolPlaneEndpoint: evil:1\n\
             apiServer: {extraArgs: [{name: profiling, value: 'false'}]}\n"
                .to_owned(),
        )])
        .unwrap();
        insta::assert_snapshot!("init", init(&spec(MemberRole::ControlPlane), &fragments));
    }

    #[test]
    fn no_etcd_that_kubelet_starts_begins_a_cluster() {
        let documents = init(&spec(MemberRole::ControlPlane), &Fragments::default());
        assert!(documents.contains("initial-cluster-state") && documents.contains("existing"), "{documents}");
        assert!(documents.contains("max-learners"), "{documents}");
    }

    #[test]
    fn join_documents() {
        let secrets = JoinSecrets { token: "abcdef.0123456789abcdef".into(), certificate_key: Some("00ff".into()) };
        insta::assert_snapshot!(
            "join_control_plane",
            join(&spec(MemberRole::ControlPlane), "/run/muster/discovery.conf", Some(&secrets))
        );
        insta::assert_snapshot!(
            "join_worker",
            join(&spec(MemberRole::Worker), "/run/muster/discovery.conf", Some(&secrets))
        );
    }

    #[test]
    fn later_phases_hold_no_secret() {
        let text = join(&spec(MemberRole::ControlPlane), "/etc/kubernetes/admin.conf", None);
        assert!(!text.contains("oken") && !text.contains("certificateKey"), "{text}");
    }

    #[test]
    fn taints_are_read() {
        let taint = Taint::parse("a/b=c:NoExecute").unwrap();
        assert_eq!((taint.key.as_str(), taint.value.as_str(), taint.effect.as_str()), ("a/b", "c", "NoExecute"));
        assert_eq!(Taint::parse("a/b:NoSchedule").unwrap().value, "");
        for bad in ["a", "a=b", ":NoSchedule", "a:Sometimes"] {
            assert_eq!(Taint::parse(bad), None, "{bad}");
        }
    }
}
