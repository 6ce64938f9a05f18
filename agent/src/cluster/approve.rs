//! Kubelets' first certificates: approved for the one name that the token was minted for, and for nothing else.
//!
//! Kubernetes' own approver takes any bootstrap token for any node name; muster removes its right to. A request that does
//! not fit is left alone, not denied: it may be somebody else's to decide, and it ages away by itself.

use std::collections::BTreeSet;

use base64::Engine as _;
use kube::Client;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{api, tickets::FOR_NODE};

/// The collection of requests.
pub const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

const KUBELET_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// What a request asks for, where it is a joining kubelet's in every respect.
#[derive(Debug, PartialEq, Eq)]
pub struct Joining {
    /// The token's public half.
    pub token: String,
    pub node: String,
}

/// Why a request is not ours to approve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    #[error("it is decided already")]
    Decided,
    #[error("it is not for a kubelet's client certificate")]
    OtherSigner,
    #[error("no bootstrap token asks")]
    NoToken,
    #[error("its usages are not a kubelet's")]
    Usages,
    #[error("its certificate request is malformed: {0}")]
    Malformed(&'static str),
    #[error("the token was minted for another node, or not by muster")]
    OtherNode,
}

/// Reads a request: who asks, and for which node.
pub fn joining(request: &Value) -> Result<Joining, NotOurs> {
    let spec = &request["spec"];
    if list(&request["status"]["conditions"]).next().is_some() {
        return Err(NotOurs::Decided);
    }
    if spec["signerName"] != KUBELET_SIGNER {
        return Err(NotOurs::OtherSigner);
    }
    let token =
        spec["username"].as_str().and_then(|user| user.strip_prefix("system:bootstrap:")).ok_or(NotOurs::NoToken)?;
    let usages: BTreeSet<_> = list(&spec["usages"]).filter_map(Value::as_str).collect();
    let allowed =
        [["client auth", "digital signature"].into(), ["client auth", "digital signature", "key encipherment"].into()];
    if !allowed.contains(&usages) {
        return Err(NotOurs::Usages);
    }
    let node = node_of(spec["request"].as_str().unwrap_or_default())?;
    Ok(Joining { token: token.to_owned(), node })
}

/// The node that a certificate request names: organisation `system:nodes`, name `system:node:NODE`, and nothing besides.
fn node_of(request: &str) -> Result<String, NotOurs> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let pem = base64.decode(request).map_err(|_| NotOurs::Malformed("no base64"))?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| NotOurs::Malformed("no PEM"))?;
    let (_, csr) = X509CertificationRequest::from_der(&block.contents).map_err(|_| NotOurs::Malformed("no request"))?;
    csr.verify_signature().map_err(|_| NotOurs::Malformed("its signature is wrong"))?;
    let info = &csr.certification_request_info;
    if csr.requested_extensions().into_iter().flatten().next().is_some() {
        return Err(NotOurs::Malformed("it asks for extensions"));
    }
    let organisations: Vec<_> = info.subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    let names: Vec<_> = info.subject.iter_common_name().filter_map(|n| n.as_str().ok()).collect();
    match (organisations.as_slice(), names.as_slice()) {
        (["system:nodes"], [name]) if info.subject.iter_attributes().count() == 2 => name
            .strip_prefix("system:node:")
            .filter(|node| !node.is_empty())
            .map(str::to_owned)
            .ok_or(NotOurs::Malformed("it names no node")),
        _other => Err(NotOurs::Malformed("its subject is not a kubelet's")),
    }
}

/// Whether this token, as its Secret says, was minted for that node.
pub fn fits(joining: &Joining, token: &Value) -> Result<(), NotOurs> {
    let minted_for = token["metadata"]["annotations"][FOR_NODE].as_str();
    if minted_for == Some(joining.node.as_str()) { Ok(()) } else { Err(NotOurs::OtherNode) }
}

