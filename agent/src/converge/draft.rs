//! Secrets of a draft. One that is new with it is made when the draft's plan is applied: until then the coordinator refuses
//! it, and what is made of it is planned all the same.

use std::sync::Arc;

use async_trait::async_trait;

use crate::ports::{PortError, Secrets};

/// Stands for a secret that there is none of yet. Drafts are never applied, so nothing is ever made of it.
const TO_COME: &[u8] = b"made when the plan is applied";

pub(super) struct DraftSecrets(pub(super) Arc<dyn Secrets>);

#[async_trait]
impl Secrets for DraftSecrets {
    async fn get(&self, name: &str) -> Result<Vec<u8>, PortError> {
        match self.0.get(name).await {
            Err(PortError::Refused(_)) => Ok(TO_COME.to_vec()),
            answer => answer,
        }
    }
}
