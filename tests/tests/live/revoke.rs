//! A node that nobody trusts any more: out of the cluster for good, with what it knows worth nothing, and another in its place.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use muster_tests::lab::{Lab, PREFIX, Payments, all_payments_are_there, on_node, run, wait};

const PATIENCE: Duration = Duration::from_secs(240);

/// The control plane that leads, then the worker with the database's disk.
pub fn revoked(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = ["-n", "kube-system", "get", "lease", "muster", "-o", "jsonpath={.spec.holderIdentity}"];
    let leader = lab.kubectl(&leader)?;
    let payments = Payments::start(lab, "revoked-leader")?;
    let at = payments.now();
    let other = revoke(lab, &leader)?;
    ensure!(lab.etcd_members()? == 3, "etcd has {} members", lab.etcd_members()?);
    payments.finish(lab)?.none_later_than_10_s_after(at)?;
    println!("  {leader} led, and {other} is in its place");

    let holder = ["get", "nodes", "-l", "muster.dev/disk-easypay", "-o", "jsonpath={.items[*].metadata.name}"];
    let holder = lab.kubectl(&holder)?;
    let stolen = on_node(&holder, &["cat", "/var/lib/kubelet/pki/kubelet-client-current.pem"])?;
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("kubelet.pem");
    std::fs::write(&key, stolen)?;
    let (_, mine) = as_kubelet(lab, &key, &["get", "node", &holder, "-o", "name"])?;
    ensure!(mine.contains(&holder), "the certificate was none of {holder}'s before: {mine}");

    let payments = Payments::start(lab, "revoked-holder")?;
    let began = Instant::now();
    let other = revoke(lab, &holder)?;
    wait(PATIENCE, || lab.pays())?;
    println!(
        "  payments again {:.1} s after {holder} was revoked; {other} has the disk",
        began.elapsed().as_secs_f64()
    );
    payments.finish(lab)?;
    all_payments_are_there(lab)?;

    // What somebody has copied from it is worth nothing: neither its own name, nor others' tokens, nor Secrets.
    let node = folder.path().join("node.yaml");
    std::fs::write(&node, format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {holder}}}\n"))?;
    let node = node.to_string_lossy().into_owned();
    for (args, why) in [
        (["create", "--filename", &node].as_slice(), "this node was revoked"),
        (["create", "token", "default", "--namespace", "easypay"].as_slice(), "orbidden"),
        (["get", "secrets", "--namespace", "easypay"].as_slice(), "orbidden"),
    ] {
        let (done, said) = as_kubelet(lab, &key, args)?;
        ensure!(!done && said.contains(why), "kubectl {args:?} with the kubelet's certificate of {holder}: {said}");
    }
    // Nor can anybody else give it its name back.
    let error = lab.kubectl(&["create", "--filename", &node]).expect_err("a Node of a refused name").to_string();
    ensure!(error.contains("this node was revoked"), "{error}");
    let said = lab.expect(&["node", "revoke", &holder, "--yes"], &[1])?;
    ensure!(said.is_empty(), "of a node that is gone: {said}");
    lab.wait_ready(PATIENCE)
}

/// Revokes and waits; who is in its place.
fn revoke(lab: &Lab, node: &str) -> anyhow::Result<String> {
    let began = Instant::now();
    let said = lab.json(&["node", "revoke", node, "--yes"])?;
    let others = said["in_its_place"].as_array().context("node revoke --json says who is in its place")?;
    ensure!(others.len() == 1, "in place of {node}: {others:?}");
    let other = others[0].as_str().unwrap_or_default().to_owned();
    let nodes = lab.kubectl(&["get", "nodes", "-o", "name"])?;
    let named = |name: &str| nodes.lines().any(|line| line == format!("node/{name}"));
    ensure!(!named(node) && named(&other), "nodes: {nodes}");
    let machines = run("docker", &["ps", "--all", "--format", "{{.Names}}"])?;
    ensure!(!machines.lines().any(|machine| machine == format!("{PREFIX}{node}")), "{machines}");
    println!("  {node} revoked and replaced after {:.1} s", began.elapsed().as_secs_f64());
    Ok(other)
}

/// Whether `kubectl` did it with this certificate alone, and what it said.
fn as_kubelet(lab: &Lab, key: &Path, args: &[&str]) -> anyhow::Result<(bool, String)> {
    let status = lab.json(&["status"])?;
    let api = status["api"].as_str().context("status --json has the API's address")?;
    let kubectl = std::env::var("KUBECTL_BIN").context("KUBECTL_BIN is not set")?;
    let out = Command::new(kubectl)
        .args(["--kubeconfig", "/dev/null", "--insecure-skip-tls-verify", "--request-timeout=10s", "--server", api])
        .arg("--client-certificate")
        .arg(key)
        .arg("--client-key")
        .arg(key)
        .args(args)
        .output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    Ok((out.status.success(), said))
}
