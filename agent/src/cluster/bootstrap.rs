//! What a newborn cluster needs before others can join it: the objects that kubeadm's `bootstrap-token` phase would make,
//! but for its blanket approval of whatever any bootstrap token asks for. Requests of joining kubelets are approved by
//! the leading agent, for the node name that was ticketed and no other.

use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use super::{api, discovery};
use crate::{Context, StepError};

/// Bootstrap tokens' group.
pub const JOINING: &str = "system:bootstrappers:kubeadm:default-node-token";

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUTOAPPROVE: &str = "kubeadm:node-autoapprove-bootstrap";

/// Gives `admin.conf` its rights. Needs a client of `super-admin.conf`.
pub async fn admin(ctx: &Context, client: &Client) -> Result<(), StepError> {
    let admins = binding("kubeadm:cluster-admins", "cluster-admin", group("kubeadm:cluster-admins"));
    apply_when_possible(ctx, client, &admins).await
}

/// Rights of joining nodes, and renewal of kubelets' certificates.
pub async fn rights(ctx: &Context, client: &Client) -> Result<(), StepError> {
    let objects = [
        binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", group(JOINING)),
        (
            format!("{RBAC}/clusterroles/kubeadm:get-nodes"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "kubeadm:get-nodes"},
                "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
            }),
        ),
        binding("kubeadm:get-nodes", "kubeadm:get-nodes", group(JOINING)),
        binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            group("system:nodes"),
        ),
    ];
    let (public_role, public_binding) = (public_role(), public_binding());
    let all = objects.iter().chain([&public_role, &public_binding]);
    futures::future::try_join_all(all.map(|object| apply_when_possible(ctx, client, object))).await?;
    refuse_autoapproval(client).await
}

/// Removes kubeadm's approval of every bootstrap token's request, should a `kubeadm` by hand have made it.
pub async fn refuse_autoapproval(client: &Client) -> Result<(), StepError> {
    Ok(api::delete(client, &format!("{RBAC}/clusterrolebindings/{AUTOAPPROVE}"), &json!({})).await?)
}

/// Says that the cluster can be joined: who sees this ConfigMap finds everything else in place.
pub async fn publish(ctx: &Context, client: &Client, api_endpoint: &str, ca_pem: &str) -> Result<(), StepError> {
    let info = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": discovery::kubeconfig(&format!("https://{api_endpoint}"), ca_pem)},
    });
    let path = "/api/v1/namespaces/kube-public/configmaps/cluster-info".to_owned();
    apply_when_possible(ctx, client, &(path, info)).await
}

/// Whether the cluster can be joined.
pub async fn is_published(client: &Client) -> bool {
    matches!(api::find(client, "/api/v1/namespaces/kube-public/configmaps/cluster-info").await, Ok(Some(_)))
}

pub(super) type Object = (String, Value);

fn group(name: &str) -> Value {
    json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn binding(name: &str, role: &str, subject: Value) -> Object {
    (
        format!("{RBAC}/clusterrolebindings/{name}"),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }),
    )
}

const PUBLIC: &str = "kubeadm:bootstrap-signer-clusterinfo";

fn public_role() -> Object {
    (
        format!("{RBAC}/namespaces/kube-public/roles/{PUBLIC}"),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": PUBLIC, "namespace": "kube-public"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["get"]}],
        }),
    )
}

fn public_binding() -> Object {
    (
        format!("{RBAC}/namespaces/kube-public/rolebindings/{PUBLIC}"),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": PUBLIC, "namespace": "kube-public"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": PUBLIC},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:anonymous"}],
        }),
    )
}

/// The API server makes its own namespaces in its first second or two.
pub(super) async fn apply_when_possible(
    ctx: &Context,
    client: &Client,
    (path, object): &Object,
) -> Result<(), StepError> {
    for _ in 0..100 {
        match api::apply(client, path, object).await {
            Err(error) if error.is_not_found() || error.passes() => ctx.clock.sleep(Duration::from_millis(100)).await,
            other => return other.map(drop).map_err(StepError::from),
        }
    }
    api::apply(client, path, object).await?;
    Ok(())
}
