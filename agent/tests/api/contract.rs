//! What an API server promises to those who write beside others: the fake one and the real one are held to the same.

use kube::Client;
use muster_agent::{adapters::fake::FakeCluster, cluster::api};
use serde_json::{Value, json};

use crate::lab::Node;

const ALL: &str = "/api/v1/namespaces/default/configmaps";
const ONE: &str = "/api/v1/namespaces/default/configmaps/contract";

fn map(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "contract"}, "data": {"text": text}})
}

/// Deletes what is exactly this.
fn exactly(uid: &Value, version: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid, "resourceVersion": version}})
}

async fn keeps(client: &Client) {
    let conflicts = |answer: Result<Value, api::ApiError>| match answer {
        Err(error) => assert!(error.is_conflict(), "{error}"),
        Ok(object) => panic!("it was written: {object}"),
    };
    let first = api::create(client, ALL, &map("1")).await.unwrap();
    conflicts(api::create(client, ALL, &map("2")).await);

    // A write of what was read before another wrote is refused.
    let mut second = first.clone();
    second["data"]["text"] = json!("2");
    let second = api::replace(client, ONE, &second).await.unwrap();
    let (old, new) = (&first["metadata"], &second["metadata"]);
    assert_eq!(old["uid"], new["uid"]);
    assert_ne!(old["resourceVersion"], new["resourceVersion"]);
    conflicts(api::replace(client, ONE, &first).await);
    let version = &old["resourceVersion"];
    conflicts(api::merge(client, ONE, &json!({"metadata": {"resourceVersion": version}, "data": {"text": "3"}})).await);
    let patch = json!({"metadata": {"resourceVersion": new["resourceVersion"]}, "data": {"text": null, "more": "4"}});
    let third = api::merge(client, ONE, &patch).await.unwrap();
    assert_eq!(third["data"], json!({"more": "4"}));

    // So is a deletion of what is no longer what was meant.
    let now = &third["metadata"];
    for (uid, version) in [(&json!("another"), &now["resourceVersion"]), (&now["uid"], &new["resourceVersion"])] {
        let refused = api::delete(client, ONE, &exactly(uid, version)).await;
        assert!(refused.as_ref().is_err_and(api::ApiError::is_conflict), "{refused:?}");
    }
    assert!(api::find(client, ONE).await.unwrap().is_some());
    for _ in 0..2 {
        api::delete(client, ONE, &exactly(&now["uid"], &now["resourceVersion"])).await.unwrap();
    }
    assert_eq!(api::find(client, ONE).await.unwrap(), None);
    assert!(api::replace(client, ONE, &map("5")).await.is_err());

    // What is made anew is another one, and what somebody waits for is there until he has done his part.
    let mut held = map("6");
    held["metadata"]["finalizers"] = json!(["muster.dev/contract"]);
    let held = api::create(client, ALL, &held).await.unwrap();
    assert_ne!(held["metadata"]["uid"], now["uid"]);
    api::delete(client, ONE, &json!({})).await.unwrap();
    let going = api::get(client, ONE).await.unwrap();
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    api::merge(client, ONE, &json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert_eq!(api::find(client, ONE).await.unwrap(), None);
}

#[tokio::test]
async fn the_fake_keeps_it() {
    keeps(&FakeCluster::default().client()).await;
}

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn the_real_one_keeps_it() {
    keeps(&Node::new().client).await;
}
