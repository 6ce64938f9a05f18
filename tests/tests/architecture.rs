//! Who may import whom, crate by crate: the workspace's merged features would hide a leak, so each crate is asked alone.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// Crates that decide and do nothing: none may reach a runtime, the network or a cloud.
const PURE: [&str; 4] = ["muster-ids", "muster-catalog", "muster-plan", "muster-planner"];
const IMPURE: [&str; 9] =
    ["tokio", "tonic", "bollard", "kube", "k8s-openapi", "hyper", "rusqlite", "reqwest", "aws-config"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace").to_owned()
}

/// Every crate that `package` links, itself included.
fn reaches(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_reach_no_runtime() {
    for package in PURE {
        let reached = reaches(package);
        assert!(reached.contains(package), "{package} was not read: {reached:?}");
        let leaks: Vec<_> = IMPURE.iter().filter(|name| reached.contains(**name)).collect();
        assert!(leaks.is_empty(), "{package} must stay pure but reaches {leaks:?}");
    }
}

#[test]
fn agent_and_coordinator_never_import_each_other() {
    assert!(!reaches("muster-agent").contains("muster-coordinator"));
    assert!(!reaches("muster-coordinator").contains("muster-agent"));
}

#[test]
fn one_crypto_provider() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--workspace", "--invert", "ring", "--edges", "all", "--target", "all"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.stdout.is_empty(), "ring is linked by:\n{}", String::from_utf8_lossy(&output.stdout));
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_stay_small_and_say_why_they_exist() {
    let mut all = Vec::new();
    sources(&root(), &mut all);
    assert!(all.len() > 50, "only {} sources were found", all.len());
    let mut wrong = Vec::new();
    for path in all {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let lines = text.lines().count();
        if lines > 700 {
            wrong.push(format!("{}: {lines} lines, at most 700", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: begins without a module doc", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
