//! etcd's members, by its JSON gateway: who is one, and which must go before another may come.
//!
//! A member that was announced and never started blocks all later ones. So before a join, under the cluster's turn, what
//! earlier attempts left is collected; which that is, is decided purely. A node on its way in says so by a key in etcd
//! that ends by itself, or the next would collect it.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use base64::Engine as _;
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
/// an attempt that started. `joining`: addresses of nodes that are on their way in. The caller holds the cluster's turn.
pub fn stale<'a>(
    members: &'a [Member],
    name: &str,
    address: Ipv4Addr,
    has_data: bool,
    joining: &BTreeSet<String>,
) -> Vec<(&'a Member, &'static str)> {
    let own_url = peer_url(address);
    let under_way = |member: &Member| joining.iter().any(|address| member.peer_urls.contains(&peer_url(address)));
    members
        .iter()
        .filter_map(|member| {
            let (here, started) = (member.peer_urls.contains(&own_url), !member.name.is_empty());
            let reason = match (here, started) {
                // Announced for this very join, perhaps just starting.
                (true, false) => return None,
                (true, true) if has_data => return None,
                (true, true) => "its data is gone: this node begins anew",
                (false, false) if under_way(member) => return None,
                (false, false) => "it was announced and never started",
                (false, true) if member.name == name => "this node's name stands at another address",
                (false, true) => return None,
            };
            Some((member, reason))
        })
        .collect()
}

/// The members that a dead node has left: by its name, or by its address where it never started.
pub fn of_node<'a>(members: &'a [Member], name: &str, address: &str) -> Vec<&'a Member> {
    let announced = |member: &Member| member.name.is_empty() && member.peer_urls.contains(&peer_url(address));
    members.iter().filter(|member| member.name == name || announced(member)).collect()
}

/// Where members talk to one another.
pub fn peer_url(address: impl std::fmt::Display) -> String {
    format!("https://{address}:2380")
}

