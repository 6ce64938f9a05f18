//! What the site and the blueprint know of a cluster's member and of its network, added to what a role says.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{Compiler, context::api};
use crate::{
    kinds::{
        cluster_member::{MemberRole, Worker},
        pod_network::{Mode, Peer},
    },
    role,
};

impl Compiler<'_> {
    /// What the site and the blueprint know of a member; a role adds to it.
    pub(super) fn fill_member(&self, map: &mut Map<String, Json>) {
        let (site, node) = (self.site, self.node);
        let mut labels: BTreeMap<String, Json> =
            self.pool.labels.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        labels.insert("muster.dev/pool".to_owned(), json!(node.pool));
        labels.extend(node.disks.iter().map(|disk| (format!("muster.dev/disk-{disk}"), json!("true"))));
        if let Some(Json::Object(own)) = map.remove("labels") {
            labels.extend(own);
        }
        // Applications run on workers: endpoints lead there.
        let of_role = match self.pool.member {
            MemberRole::ControlPlane => Some("node-role.kubernetes.io/control-plane:NoSchedule".into()),
            MemberRole::Worker => None,
        };
        let mut taints: Vec<Json> = of_role.into_iter().collect();
        let mut more: Vec<Json> = self.pool.taints.iter().map(|t| Json::from(t.as_str())).collect();
        if let Some(Json::Array(own)) = map.remove("taints") {
            more.extend(own);
        }
        for taint in more {
            // Twice the same is what kubelet refuses to start with.
            if !taints.contains(&taint) {
                taints.push(taint);
            }
        }
        map.insert("name".to_owned(), json!(node.name));
        map.insert("role".to_owned(), json!(self.pool.member));
        map.insert("start".to_owned(), json!(node.start));
        map.insert("address".to_owned(), json!(node.address.to_string()));
        map.insert("api_endpoint".to_owned(), json!(api(site, node)));
        map.insert("kubernetes".to_owned(), json!(site.kubernetes));
        map.insert("pods".to_owned(), json!(site.pods.to_string()));
        map.insert("services".to_owned(), json!(site.services.to_string()));
        map.entry("image_repository").or_insert_with(|| json!("registry.k8s.io"));
        map.insert("labels".to_owned(), json!(labels));
        map.insert("taints".to_owned(), json!(taints));
        if self.pool.member == MemberRole::ControlPlane {
            let pools = site.pools.values().filter(|pool| pool.member == MemberRole::ControlPlane);
            map.insert("control_planes".to_owned(), json!(pools.map(|pool| pool.min).sum::<u32>()));
        }
        // Who leads cleans up; who leads is not known here.
        if self.pool.member == MemberRole::ControlPlane {
            map.insert("gone".to_owned(), json!(node.gone));
            map.insert("refused".to_owned(), json!(node.refused));
        }
        map.insert("workers".to_owned(), json!(self.workers()));
    }

    /// The workers' labels and taints, for a control plane. By their pools alone: what follows from another node's facts
    /// has no place in this one's catalog, so a pool whose role says more of its own is left to the join.
    fn workers(&self) -> Vec<Worker> {
        let site = self.site;
        let worker = |peer: &Peer| {
            let (name, _) = peer.name.rsplit_once('-')?;
            let (_, pool) = site.pools.iter().find(|(pool, _)| pool.as_str() == name)?;
            let more = role::with_included(&site.roles, &pool.role).into_iter().flat_map(|role| &role.resources).any(
                |written| {
                    let says = |key| written.node.get(&[key]).is_some();
                    written.kind == "cluster_member" && (says("labels") || says("taints"))
                },
            );
            let fits = pool.member == MemberRole::Worker && !more;
            fits.then(|| Worker { name: peer.name.clone(), labels: pool.labels.clone(), taints: pool.taints.clone() })
        };
        match self.pool.member {
            MemberRole::ControlPlane => {
                let mut workers: Vec<Worker> = self.node.peers.iter().filter_map(worker).collect();
                workers.sort_by(|one, other| one.name.cmp(&other.name));
                workers
            }
            MemberRole::Worker => Vec::new(),
        }
    }

    pub(super) fn fill_network(&self, map: &mut Map<String, Json>) {
        let node = self.node;
        map.entry("mode").or_insert_with(|| json!(self.site.network));
        map.insert("pods".to_owned(), json!(self.site.pods.to_string()));
        map.insert("node_pods".to_owned(), json!(node.node_pods.to_string()));
        map.insert("address".to_owned(), json!(node.address.to_string()));
        let external = map.get("mode") == Some(&json!(Mode::External));
        let mut peers: Vec<&Peer> = if external { Vec::new() } else { node.peers.iter().collect() };
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        map.insert("peers".to_owned(), json!(peers));
    }
}
