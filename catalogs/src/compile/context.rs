//! What templates and `when` may use on one node.

use serde_json::{Map, Value as Json, json};

use super::NodeInput;
use crate::{
    diagnostic::Diagnostic,
    site::{Pool, Site},
    template::Engine,
};

/// What templates and `when` may use.
pub(super) fn of(site: &Site, node: &NodeInput, pool: &Pool, errors: &mut Vec<Diagnostic>) -> Json {
    if site.alone {
        return json!({ "facts": node.facts });
    }
    let endpoints: Map<String, Json> = site
        .endpoints
        .iter()
        .map(|(name, endpoint)| {
            let address = node.endpoints.get(name).copied().or(endpoint.address);
            let value = json!({
                "address": address.map(|a| a.to_string()).unwrap_or_default(),
                "listen": endpoint.listen,
                "port": endpoint.port,
            });
            (name.to_string(), value)
        })
        .collect();
    let mut context = json!({
        "facts": node.facts,
        "node": {
            "name": node.name,
            "pool": node.pool,
            "address": node.address.to_string(),
            "pods": node.node_pods.to_string(),
            "disks": node.disks,
        },
        "pool": {
            "name": node.pool,
            "role": pool.role,
            "member": pool.member,
            "cpus": pool.cpus,
            "memory": pool.memory,
        },
        "peers": node.peers,
        "cluster": {
            "name": site.cluster,
            "environment": site.environment,
            "kubernetes": site.kubernetes,
            "pods": site.pods.to_string(),
            "services": site.services.to_string(),
            "dns": site.dns().to_string(),
            "network": site.network,
            "api": api(site, node),
        },
        "endpoints": endpoints,
    });
    // The values of variables may use all of the above, and what the coordinator provides, but not one another.
    if let Some(map) = context.as_object_mut() {
        map.extend(site.provided.clone());
    }
    let engine = Engine::new(&context, &site.sources, site.templates.clone(), site.names(node));
    let variables = engine.tree(&site.variable_tree, errors).to_json();
    if let (Some(map), Json::Object(variables)) = (context.as_object_mut(), variables) {
        map.extend(variables);
    }
    context
}

pub(super) fn api(site: &Site, node: &NodeInput) -> String {
    let Some((name, endpoint)) = site.endpoints.iter().find(|(name, _)| name.as_str() == "api") else {
        return String::new();
    };
    match node.endpoints.get(name).copied().or(endpoint.address) {
        Some(address) => format!("{address}:{}", endpoint.listen),
        None => String::new(),
    }
}
