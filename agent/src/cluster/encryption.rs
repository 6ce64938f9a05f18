//! The key by which API servers encrypt Secrets in etcd: made where the cluster begins, the same on every control plane.
//!
//! It travels to a joining control plane as a Secret. That Secret is itself encrypted in etcd by this key, so whoever has
//! only etcd's data has nothing; whoever may read all Secrets had them anyway.

use base64::Engine as _;
use kube::Client;
use rand::RngCore;
use serde_json::{Value, json};

use super::{api, bootstrap, documents::ENCRYPTION_FILE};
use crate::{Context, StepError, ports::Files};

const SECRET: &str = "/api/v1/namespaces/kube-system/secrets/muster-encryption";

/// Writes a fresh key where there is none.
pub fn ensure(files: &dyn Files) -> Result<(), StepError> {
    if files.read(ENCRYPTION_FILE)?.is_some() {
        return Ok(());
    }
    let mut key = [0u8; 32];
    rand::rng().fill_bytes(&mut key);
    let text = format!("{:#}\n", configuration(&base64::engine::general_purpose::STANDARD.encode(key)));
    Ok(files.write(ENCRYPTION_FILE, text.as_bytes(), 0o600, 0, 0)?)
}

fn configuration(key: &str) -> Value {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{"secretbox": {"keys": [{"name": "1", "secret": key}]}}, {"identity": {}}],
        }],
    })
}

/// Puts this node's key where joining control planes read it.
pub async fn publish(ctx: &Context, client: &Client) -> Result<(), StepError> {
    let Some(text) = ctx.files.read(ENCRYPTION_FILE)? else {
        return Err(StepError::failed(format!("{ENCRYPTION_FILE} is gone")));
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "muster-encryption", "namespace": "kube-system"},
        "stringData": {"configuration": String::from_utf8_lossy(&text)},
    });
    bootstrap::apply_when_possible(ctx, client, &(SECRET.to_owned(), secret)).await
}

/// Fetches the cluster's key. Before this node's API server starts.
pub async fn fetch(client: &Client, files: &dyn Files) -> Result<(), StepError> {
    let secret = api::get(client, SECRET).await?;
    let text = secret["data"]["configuration"]
        .as_str()
        .and_then(|data| base64::engine::general_purpose::STANDARD.decode(data).ok())
        .ok_or_else(|| StepError::failed("the Secret kube-system/muster-encryption holds no configuration"))?;
    if files.read(ENCRYPTION_FILE)?.as_ref() != Some(&text) {
        files.write(ENCRYPTION_FILE, &text, 0o600, 0, 0)?;
    }
    Ok(())
}