/// Below this, addresses of nodes that are on their way in. Kubernetes keeps all of its own below `/registry/`.
const JOINING: &str = "/muster/joining/";
const JOINING_END: &str = "/muster/joining0";

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn unbase64(text: &str) -> Option<String> {
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok()
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
    /// Of the member at `endpoint` (`https://…:2379`), with the certificate that kubeadm made for probes; it need not answer.
    pub fn at(files: &dyn Files, endpoint: &str) -> Result<Self, StepError> {
        let read = |name: &str| -> Result<String, StepError> {
            let bytes = files.read(&format!("{KUBERNETES}/pki/etcd/{name}"))?.ok_or(EtcdError::NoCertificate)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (ca, cert, key) = (read("ca.crt")?, read("healthcheck-client.crt")?, read("healthcheck-client.key")?);
        Ok(Self(client::with_certificate(endpoint, &ca, &cert, &key)?))
    }

    /// By a client of a test's.
    #[cfg(test)]
    pub(super) fn over(client: Client) -> Self {
        Self(client)
    }

    /// The first of `endpoints` that answers.
    pub async fn connect(files: &dyn Files, endpoints: &[String]) -> Result<Self, StepError> {
        for endpoint in endpoints {
            let etcd = Self::at(files, endpoint)?;
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
    pub async fn collect(
        &self,
        name: &str,
        address: Ipv4Addr,
        has_data: bool,
    ) -> Result<(Vec<String>, bool), EtcdError> {
        let members = self.members().await?;
        let mut notes = Vec::new();
        let mut known = members.iter().any(|member| member.peer_urls.contains(&peer_url(address)));
        let joining = self.joining().await?;
        for (member, reason) in stale(&members, name, address, has_data, &joining) {
            self.remove(member.id).await?;
            known &= !member.peer_urls.contains(&peer_url(address));
            tracing::info!(id = format!("{:x}", member.id), name = member.name, reason, "an etcd member was removed");
            notes.push(format!("etcd member {:x} removed: {reason}", member.id));
        }
        Ok((notes, known))
    }

    /// Announces a member that learns before it votes.
    pub async fn add_learner(&self, address: Ipv4Addr) -> Result<(), EtcdError> {
        let body = json!({"peerURLs": [peer_url(address)], "isLearner": true});
        self.call("add a member", "/v3/cluster/member/add", &body).await.map(drop)
    }

    /// Gives a learner its vote; refused until it has all that the leader has.
    pub async fn promote(&self, id: u64) -> Result<(), EtcdError> {
        self.call("promote a member", "/v3/cluster/member/promote", &json!({"ID": id.to_string()})).await.map(drop)
    }

    /// Says for two minutes that the node at `address` is on its way in.
    pub async fn say_joining(&self, address: Ipv4Addr) -> Result<(), EtcdError> {
        let lease = self.call("grant a lease", "/v3/lease/grant", &json!({"TTL": "120"})).await?;
        let body = json!({"key": base64(&format!("{JOINING}{address}")), "value": base64("1"), "lease": lease["ID"]});
        self.call("write a key", "/v3/kv/put", &body).await.map(drop)
    }

    async fn joining(&self) -> Result<BTreeSet<String>, EtcdError> {
        // Up to the key that follows all with this prefix: `/` + 1 is `0`.
        let body = json!({"key": base64(JOINING), "range_end": base64(JOINING_END), "keys_only": true});
        let found = self.call("read keys", "/v3/kv/range", &body).await?;
        let keys = found["kvs"].as_array().into_iter().flatten().filter_map(|kv| unbase64(kv["key"].as_str()?));
        Ok(keys.filter_map(|key| key.strip_prefix(JOINING).map(str::to_owned)).collect())
    }

    /// Where the member at the end of this connection leads, hands that over to another voter.
    pub async fn hand_over(&self) -> Result<(), EtcdError> {
        let status = self.call("say its status", "/v3/maintenance/status", &json!({})).await?;
        let own = status["header"]["member_id"].clone();
        if own.is_null() || status["leader"] != own {
            return Ok(());
        }
        let own = own.as_str().and_then(|id| id.parse::<u64>().ok());
        let members = self.members().await?;
        let heir = members.iter().find(|member| Some(member.id) != own && !member.learner && !member.name.is_empty());
        let Some(heir) = heir else { return Ok(()) };
        let body = json!({"targetID": heir.id.to_string()});
        self.call("hand over its lead", "/v3/maintenance/transfer-leadership", &body).await.map(drop)
    }

    /// Whether the member at the end of this connection serves clients.
    pub async fn serves(&self) -> bool {
        let request = Request::get("/version").body(Vec::new()).expect("a fixed request");
        self.0.request_text(request).await.is_ok()
    }

    async fn call(&self, what: &'static str, path: &str, body: &Value) -> Result<Value, EtcdError> {
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .expect("a fixed request");
        self.0.request(request).await.map_err(|error| EtcdError::Refused { what, message: error.to_string() })
    }
}

/// The members as the first that answers knows them; asked three times around, with `pause` in between. Silence of all is an error,
/// and never an empty list.
pub async fn ask(asked: &[Etcd], pause: Duration) -> Result<Vec<Member>, EtcdError> {
    let mut last = EtcdError::Unreachable { endpoints: "any other control plane".to_owned() };
    for round in 0..3 {
        if round > 0 {
            tokio::time::sleep(pause).await;
        }
        for etcd in asked {
            match etcd.members().await {
                Ok(members) => return Ok(members),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
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

/// Where etcd's members answer: beside every API server that serves just now.
pub async fn endpoints(client: &Client) -> Result<Vec<String>, StepError> {
    let slice = api::get(client, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await?;
    let addresses = slice["endpoints"].as_array().into_iter().flatten().flat_map(|e| e["addresses"].as_array());
    Ok(addresses.flatten().filter_map(Value::as_str).map(client_url).collect())
}

/// Where the member at this address serves clients.
pub fn client_url(address: impl std::fmt::Display) -> String {
    format!("https://{address}:2379")
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
        let joining = ["10.0.0.4".to_owned()].into();
        stale(members, "b", ME.parse().unwrap(), has_data, &joining).iter().map(|(m, _)| m.id).collect()
    }

    #[test]
    fn a_sound_cluster_loses_nobody() {
        assert_eq!(ids(&[member(1, "a", "10.0.0.1"), member(3, "c", "10.0.0.3")], false), Vec::<u64>::new());
    }

    #[test]
    fn never_started_members_go_but_the_announcement_of_this_join_stays() {
        let members =
            [member(1, "a", "10.0.0.1"), member(2, "", ME), member(3, "", "10.0.0.3"), member(4, "", "10.0.0.4")];
        assert_eq!(ids(&members, false), [3], "the fourth is under way");
    }

    #[test]
    fn a_node_that_lost_its_data_or_moved_gives_its_old_membership_up() {
        assert_eq!(ids(&[member(2, "b", ME)], false), [2]);
        assert_eq!(ids(&[member(2, "b", "10.0.0.9")], false), [2]);
    }

    #[test]
    fn a_dead_nodes_members_are_found_by_name_and_an_announced_one_by_its_address() {
        let members =
            [member(1, "a", "10.0.0.1"), member(2, "b", ME), member(3, "", "10.0.0.3"), member(4, "c", "10.0.0.4")];
        let of = |name, address| of_node(&members, name, address).iter().map(|m| m.id).collect::<Vec<_>>();
        assert_eq!(of("b", "10.0.0.2"), [2]);
        assert_eq!(of("x", "10.0.0.3"), [3]);
        // Somebody else's by now.
        assert_eq!(of("x", "10.0.0.4"), Vec::<u64>::new());
    }

    #[test]
    fn an_attempt_that_started_goes_on() {
        assert_eq!(ids(&[member(2, "b", ME)], true), Vec::<u64>::new());
        assert_eq!(ids(&[member(2, "", ME)], true), Vec::<u64>::new());
    }

    /// A member that gives this answer to everything.
    fn server(code: u16, answer: &Value) -> Etcd {
        let body = answer.to_string();
        let service = tower::service_fn(move |_: Request<kube::client::Body>| {
            let body = kube::client::Body::from(body.clone().into_bytes());
            let response = http::Response::builder().status(code).body(body).unwrap();
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        Etcd(Client::new(service, "default"))
    }

    #[tokio::test]
    async fn a_member_that_waits_for_an_election_is_no_proof_that_it_left() {
        let silent = || server(503, &json!({"code": 14, "message": "etcdserver: request timed out"}));
        let members = json!({"members": [{"ID": "2", "name": "b", "peerURLs": [peer_url(ME)]}]});
        let asked = ask(&[silent(), server(200, &members)], Duration::ZERO).await.unwrap();
        assert_eq!(asked.iter().map(|member| member.id).collect::<Vec<_>>(), [2]);
        assert!(ask(&[silent()], Duration::ZERO).await.is_err());
        assert!(ask(&[], Duration::ZERO).await.is_err());
    }

    #[test]
    fn the_gateways_answer_is_read() {
        let value =
            json!({"ID": "9372538179322589801", "name": "a", "peerURLs": ["https://10.0.0.1:2380"], "isLearner": true});
        let seen = super::member(&value).unwrap();
        assert_eq!((seen.id, seen.learner), (9_372_538_179_322_589_801, true));
        assert!(super::member(&json!({"name": "no id"})).is_none());
    }
}
