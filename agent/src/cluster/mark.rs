//! A note on an object of ours of what it was made of, with the generation that Kubernetes gave it then: a later change by hand
//! is seen by the generation, whatever fields it is in.

use kube::Client;
use serde_json::{Value, json};

use super::api::{self, ApiError};

const MARK: &str = "muster.dev/settings";

/// The digest that was noted, unless the specification was changed after it.
pub fn of(object: &Value) -> Option<String> {
    let (digest, generation) = object["metadata"]["annotations"][MARK].as_str()?.split_once('@')?;
    (object["metadata"]["generation"].as_u64() == generation.parse().ok()).then(|| digest.to_owned())
}

/// Notes it on the object as it is now. Where somebody changes it meanwhile, its generation is another than the noted one.
pub async fn note(client: &Client, path: &str, digest: &str) -> Result<(), ApiError> {
    let object = api::get(client, path).await?;
    let mark = format!("{digest}@{}", object["metadata"]["generation"]);
    api::merge(client, path, &json!({"metadata": {"annotations": {MARK: mark}}})).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_by_hand_shows_in_the_generation() {
        let set = |generation: u64| json!({"metadata": {"generation": generation, "annotations": {MARK: "ab@3"}}});
        assert_eq!(of(&set(3)).as_deref(), Some("ab"));
        assert_eq!(of(&set(4)), None);
        assert_eq!(of(&json!({"metadata": {"generation": 3}})), None);
    }
}
