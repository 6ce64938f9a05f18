//! Operators' certificates of the Kubernetes API: for one day, with rights bound to that one user name. Kubernetes cannot
//! revoke a certificate; taking the binding away is what ends it, so no group is ever in one.
//!
//! Signed here with the cluster's CA, which every control plane holds, and not by a CertificateSigningRequest: the
//! cluster signs whatever subject a request states, and the name is for the coordinator to give.

use std::time::Duration;

use rand::RngCore;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{KUBERNETES, api};
use crate::{Context, StepError};

/// An operator's certificate.
#[derive(Debug, Clone)]
pub struct Signed {
    pub certificate_pem: String,
    pub ca_pem: String,
}

/// One of Kubernetes' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterRole(&'static str);

impl ClusterRole {
    pub const ADMIN: Self = Self("cluster-admin");
    /// Everything but Secrets, to look at.
    pub const VIEW: Self = Self("view");
}

/// How long it is good for.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Clocks differ a little.
const EARLIER: Duration = Duration::from_secs(300);

/// Signs the key of `csr_pem` for `user`, who gets this role in the whole cluster. Of the request only the key counts, and
/// that its sender holds it.
pub async fn sign(ctx: &Context, csr_pem: &str, user: &str, role: ClusterRole) -> Result<Signed, StepError> {
    let read = |name: &str| -> Result<String, StepError> {
        let path = format!("{KUBERNETES}/pki/{name}");
        let bytes = ctx.files.read(&path)?.ok_or_else(|| StepError::failed(format!("{path} is not on this node")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (ca_pem, key_pem) = (read("ca.crt")?, read("ca.key")?);
    let certificate_pem = certificate(csr_pem, user, &ca_pem, &key_pem, ctx.clock.now())
        .map_err(|error| StepError::failed("the operator's certificate was not signed").because(error))?;
    bind(&ctx.kube.client().await?, user, role).await?;
    tracing::info!(user, role = role.0, "an operator's certificate for the Kubernetes API was signed");
    Ok(Signed { certificate_pem, ca_pem })
}

/// A certificate that is not made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("`{0}` is no operator's name")]
    Name(String),
    #[error("the request is no certificate request: {0}")]
    Request(&'static str),
    #[error("the cluster's CA cannot sign")]
    Authority(#[source] rcgen::Error),
}

fn certificate(csr_pem: &str, user: &str, ca_pem: &str, key_pem: &str, now: i64) -> Result<String, SignError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if user.is_empty() || user.len() > 64 || !user.chars().all(plain) || user.starts_with("system:") {
        return Err(SignError::Name(user.to_owned()));
    }
    let (_, block) =
        x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).map_err(|_| SignError::Request("it is no PEM"))?;
    let (_, csr) =
        X509CertificationRequest::from_der(&block.contents).map_err(|_| SignError::Request("it cannot be read"))?;
    csr.verify_signature().map_err(|_| SignError::Request("its signature is wrong"))?;
    let request = CertificateSigningRequestParams::from_der(&block.contents.as_slice().into())
        .map_err(|_| SignError::Request("it asks for what is not supported"))?;

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - EARLIER;
    params.not_after = now + LIFETIME;
    let mut serial = [0u8; 16];
    rand::rng().fill_bytes(&mut serial);
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));

    let key = KeyPair::from_pem(key_pem).map_err(SignError::Authority)?;
    let issuer = Issuer::from_ca_cert_pem(ca_pem, key).map_err(SignError::Authority)?;
    Ok(params.signed_by(&request.public_key, &issuer).map_err(SignError::Authority)?.pem())
}

async fn bind(client: &kube::Client, user: &str, role: ClusterRole) -> Result<Value, api::ApiError> {
    let (name, binding) = binding(user, role);
    api::apply(client, &format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}"), &binding).await
}

/// The binding's name and the binding.
fn binding(user: &str, role: ClusterRole) -> (String, Value) {
    let name = format!("muster:operator:{user}");
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role.0},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    });
    (name, binding)
}

#[cfg(test)]
mod tests {
    use rcgen::BasicConstraints;

    use super::*;

    fn authority() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn csr(organisation: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "somebody");
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn the_certificate_has_the_given_name_and_no_group() {
        let (ca, key) = authority();
        let pem = certificate(&csr("system:masters"), "dana:7", &ca, &key, 1_700_000_000).unwrap();
        let der = crate::cluster::client::ders(&pem).remove(0);
        let (_, seen) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(seen.subject().to_string(), "CN=dana:7");
        assert_eq!(seen.validity().not_after.timestamp(), 1_700_000_000 + 24 * 3600);
        assert!(!seen.is_ca());
        let usage = seen.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
    }

    #[test]
    fn who_may_look_is_bound_to_the_role_that_looks() {
        for (role, name) in [(ClusterRole::ADMIN, "cluster-admin"), (ClusterRole::VIEW, "view")] {
            let (own, binding) = binding("muster:dana:7", role);
            assert_eq!((own.as_str(), &binding["roleRef"]["name"]), ("muster:operator:muster:dana:7", &json!(name)));
            assert_eq!(binding["subjects"].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn kubernetes_own_names_and_broken_requests_are_refused() {
        let (ca, key) = authority();
        for user in ["system:admin", "", "a b", "x/y"] {
            assert!(matches!(certificate(&csr("x"), user, &ca, &key, 0), Err(SignError::Name(_))), "{user}");
        }
        assert!(matches!(certificate("no", "dana:7", &ca, &key, 0), Err(SignError::Request(_))));
        let broken = csr("x").replace('A', "B");
        assert!(certificate(&broken, "dana:7", &ca, &key, 0).is_err());
    }
}
