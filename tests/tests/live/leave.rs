//! What leaves the site.

use std::time::Duration;

use anyhow::ensure;
use muster_tests::lab::{Lab, wait};

/// An application that waits for ever.
const APP: &str = r#"
[app.leaving]

[app.leaving.web]
image = "pause:3.10.1"
replicas = 1
cpu = 0.01
"#;

/// Objects without an application.
const SET: &str = r#"

[[manifest]]
name = "leaving-set"
content = """
apiVersion: v1
kind: Namespace
metadata: {name: leaving-set}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ours, namespace: leaving-set}
data: {a: b}
"""
"#;

/// An application and a manifest that leave the site are deleted, as the plan says; the namespace that holds what somebody
/// else made stays.
pub fn sets(lab: &mut Lab) -> anyhow::Result<()> {
    let names = |lab: &Lab, what: &str| lab.kubectl(&["get", what, "--all-namespaces", "--no-headers"]);
    std::fs::write(lab.site.join("apps/leaving.toml"), APP)?;
    lab.edit("roles/control-plane.toml", |text| format!("{text}{SET}"))?;
    lab.expect(&["apply", "--yes"], &[0])?;
    let made = names(lab, "deployments,configmaps")?;
    ensure!(made.contains("deployment.apps/web") && made.contains("leaving-set"), "{made}");
    lab.kubectl(&["create", "configmap", "theirs", "--namespace", "leaving-set"])?;

    std::fs::remove_file(lab.site.join("apps/leaving.toml"))?;
    lab.edit("roles/control-plane.toml", |text| text.replace(SET, ""))?;
    let plan = lab.expect(&["plan"], &[2])?;
    for gone in ["- deployment leaving/web", "- namespace leaving", "- configmap leaving-set/ours"] {
        ensure!(plan.contains(gone), "the plan does not show `{gone}`:\n{plan}");
    }
    lab.expect(&["apply", "--yes"], &[0])?;
    wait(Duration::from_secs(240), || {
        let left = names(lab, "deployments,configmaps,namespaces")?;
        let gone = !left.lines().any(|line| line.starts_with("leaving ") || line.contains("namespace/leaving "));
        ensure!(gone && !left.contains("configmap/ours"), "still there:\n{left}");
        ensure!(left.contains("configmap/theirs") && left.contains("namespace/leaving-set"), "too much went:\n{left}");
        Ok(())
    })?;
    let events = lab.expect(&["events"], &[0])?;
    ensure!(events.contains("configmap leaving-set/theirs"), "no event says why the namespace stays:\n{events}");
    lab.expect(&["plan"], &[0])?;
    lab.kubectl(&["delete", "namespace", "leaving-set"]).map(drop)
}
