//! Pods that leave the pod network do so under their node's address. One nftables table of our own holds that one rule;
//! it is replaced as a whole, and nothing else is touched.
//!
//! Service addresses never come here as such: kube-proxy has turned them into pods' or nodes' addresses before the
//! postrouting hook.

use muster_plan::kinds::pod_network::Range;
use serde_json::{Value, json};

use crate::{
    Context, StepError,
    ports::{CommandError, Invocation},
};

const TABLE: &str = "muster-pods";

/// Replaces the table.
pub async fn masquerade(ctx: &Context, pods: Range) -> Result<(), StepError> {
    let table = json!({"family": "inet", "name": TABLE});
    let document = json!({"nftables": [
        // Added before it is deleted, so that deleting never fails; all of it is one transaction.
        {"add": {"table": table}},
        {"delete": {"table": table}},
        {"add": {"table": table}},
        {"add": {"chain": {
            "family": "inet", "table": TABLE, "name": "postrouting",
            "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept",
        }}},
        {"add": {"rule": {"family": "inet", "table": TABLE, "chain": "postrouting", "expr": rule(pods)}}},
    ]});
    let invocation = Invocation::new(["nft", "-j", "-f", "-"]).stdin(document.to_string());
    let output = ctx.commands.run(invocation).await.map_err(missing)?;
    if output.success() {
        return Ok(());
    }
    Err(StepError::failed(format!("nft refuses the pods' masquerade: {}", output.tail(2))).retry())
}

/// The range that our table masquerades; none where the table is not there or not as we write it.
pub async fn masqueraded(ctx: &Context) -> Result<Option<Range>, StepError> {
    let invocation = Invocation::new(["nft", "-j", "list", "table", "inet", TABLE]).read_only();
    let output = ctx.commands.run(invocation).await.map_err(missing)?;
    if !output.success() {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&output.stdout).ok().and_then(|listed| read(&listed)))
}

fn missing(error: CommandError) -> StepError {
    StepError::failed("nft cannot be run")
        .because(error)
        .help("the role needs the package nftables before the pod_network")
}

fn rule(pods: Range) -> Value {
    let prefix = json!({"prefix": {"addr": pods.address.to_string(), "len": pods.prefix}});
    let field = |name: &str| json!({"payload": {"protocol": "ip", "field": name}});
    json!([
        {"match": {"op": "==", "left": field("saddr"), "right": prefix}},
        {"match": {"op": "!=", "left": field("daddr"), "right": prefix}},
        {"masquerade": null},
    ])
}

fn read(listed: &Value) -> Option<Range> {
    let items: Vec<&Value> = listed["nftables"].as_array()?.iter().collect();
    let rules: Vec<&Value> = items.iter().map(|item| &item["rule"]).filter(|rule| !rule.is_null()).collect();
    let hooked = items.iter().any(|item| item["chain"]["hook"] == "postrouting" && item["chain"]["type"] == "nat");
    let [rule_seen] = rules.as_slice() else { return None };
    let prefix = &rule_seen["expr"][0]["match"]["right"]["prefix"];
    let pods = Range::parse(&format!("{}/{}", prefix["addr"].as_str()?, prefix["len"].as_u64()?))?;
    (hooked && rule_seen["expr"] == rule(pods)).then_some(pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(expr: &Value) -> Value {
        json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "inet", "name": TABLE, "handle": 3}},
            {"chain": {"family": "inet", "table": TABLE, "name": "postrouting", "type": "nat", "hook": "postrouting", "prio": 100}},
            {"rule": {"family": "inet", "table": TABLE, "chain": "postrouting", "handle": 2, "expr": expr}},
        ]})
    }

    #[test]
    fn our_rule_is_recognised_and_another_is_not() {
        let pods = Range::parse("10.244.0.0/16").unwrap();
        assert_eq!(read(&listed(&rule(pods))), Some(pods));
        let mut other = rule(pods);
        other[1]["match"]["op"] = json!("==");
        assert_eq!(read(&listed(&other)), None);
        assert_eq!(read(&json!({"nftables": []})), None);
    }
}
