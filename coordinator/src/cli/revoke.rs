//! `muster node revoke`: asks, decides, and follows until the node is gone and its pool has another.

use std::time::{Duration, Instant};

use anyhow::bail;
use muster_proto::v1;
use serde_json::json;

use super::{Ended, Global, connect::Client, failure, look, progress::Stage, render};
use crate::status::{NodeLife, NodeStatus, Status};

const EVERY: Duration = Duration::from_millis(300);
/// A machine is made, boots and joins meanwhile.
const PATIENCE: Duration = Duration::from_secs(600);

/// Another node cannot be made by a copy of what this one knew.
const KEYS: &str = "It was a control plane: it had the keys of the cluster's CA, of etcd and of service accounts, and they cannot be \
                    called back. Where they may have been read, make a new cluster and move the applications.";

pub async fn revoke(global: &Global, client: &mut Client, node: &str, no_wait: bool) -> anyhow::Result<Ended> {
    let before = look::ask(client).await?;
    let Some(found) = before.nodes.iter().find(|known| known.name.as_str() == node) else {
        bail!("there is no node {node}\n  help: muster nodes");
    };
    let question = format!(
        "Take {node} out of service at once and for good? Its pods end without a drain, its machine is removed, and pool {} \
         gets another",
        found.pool
    );
    if !super::change::agreed(global, &question)? {
        return render::unchanged(global.json).map(|()| Ended::Good);
    }
    let reply = client.revoke_node(v1::RevokeRequest { node: node.to_owned() }).await.map_err(failure)?.into_inner();
    let mut replaced = Vec::new();
    if !no_wait {
        let mut stage = Stage::begin(format!("revoking {node}"));
        replaced = follow(client, &before, node, &mut stage).await?;
        stage.done(&told(&replaced));
    }
    let mut text = if no_wait {
        format!("{node} is refused from now on; `muster status` shows how it goes.")
    } else {
        format!("{node} is gone: nobody takes anything from it any more; {}.", told(&replaced))
    };
    if reply.control_plane {
        text = format!("{text}\n{KEYS}");
    }
    let out = json!({ "node": node, "revoked": true, "control_plane": reply.control_plane, "in_its_place": replaced });
    render::tell(global.json, &out, text)?;
    Ok(Ended::Good)
}

fn told(replaced: &[String]) -> String {
    match replaced {
        [] => "no other was needed".to_owned(),
        names => format!("{} in its place", names.join(", ")),
    }
}

/// Until it is gone from the blueprint and those that came for it serve; who they are.
async fn follow(client: &mut Client, before: &Status, node: &str, stage: &mut Stage) -> anyhow::Result<Vec<String>> {
    let begun = Instant::now();
    let known = |other: &NodeStatus| before.nodes.iter().any(|node| node.name == other.name);
    loop {
        // A coordinator that goes away in between goes on where it was.
        if let Ok(status) = look::ask(client).await {
            let gone = !status.nodes.iter().any(|other| other.name.as_str() == node);
            let new: Vec<&NodeStatus> = status.nodes.iter().filter(|other| !known(other)).collect();
            // Read once more: the node goes a moment before another is planned.
            if gone
                && status.settled
                && status.waits.is_empty()
                && new.iter().all(|other| other.state == NodeLife::Written)
            {
                return Ok(new.iter().map(|other| other.name.to_string()).collect());
            }
            let of_it = status.waits.iter().find(|waits| waits.contains(node)).cloned();
            let coming = || {
                new.iter().find(|other| other.state != NodeLife::Written).map(|other| format!("{} is made", other.name))
            };
            if let Some(text) = of_it.or_else(coming) {
                stage.update(text);
            }
        }
        if begun.elapsed() > PATIENCE {
            bail!(
                "{node} is refused, and not all of it is done after {} minutes\n  help: muster status",
                PATIENCE.as_secs() / 60
            );
        }
        tokio::time::sleep(EVERY).await;
    }
}
