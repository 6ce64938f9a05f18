//! etcd's members, by its JSON gateway: who is one, and which must go before another may come.
//!
//! etcd takes one joining member at a time, and a member that was announced and never started blocks all later ones. So
//! before a join, under the cluster's turn, what earlier attempts left is collected. Which that is, is decided purely.

use std::net::Ipv4Addr;

use http::Request;
use kube::Client;
use serde_json::{Value, json};

use super::{KUBERNETES, api, client};
use crate::{StepError, ports::Files};

/// A member, started or only announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    /// Empty until it has started once.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub learner: bool,
}

/// Members that must be removed before `name` at `address` joins, with the reason. `has_data`: this node has etcd data of
/// an attempt that started.
///
/// The caller holds the cluster's turn, so no other member can be on its way in.
pub fn stale<'a>(members: &'a [Member], name: &str, address: Ipv4Addr, has_data: bool) -> Vec<(&'a Member, &'static str)> {
    let own_url = peer_url(address);
    members
        .iter()
        .filter_map(|member| {
            let (here, started) = (member.peer_urls.contains(&own_url), !member.name.is_empty());
            let reason = match (here, started) {
                // Announced for this very join, perhaps just starting.
                (true, false) => return None,
                (true, true) if has_data => return None,
                (true, true) => "its data is gone: this node begins anew",
                (false, false) => "it was announced and never started",
                (false, true) if member.name == name => "this node's name stands at another address",
                (false, true) => return None,
            };
            Some((member, reason))
        })
        .collect()
}

/// Where members talk to one another.
pub fn peer_url(address: Ipv4Addr) -> String {
    format!("https://{address}:2380")
}

/// A client of some etcd member.
pub struct Etcd(Client);

/// etcd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("this node has no certificate for etcd")]
    NoCertificate,
    #[error("no etcd member answers at {endpoints}")]
    Unreachable { endpoints: String },
    #[error("etcd refuses to {what}: {message}")]
    Refused { what: &'static str, message: String },
}

impl From<EtcdError> for StepError {
    fn from(error: EtcdError) -> Self {
        match error {
            EtcdError::NoCertificate => Self::failed(error.to_string()),
            EtcdError::Unreachable { .. } | EtcdError::Refused { .. } => Self::failed(error.to_string()).retry(),
        }
    }
}

impl Etcd {
    /// The first of `endpoints` (`https://…:2379`) that answers, with the certificate that kubeadm made for probes.
    pub async fn connect(files: &dyn Files, endpoints: &[String]) -> Result<Self, StepError> {
        let read = |name: &str| -> Result<String, StepError> {
            let bytes = files.read(&format!("{KUBERNETES}/pki/etcd/{name}"))?.ok_or(EtcdError::NoCertificate)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (ca, cert, key) = (read("ca.crt")?, read("healthcheck-client.crt")?, read("healthcheck-client.key")?);
        for endpoint in endpoints {
            let etcd = Self(client::with_certificate(endpoint, &ca, &cert, &key)?);
            match etcd.members().await {
                Ok(_) => return Ok(etcd),
                Err(error) => tracing::debug!(%error, endpoint, "an etcd member does not answer"),
            }
        }
        Err(EtcdError::Unreachable { endpoints: endpoints.join(", ") }.into())
    }

    pub async fn members(&self) -> Result<Vec<Member>, EtcdError> {
        let answer = self.call("list the members", "/v3/cluster/member/list", &json!({"linearizable": true})).await?;
        Ok(answer["members"].as_array().into_iter().flatten().filter_map(member).collect())
    }

    pub async fn remove(&self, id: u64) -> Result<(), EtcdError> {
        self.call("remove a member", "/v3/cluster/member/remove", &json!({"ID": id.to_string()})).await.map(drop)
    }

    /// Removes what must go before this node joins. Returns what was removed, for people, and whether the cluster still
    /// counts this node's address among its members.
    pub async fn collect(&self, name: &str, address: Ipv4Addr, has_data: bool) -> Result<(Vec<String>, bool), EtcdError> {
        let members = self.members().await?;
        let mut notes = Vec::new();
        let mut known = members.iter().any(|member| member.peer_urls.contains(&peer_url(address)));
        for (member, reason) in stale(&members, name, address, has_data) {
            self.remove(member.id).await?;
            known &= !member.peer_urls.contains(&peer_url(address));
            tracing::info!(id = format!("{:x}", member.id), name = member.name, reason, "an etcd member was removed");
            notes.push(format!("etcd member {:x} removed: {reason}", member.id));
        }
        Ok((notes, known))
    }

    async fn call(&self, what: &'static str, path: &str, body: &Value) -> Result<Value, EtcdError> {
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .expect("a fixed request");
        self.0.request(request).await.map_err(|error| EtcdError::Refused { what, message: error.to_string() })
    }
}

fn member(value: &Value) -> Option<Member> {
    let texts = |key: &str| -> Vec<String> {
        value[key].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    Some(Member {
        id: value["ID"].as_str()?.parse().ok()?,
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        peer_urls: texts("peerURLs"),
        client_urls: texts("clientURLs"),
        learner: value["isLearner"].as_bool().unwrap_or_default(),
    })
}

/// Where etcd's members answer, as their pods say.
pub async fn endpoints(client: &Client) -> Result<Vec<String>, StepError> {
    let pods = api::get(client, "/api/v1/namespaces/kube-system/pods?labelSelector=component%3Detcd,tier%3Dcontrol-plane").await?;
    let annotation = "kubeadm.kubernetes.io/etcd.advertise-client-urls";
    let mut all: Vec<String> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| pod["metadata"]["annotations"][annotation].as_str())
        .flat_map(|urls| urls.split(','))
        .map(str::to_owned)
        .collect();
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "10.0.0.2";

    fn member(id: u64, name: &str, host: &str) -> Member {
        Member {
            id,
            name: name.into(),
            peer_urls: vec![format!("https://{host}:2380")],
            client_urls: vec![],
            learner: false,
        }
    }

    fn ids(members: &[Member], has_data: bool) -> Vec<u64> {
        stale(members, "b", ME.parse().unwrap(), has_data).iter().map(|(m, _)| m.id).collect()
    }

    #[test]
    fn a_sound_cluster_loses_nobody() {
        assert_eq!(ids(&[member(1, "a", "10.0.0.1"), member(3, "c", "10.0.0.3")], false), Vec::<u64>::new());
    }

    #[test]
    fn never_started_members_go_but_the_announcement_of_this_join_stays() {
        let members = [member(1, "a", "10.0.0.1"), member(2, "", ME), member(3, "", "10.0.0.3")];
        assert_eq!(ids(&members, false), [3]);
    }

    #[test]
    fn a_node_that_lost_its_data_or_moved_gives_its_old_membership_up() {
        assert_eq!(ids(&[member(2, "b", ME)], false), [2]);
        assert_eq!(ids(&[member(2, "b", "10.0.0.9")], false), [2]);
    }

    #[test]
    fn an_attempt_that_started_goes_on() {
        assert_eq!(ids(&[member(2, "b", ME)], true), Vec::<u64>::new());
        assert_eq!(ids(&[member(2, "", ME)], true), Vec::<u64>::new());
    }

    #[test]
    fn the_gateways_answer_is_read() {
        let value = json!({"ID": "9372538179322589801", "name": "a", "peerURLs": ["https://10.0.0.1:2380"], "isLearner": true});
        let seen = super::member(&value).unwrap();
        assert_eq!((seen.id, seen.learner), (9_372_538_179_322_589_801, true));
        assert!(super::member(&json!({"name": "no id"})).is_none());
    }
}