/// Approves a request that fits. Returns the node, where one was approved.
pub async fn consider(client: &Client, request: &Value) -> Result<Option<String>, api::ApiError> {
    let name = request["metadata"]["name"].as_str().unwrap_or_default();
    let joining = match joining(request) {
        Ok(joining) => joining,
        Err(NotOurs::Decided | NotOurs::OtherSigner | NotOurs::NoToken) => return Ok(None),
        Err(reason) => {
            tracing::warn!(request = name, %reason, "a request for a kubelet's certificate was not approved");
            return Ok(None);
        }
    };
    let path = format!("/api/v1/namespaces/kube-system/secrets/bootstrap-token-{}", joining.token);
    let token = api::find(client, &path).await?.unwrap_or_default();
    if let Err(reason) = fits(&joining, &token) {
        tracing::warn!(request = name, node = joining.node, %reason, "a request for a kubelet's certificate was not approved");
        return Ok(None);
    }
    approve(client, request, "muster minted the token for this node").await?;
    tracing::info!(node = joining.node, "kubelet's certificate was approved");
    Ok(Some(joining.node))
}

/// Approves a request. Its `resourceVersion` guards that what is approved is what was read.
pub(super) async fn approve(client: &Client, request: &Value, message: &str) -> Result<Value, api::ApiError> {
    let mut approved = request.clone();
    approved["apiVersion"] = json!("certificates.k8s.io/v1");
    approved["kind"] = json!("CertificateSigningRequest");
    approved["status"]["conditions"] =
        json!([{"type": "Approved", "status": "True", "reason": "MusterApproved", "message": message}]);
    let name = request["metadata"]["name"].as_str().unwrap_or_default();
    api::replace(client, &format!("{REQUESTS}/{name}/approval"), &approved).await
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn csr(organisation: &str, name: &str, san: bool) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.distinguished_name.push(DnType::CommonName, name);
        if san {
            params.subject_alt_names = vec![SanType::DnsName("evil.example".try_into().unwrap())];
        }
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        base64::engine::general_purpose::STANDARD.encode(pem)
    }

    fn request(csr: String) -> Value {
        json!({"metadata": {"name": "csr-1"}, "spec": {
            "signerName": KUBELET_SIGNER,
            "username": "system:bootstrap:abcdef",
            "usages": ["digital signature", "client auth"],
            "request": csr,
        }})
    }

    fn good() -> Value {
        request(csr("system:nodes", "system:node:workers-1", false))
    }

    #[test]
    fn a_joining_kubelet_is_recognised() {
        let expected = Joining { token: "abcdef".into(), node: "workers-1".into() };
        assert_eq!(joining(&good()), Ok(expected));
    }

    #[test]
    fn whatever_differs_is_not_ours() {
        let with = |change: fn(&mut Value)| {
            let mut value = good();
            change(&mut value);
            joining(&value)
        };
        assert_eq!(with(|v| v["status"] = json!({"conditions": [{"type": "Denied"}]})), Err(NotOurs::Decided));
        assert_eq!(
            with(|v| v["spec"]["signerName"] = json!("kubernetes.io/kubelet-serving")),
            Err(NotOurs::OtherSigner)
        );
        assert_eq!(with(|v| v["spec"]["username"] = json!("system:node:workers-1")), Err(NotOurs::NoToken));
        assert_eq!(with(|v| v["spec"]["usages"] = json!(["server auth"])), Err(NotOurs::Usages));
        assert!(matches!(with(|v| v["spec"]["request"] = json!("AAAA")), Err(NotOurs::Malformed(_))));
    }

    #[test]
    fn a_subject_that_is_more_than_a_kubelets_is_not_ours() {
        for (organisation, name, san) in [
            ("system:masters", "system:node:workers-1", false),
            ("system:nodes", "admin", false),
            ("system:nodes", "system:node:", false),
            ("system:nodes", "system:node:workers-1", true),
        ] {
            let asked = joining(&request(csr(organisation, name, san)));
            assert!(matches!(asked, Err(NotOurs::Malformed(_))), "{organisation} {name} {asked:?}");
        }
    }

    #[test]
    fn the_token_must_be_for_this_node() {
        let joining = joining(&good()).unwrap();
        let token = |node: &str| json!({"metadata": {"annotations": {FOR_NODE: node}}});
        assert_eq!(fits(&joining, &token("workers-1")), Ok(()));
        assert_eq!(fits(&joining, &token("workers-2")), Err(NotOurs::OtherNode));
        // A token that somebody made by hand.
        assert_eq!(fits(&joining, &json!({"metadata": {}})), Err(NotOurs::OtherNode));
        assert_eq!(fits(&joining, &Value::Null), Err(NotOurs::OtherNode));
    }
}
