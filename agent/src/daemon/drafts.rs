//! What the coordinator asks for beside catalogs: a draft to plan, a ticket to mint, a request to sign. Each is answered once,
//! with what came out or with why nothing did.

use std::sync::Arc;

use muster_proto::v1::{Draft, DraftAnswer, JoinOffer, JoinTicket, Mint, Sign, SignedOffer};

use super::{Rights, Work, puller::chain};
use crate::link::{Link, read_draft};

pub(super) async fn draft(link: Link, work: Arc<dyn Work>, draft: Draft) {
    let Draft { id, catalog } = draft;
    let planned = async {
        let enrolled = link.enrolled().ok_or("this node has no valid certificate")?;
        let signed = catalog.ok_or("the draft has no catalog")?;
        let catalog =
            read_draft(&signed, &enrolled.catalog_key, link.realm(), &enrolled.node).map_err(|error| chain(&error))?;
        let rows = work.plan(Arc::new(catalog)).await?;
        serde_json::to_string(&rows).map_err(|error| chain(&error))
    };
    let (rows_json, error) = match planned.await {
        Ok(rows) => (rows, String::new()),
        Err(error) => (String::new(), error),
    };
    if let Err(error) = link.answer_draft(DraftAnswer { id, rows_json, error }).await {
        tracing::warn!(error = chain(&error), "a draft's answer was not taken");
    }
}

pub(super) async fn mint(link: Link, work: Arc<dyn Work>, mint: Mint) {
    let Mint { id, node, control_plane } = mint;
    let minted = match node.parse() {
        Ok(node) => work.mint(&node, control_plane).await,
        Err(error) => Err(chain(&error)),
    };
    let (ticket, error) = match minted {
        Ok(ticket) => {
            let ticket = JoinTicket {
                token: ticket.token,
                ca_hash: ticket.ca_hash,
                certificate_key: ticket.certificate_key.unwrap_or_default(),
                expires: ticket.expires,
            };
            (Some(ticket), String::new())
        }
        Err(error) => {
            tracing::warn!(node, error, "no ticket was minted");
            (None, error)
        }
    };
    if let Err(error) = link.offer_join(JoinOffer { id, ticket, error }).await {
        tracing::warn!(error = chain(&error), "a ticket was not taken");
    }
}

pub(super) async fn sign(link: Link, work: Arc<dyn Work>, sign: Sign, rights: Rights) {
    let Sign { id, csr_pem, user } = sign;
    let (certificate_pem, ca_pem, error) = match work.sign(&csr_pem, &user, rights).await {
        Ok(signed) => (signed.certificate_pem, signed.ca_pem, String::new()),
        Err(error) => {
            tracing::warn!(user, error, "a request was not signed");
            (String::new(), String::new(), error)
        }
    };
    if let Err(error) = link.offer_signed(SignedOffer { id, certificate_pem, ca_pem, error }).await {
        tracing::warn!(error = chain(&error), "a signed request was not taken");
    }
}
