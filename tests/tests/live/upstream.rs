//! What others demand of a cluster: the specs of upstream's own tests that are quick and steady.

use anyhow::Context;
use muster_tests::lab::{Lab, run};

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/artefacts/e2e/network.txt");

/// Every listed conformance spec of sig-network passes; the task runner runs them and tells of each.
pub fn network(lab: &mut Lab) -> anyhow::Result<()> {
    let xtask = std::env::var("XTASK_BIN").context("XTASK_BIN is not set: run cargo xtask test")?;
    let config = lab.site.with_file_name("kubeconfig");
    let told = run(&xtask, &["upstream", "network", "--list", LIST, "--kubeconfig", &config.to_string_lossy()])?;
    println!("  {}", told.trim_end().lines().last().unwrap_or_default());
    Ok(())
}
