//! Whom a joining node may believe: the cluster's CA, read from anyone and believed for its digest alone.
//!
//! The digest comes with the ticket over mTLS. kubeadm's own way waits for a signature that a controller makes for each
//! token, looking every five seconds; the digest proves the same at once.

use base64::Engine as _;
use muster_ids::Digest;
use serde_json::json;

use super::{api, client};
use crate::{Context, StepError};

/// Where kubeadm reads the cluster's address and CA; no secret is in it.
pub const FILE: &str = "/run/muster/discovery.conf";

const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// Fetches the CA, checks it against `ca_hash` (`sha256:…` of its public key) and writes [`FILE`]. Returns the CA, PEM.
pub async fn discover(ctx: &Context, api_endpoint: &str, ca_hash: &str) -> Result<String, StepError> {
    let server = format!("https://{api_endpoint}");
    let stranger = client::anonymous(&server, None)?;
    let info = api::get(&stranger, CLUSTER_INFO).await?;
    let ca = ca_of(info["data"]["kubeconfig"].as_str().unwrap_or_default())
        .ok_or_else(|| StepError::failed("the cluster's ConfigMap kube-public/cluster-info holds no CA").retry())?;
    let found = hash(&ca).ok_or_else(|| StepError::failed("the cluster's CA is no certificate").retry())?;
    if found != ca_hash {
        return Err(StepError::failed(format!("what answers at {server} is not this cluster: its CA has another key"))
            .help("another cluster has the endpoint's address, or somebody stands in between")
            .retry());
    }
    ctx.files.write(FILE, kubeconfig(&server, &ca).as_bytes(), 0o600, 0, 0)?;
    Ok(ca)
}

/// A kubeconfig of address and CA without credentials: what kubeadm's discovery reads and cluster-info holds.
pub fn kubeconfig(server: &str, ca_pem: &str) -> String {
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": {"server": server, "certificate-authority-data": ca}}],
        "contexts": [{"name": "discovery", "context": {"cluster": "kubernetes", "user": "discovery"}}],
        "current-context": "discovery",
        "users": [{"name": "discovery", "user": {}}],
    });
    format!("{document:#}\n")
}

fn ca_of(kubeconfig: &str) -> Option<String> {
    let kubeconfig = client::parse(kubeconfig).ok()?;
    let data = kubeconfig.clusters.first()?.cluster.as_ref()?.certificate_authority_data.clone()?;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).ok()?).ok()
}

/// `sha256:…` of a certificate's public key (SubjectPublicKeyInfo, DER), as kubeadm writes it.
pub fn hash(ca_pem: &str) -> Option<String> {
    let der = client::ders(ca_pem).into_iter().next()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    Some(format!("sha256:{}", Digest::of(certificate.public_key().raw)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn the_ca_comes_back_out_of_cluster_info() {
        let ca = ca();
        assert_eq!(ca_of(&kubeconfig("https://10.0.0.1:6443", &ca)).as_ref(), Some(&ca));
        assert_eq!(ca_of("kind: Config"), None);
    }

    #[test]
    fn two_authorities_have_two_hashes() {
        let (a, b) = (ca(), ca());
        assert_ne!(hash(&a), hash(&b));
        assert!(hash(&a).unwrap().starts_with("sha256:") && hash(&a).unwrap().len() == 71);
        assert_eq!(hash("nothing"), None);
    }
}
