//! Tickets to join: a bootstrap token for one node name, and for control planes the key to the cluster's certificates.
//!
//! The node's name stands on the token's own object, so that whichever control plane leads when the request for a
//! certificate comes can tell for whom the token was. A token lives ten minutes; the certificates, encrypted by a key that
//! is only in memory and in tickets, live as long as the newest control plane's token.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use kube::Client;
use muster_ids::NodeName;
use rand::{Rng, RngCore};
use serde_json::{Map, Value, json};

use super::{KUBERNETES, api, bootstrap, discovery};
use crate::{
    Context, StepError,
    ports::{Files, JoinTicket},
};

/// How long a ticket is good for.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// For which node a token was minted; an annotation of its Secret.
pub const FOR_NODE: &str = "muster.dev/node";

/// How long a mint waits for a cluster that is being born.
const PATIENCE: Duration = Duration::from_secs(50);

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

/// The key that the published certificates are encrypted with: made once per agent and used again while it is good, or
/// two control planes that join at once would each make the other's worthless.
static CERTIFICATE_KEY: Mutex<Option<(String, Instant)>> = Mutex::new(None);

/// Mints a ticket for `node`. Any control plane can; the coordinator asks one at a time.
pub async fn mint(ctx: &Context, node: &NodeName, control_plane: bool) -> Result<JoinTicket, StepError> {
    let client = joinable(ctx).await?;
    let ca = String::from_utf8_lossy(&file(&*ctx.files, "ca.crt")?).into_owned();
    let ca_hash = discovery::hash(&ca).ok_or_else(|| StepError::failed("the cluster's CA is no certificate"))?;
    let expires = ctx.clock.now() + i64::try_from(LIFETIME.as_secs()).unwrap_or_default();
    let (id, secret) = (token_part(6), token_part(16));
    let object = token(&id, &secret, node, expires);
    let made = api::create(&client, SECRETS, &object).await?;
    let certificate_key = if control_plane { Some(share_certificates(ctx, &client, &id, &made).await?) } else { None };
    tracing::info!(%node, control_plane, token = id, "a ticket to join was minted");
    Ok(JoinTicket { token: format!("{id}.{secret}"), ca_hash, certificate_key, expires })
}

async fn joinable(ctx: &Context) -> Result<Client, StepError> {
    let begun = Instant::now();
    loop {
        if ctx.files.stat(&format!("{KUBERNETES}/pki/ca.key"))?.is_some()
            && let Ok(client) = ctx.kube.client().await
            && bootstrap::is_published(&client).await
        {
            return Ok(client);
        }
        if begun.elapsed() > PATIENCE {
            return Err(StepError::waits("this control plane's API server to answer"));
        }
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
}

fn token(id: &str, secret: &str, node: &NodeName, expires: i64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {
            "name": format!("bootstrap-token-{id}"),
            "namespace": "kube-system",
            "annotations": {FOR_NODE: node.as_str()},
        },
        "stringData": {
            "token-id": id,
            "token-secret": secret,
            "expiration": rfc3339(expires),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": bootstrap::JOINING,
        },
    })
}

pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Lower-case letters and digits, from the system's generator.
fn token_part(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// Encrypts the cluster's certificates and keys into the Secret that kubeadm reads, owned by the token: it goes with it.
async fn share_certificates(ctx: &Context, client: &Client, id: &str, token: &Value) -> Result<String, StepError> {
    let key = certificate_key();
    let raw = hex::decode(&key).expect("made by hex::encode");
    let mut data = Map::new();
    for name in [
        "ca.crt",
        "ca.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "sa.pub",
        "sa.key",
        "etcd/ca.crt",
        "etcd/ca.key",
    ] {
        let sealed = seal(&raw, &file(&*ctx.files, name)?)?;
        let key = name.replace('/', "-");
        data.insert(key, json!(base64::engine::general_purpose::STANDARD.encode(sealed)));
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": "kubeadm-certs",
            "namespace": "kube-system",
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Secret", "controller": true, "blockOwnerDeletion": true,
                "name": format!("bootstrap-token-{id}"),
                "uid": token["metadata"]["uid"],
            }],
        },
        "data": data,
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "kubeadm:kubeadm-certs", "namespace": "kube-system"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["kubeadm-certs"], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "kubeadm:kubeadm-certs", "namespace": "kube-system"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kubeadm:kubeadm-certs"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": bootstrap::JOINING}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system";
    let secret_path = format!("{SECRETS}/kubeadm-certs");
    let role_path = format!("{rbac}/roles/kubeadm:kubeadm-certs");
    let binding_path = format!("{rbac}/rolebindings/kubeadm:kubeadm-certs");
    futures::try_join!(
        share_secret(client, &secret_path, &secret),
        api::apply(client, &role_path, &role),
        api::apply(client, &binding_path, &binding),
    )?;
    Ok(key)
}

/// An older one is deleted, not changed: its owner's end would take the new one along.
async fn share_secret(client: &Client, path: &str, secret: &Value) -> Result<Value, api::ApiError> {
    match api::create(client, SECRETS, secret).await {
        Err(error) if error.is_conflict() => {
            api::delete(client, path, &json!({"propagationPolicy": "Background"})).await?;
            api::create(client, SECRETS, secret).await
        }
        other => other,
    }
}

fn certificate_key() -> String {
    let mut kept = CERTIFICATE_KEY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match kept.as_ref() {
        Some((key, made)) if made.elapsed() < LIFETIME => key.clone(),
        Some(_) | None => {
            let mut raw = [0u8; 32];
            rand::rng().fill_bytes(&mut raw);
            let key = hex::encode(raw);
            *kept = Some((key.clone(), Instant::now()));
            key
        }
    }
}

/// AES-256-GCM with the nonce before the text, as kubeadm opens it.
fn seal(key: &[u8], text: &[u8]) -> Result<Vec<u8>, StepError> {
    let failed = |_| StepError::failed("the certificates cannot be encrypted");
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(failed)?;
    let mut sealed = text.to_vec();
    let nonce: Nonce = key.seal_in_place_append_tag(Aad::empty(), &mut sealed).map_err(failed)?;
    let mut all = nonce.as_ref().to_vec();
    all.extend(sealed);
    Ok(all)
}

fn file(files: &dyn Files, name: &str) -> Result<Vec<u8>, StepError> {
    let path = format!("{KUBERNETES}/pki/{name}");
    files.read(&path)?.ok_or_else(|| StepError::failed(format!("{path} is gone")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_nonce_first() {
        let key = [7u8; 32];
        let sealed = seal(&key, b"a private key").unwrap();
        let opener = RandomizedNonceKey::new(&AES_256_GCM, &key).unwrap();
        let nonce = Nonce::try_assume_unique_for_key(&sealed[..12]).unwrap();
        let mut rest = sealed[12..].to_vec();
        assert_eq!(opener.open_in_place(nonce, Aad::empty(), &mut rest).unwrap(), b"a private key");
    }

    #[test]
    fn tokens_have_kubernetes_form_and_name_their_node() {
        let part = token_part(16);
        assert!(part.len() == 16 && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        let object = token("abcdef", "0123456789abcdef", &"workers-3".parse().unwrap(), 0);
        assert_eq!(object["metadata"]["annotations"][FOR_NODE], "workers-3");
        assert_eq!(object["stringData"]["expiration"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_key_is_kept_while_it_is_good() {
        assert_eq!(certificate_key(), certificate_key());
        assert_eq!(certificate_key().len(), 64);
    }
}
