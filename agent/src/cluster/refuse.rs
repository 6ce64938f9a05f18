//! Names of nodes that were revoked: the cluster takes nothing from them any more.
//!
//! Kubernetes cannot revoke a client certificate, and a kubelet's is good for a year. So an admission policy refuses every
//! write of such a kubelet (its status, pods, leases, tokens for service accounts, requests for another certificate) and every
//! Node of such a name, whoever makes it. Reading passes no admission: what a kubelet may read are the Secrets of pods that are
//! bound to its Node, and those pods are deleted with it.
//!
//! Whoever holds a control plane's files has the cluster's CA and needs no kubelet's certificate: this refuses him nothing.

use std::collections::BTreeSet;

use kube::Client;
use serde_json::{Value, json};

use super::{
    api::{self, ApiError},
    mark, settings,
};
use crate::StepError;

const API: &str = "/apis/admissionregistration.k8s.io/v1";
const NAME: &str = "muster-refused-nodes";
/// Goes up when what is made here changes.
const VERSION: u32 = 1;

fn paths() -> [String; 2] {
    let of = |kind: &str| format!("{API}/{kind}/{NAME}");
    [of("validatingadmissionpolicies"), of("validatingadmissionpolicybindings")]
}

/// Wanted, and as the cluster has it: none where somebody else changed or removed a part of it.
pub async fn seen(client: &Client, refused: &[String]) -> Result<(String, Option<String>), ApiError> {
    let wanted = wanted(refused);
    for path in paths() {
        let marked = api::find(client, &path).await?.as_ref().and_then(mark::of);
        if marked.as_ref() != Some(&wanted) {
            return Ok((wanted, None));
        }
    }
    Ok((wanted.clone(), Some(wanted)))
}

fn wanted(refused: &[String]) -> String {
    let names: BTreeSet<&str> = refused.iter().map(String::as_str).collect();
    settings::digest(format!("{VERSION} {names:?}"))
}

/// Makes it so. The binding comes last: it is what puts the policy in force.
pub async fn write(client: &Client, refused: &[String]) -> Result<(), StepError> {
    for (path, object) in paths().iter().zip([policy(refused), binding()]) {
        api::apply(client, path, &object).await?;
        mark::note(client, path, &wanted(refused)).await?;
    }
    tracing::info!(refused = refused.join(", "), "the cluster refuses these nodes");
    Ok(())
}

fn policy(refused: &[String]) -> Value {
    let names: BTreeSet<&String> = refused.iter().collect();
    // Names of nodes need no quoting beyond JSON's, which CEL reads.
    let names = json!(names);
    let expression = format!(
        "!(request.userInfo.username.startsWith('system:node:') && request.userInfo.username.substring(12) in {names}) && \
         !(request.operation == 'CREATE' && request.resource.group == '' && request.resource.resource == 'nodes' && \
         has(object.metadata.name) && object.metadata.name in {names})"
    );
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]},
            ]},
            "validations": [{"expression": expression, "reason": "Forbidden", "message": "this node was revoked"}],
        },
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {"policyName": NAME, "validationActions": ["Deny"]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_in_any_order_are_the_same_policy() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (one, other) = (names(&["workers-1", "workers-2"]), names(&["workers-2", "workers-1"]));
        assert_eq!((wanted(&one), policy(&one)), (wanted(&other), policy(&other)));
        assert_ne!(wanted(&one), wanted(&one[..1]));
        let expression = policy(&one)["spec"]["validations"][0]["expression"].to_string();
        assert!(expression.contains(r#"in [\"workers-1\",\"workers-2\"]"#), "{expression}");
    }
}
