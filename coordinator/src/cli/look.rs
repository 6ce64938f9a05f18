//! The commands that look: status, nodes, events, kubeconfig, and one node.

use std::path::Path;

use anyhow::Context;
use muster_proto::v1;
use serde_json::json;

use super::{
    Ended,
    args::{Global, NodeCommand},
    connect::{self, Client},
    failure, follow, render, site,
};
use crate::status::Status;

/// A connection to the coordinator of the site's environment; none where the site cannot be read, which was said.
pub async fn client(global: &Global) -> anyhow::Result<Option<Client>> {
    match site::load(global)? {
        Some((_, site)) => Ok(Some(connect::connect(global, &site).await?)),
        None => Ok(None),
    }
}

/// Asks the coordinator how things are.
pub async fn ask(client: &mut Client) -> anyhow::Result<Status> {
    let reply = client.status(v1::StatusRequest {}).await.map_err(failure)?.into_inner();
    serde_json::from_str(&reply.status_json)
        .context("the coordinator's status cannot be read: is it of another version?")
}

/// `muster status`.
pub async fn status(global: &Global, watch: bool) -> anyhow::Result<Ended> {
    let Some(mut client) = client(global).await? else { return Ok(Ended::Error) };
    if watch {
        return follow::watch(&mut client, global.json).await;
    }
    let status = ask(&mut client).await?;
    if global.json {
        render::print_json(&status)?;
    } else {
        render::put(status.text());
    }
    Ok(Ended::Good)
}

/// `muster nodes`.
pub async fn nodes(global: &Global) -> anyhow::Result<Ended> {
    let Some(mut client) = client(global).await? else { return Ok(Ended::Error) };
    let status = ask(&mut client).await?;
    if global.json {
        render::print_json(&status.nodes)?;
        return Ok(Ended::Good);
    }
    let rows: Vec<Vec<String>> = status.nodes.iter().map(crate::status::NodeStatus::cells).collect();
    render::put(render::table(&crate::status::NodeStatus::HEAD, &rows));
    Ok(Ended::Good)
}

/// `muster node …`.
pub async fn node(global: &Global, command: NodeCommand) -> anyhow::Result<Ended> {
    let Some(mut client) = client(global).await? else { return Ok(Ended::Error) };
    match command {
        NodeCommand::Pause { node, time, reason } => {
            let seconds = render::seconds(&time)?;
            let Some(reason) = reason.or_else(|| (seconds == 0).then(String::new)) else {
                anyhow::bail!(
                    "a pause needs a reason\n  help: add --reason 'why', for those who find the node like that"
                )
            };
            client.pause_node(v1::PauseRequest { node: node.clone(), seconds, reason }).await.map_err(failure)?;
            let text = match seconds {
                0 => format!("{node} converges again."),
                _ => format!("{node} is paused for {time}."),
            };
            render::tell(global.json, &json!({ "node": node, "paused_seconds": seconds }), text)?;
        }
        NodeCommand::Revoke { node, no_wait } => {
            return super::revoke::revoke(global, &mut client, &node, no_wait).await;
        }
        NodeCommand::Readmit { node } => {
            let question = format!("Let the machine of {node} renew a certificate that ended more than 30 days ago?");
            if !super::change::agreed(global, &question)? {
                return render::unchanged(global.json).map(|()| Ended::Good);
            }
            let request = v1::ReadmitRequest { node: node.clone() };
            let instance = client.readmit_node(request).await.map_err(failure)?.into_inner().instance;
            let text = format!(
                "{node} may renew its certificate within a day; its agent tries at least every five minutes. At once: systemctl \
                 restart muster-agent on the node."
            );
            render::tell(global.json, &json!({ "node": node, "readmitted": true, "instance": instance }), text)?;
        }
        NodeCommand::Why { node } => {
            let status = ask(&mut client).await?;
            let found = status.nodes.iter().find(|known| known.name.as_str() == node);
            let found = found.with_context(|| format!("there is no node {node}\n  help: muster nodes"))?;
            render::tell(global.json, &json!(found), found.why().trim_end())?;
        }
    }
    Ok(Ended::Good)
}

/// `muster events`.
pub async fn events(global: &Global, follow: bool, after: u64) -> anyhow::Result<Ended> {
    let Some(mut client) = client(global).await? else { return Ok(Ended::Error) };
    let events = client.events(v1::EventsRequest { after, follow }).await.map_err(failure)?.into_inner();
    let printed = print(events, global.json);
    if follow { follow::until_interrupted(printed).await } else { printed.await }
}

async fn print(mut events: tonic::Streaming<v1::Event>, json: bool) -> anyhow::Result<Ended> {
    while let Some(event) = events.message().await.map_err(failure)? {
        if json {
            let v1::Event { number, time, level, node, what, text, count } = event;
            let count = count.max(1);
            render::say(json!({
                "number": number, "time": time, "level": level, "node": node, "what": what, "text": text, "count": count,
            }));
        } else {
            render::say(line(&event));
        }
    }
    Ok(Ended::Good)
}

/// One event on one line: when, how grave, who, what.
pub fn line(event: &v1::Event) -> String {
    let time = jiff::Timestamp::from_second(event.time).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S");
    let node = if event.node.is_empty() { "-" } else { &event.node };
    let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
    format!("{:>5}  {time}  {:<5}  {node:<16}  {}: {}{times}", event.number, event.level, event.what, event.text)
}

/// `muster kubeconfig`: the private key is made here and goes into the file alone.
pub async fn kubeconfig(global: &Global, output: Option<&Path>, viewer: bool) -> anyhow::Result<Ended> {
    let Some((_, site)) = site::load(global)? else { return Ok(Ended::Error) };
    let mut client = connect::connect(global, &site).await?;
    let key = rcgen::KeyPair::generate().context("no key could be made")?;
    let csr_pem = rcgen::CertificateParams::default().serialize_request(&key)?.pem()?;
    let reply = client.kubeconfig(v1::KubeconfigRequest { csr_pem, viewer }).await.map_err(failure)?.into_inner();
    let name = format!("{}-{}", site.cluster, site.environment);
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": { "server": reply.server, "certificate-authority-data": encode(&reply.ca_pem) } }],
        "users": [{ "name": reply.user, "user": {
            "client-certificate-data": encode(&reply.certificate_pem), "client-key-data": encode(&key.serialize_pem()) } }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": reply.user } }],
        "current-context": name,
    });
    let text = serde_json::to_string_pretty(&config)? + "\n";
    match output {
        Some(path) => {
            connect::write_private(path, &text)?;
            if global.json {
                render::print_json(&json!({ "file": path }))?;
            }
        }
        None => render::put(&text),
    }
    Ok(Ended::Good)
}
