//! Who may import whom, crate by crate: the workspace's merged features would hide a leak, so each crate is asked alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// Crates that decide and do nothing: none may reach a runtime, the network, the system or a cloud.
const PURE: [&str; 4] = ["muster-ids", "muster-catalog", "muster-plan", "muster-planner"];
const IMPURE: [&str; 15] = [
    "tokio",
    "tonic",
    "bollard",
    "kube",
    "k8s-openapi",
    "etcd-client",
    "hyper",
    "rusqlite",
    "reqwest",
    "aws-config",
    "zbus",
    "rtnetlink",
    "notify",
    "sysinfo",
    "landlock",
];

/// Every crate of ours, and which of ours it may import, for its tests and its build too.
const IMPORTS: [(&str, &[&str]); 10] = [
    ("muster-ids", &[]),
    ("muster-proto", &["muster-ids"]),
    ("muster-catalog", &["muster-ids"]),
    ("muster-plan", &["muster-ids", "muster-catalog"]),
    ("muster-planner", &["muster-ids", "muster-catalog"]),
    ("muster-agent", &["muster-ids", "muster-catalog", "muster-plan", "muster-proto"]),
    ("muster-coordinator", &["muster-ids", "muster-catalog", "muster-plan", "muster-planner", "muster-proto"]),
    (
        "muster-tests",
        &[
            "muster-ids",
            "muster-catalog",
            "muster-plan",
            "muster-planner",
            "muster-proto",
            "muster-agent",
            "muster-coordinator",
        ],
    ),
    // An application like those of users, and what a newcomer waits for first: neither knows of muster.
    ("easypay", &[]),
    ("xtask", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace").to_owned()
}

/// What cargo prints; that it fails or prints nothing would prove nothing.
fn cargo(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(args).arg("--offline").current_dir(root()).output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {}: {said}", args.join(" "), output.status);
    assert!(!output.stdout.is_empty(), "cargo {} printed nothing: {said}", args.join(" "));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// The names of all crates in the tree that cargo prints for these arguments.
fn crates(of: &[&str]) -> BTreeSet<String> {
    let text = cargo(&[&["tree", "--prefix", "none", "--format", "{p}"], of].concat());
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Every crate that `package` links, itself included.
fn reaches(package: &str) -> BTreeSet<String> {
    let reached = crates(&["--package", package, "--edges", "normal"]);
    assert!(reached.contains(package), "{package} was not read: {reached:?}");
    reached
}

/// Per crate of the workspace: those of them that its `Cargo.toml` names, of any kind of dependency.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("cargo prints JSON");
    let names = |list: &serde_json::Value| -> Vec<(String, serde_json::Value)> {
        let list = list.as_array().expect("a list");
        list.iter().map(|item| (item["name"].as_str().expect("a name").to_owned(), item.clone())).collect()
    };
    let packages = names(&metadata["packages"]);
    let ours: BTreeSet<&String> = packages.iter().map(|(name, _)| name).collect();
    let of = |package: &serde_json::Value| {
        names(&package["dependencies"]).into_iter().map(|(name, _)| name).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|(name, package)| (name.clone(), of(package))).collect()
}

/// What `imports` has and `allowed` does not.
fn forbidden(imports: &BTreeMap<String, BTreeSet<String>>, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (package, imported) in imports {
        match allowed.iter().find(|(name, _)| name == package) {
            None => wrong.push(format!("{package} has no row in IMPORTS")),
            Some((_, may)) => {
                let leaks = imported.iter().filter(|name| !may.contains(&name.as_str()));
                wrong.extend(leaks.map(|name| format!("{package} may not import {name}")));
            }
        }
    }
    wrong
}

#[test]
fn pure_crates_reach_no_runtime() {
    for package in PURE {
        let reached = reaches(package);
        let leaks: Vec<_> = IMPURE.iter().filter(|name| reached.contains(**name)).collect();
        assert!(leaks.is_empty(), "{package} must stay pure but reaches {leaks:?}");
    }
}

#[test]
fn crates_import_in_one_direction() {
    let imports = imports();
    assert_eq!(imports.len(), IMPORTS.len(), "{:?}", imports.keys());
    let wrong = forbidden(&imports, &IMPORTS);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_import_and_a_new_crate_are_seen() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let imports = [("plan", set(&["ids", "agent"])), ("new", set(&[]))].map(|(name, set)| (name.to_owned(), set));
    let wrong = forbidden(&imports.into(), &[("plan", &["ids"])]);
    assert_eq!(wrong, ["new has no row in IMPORTS", "plan may not import agent"]);
}

#[test]
fn agent_and_coordinator_never_import_each_other() {
    assert!(!reaches("muster-agent").contains("muster-coordinator"));
    assert!(!reaches("muster-coordinator").contains("muster-agent"));
}

#[test]
fn one_crypto_provider() {
    // All crates and not those that lead to ring: of none, cargo prints nothing, as it does when it cannot look. Crates of
    // other targets may not be here; `cargo xtask test`, which may fetch them, looks there too.
    let all = crates(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(all.contains("aws-lc-rs") && all.contains("muster-tests"), "{all:?}");
    assert!(!all.contains("ring"), "something links ring: cargo tree --workspace --invert ring --edges all");
}

#[test]
#[should_panic(expected = "did not match any packages")]
fn a_look_that_fails_is_no_proof() {
    crates(&["--package", "no-such-crate"]);
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

/// What stands in a file before its tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn what_the_agent_decides_names_no_adapter() {
    let agent = root().join("agent/src");
    let mut all = Vec::new();
    for layer in ["cluster", "converge", "daemon", "drift", "kinds", "ports"] {
        sources(&agent.join(layer), &mut all);
    }
    let mut wrong = Vec::new();
    let (mut looked, mut tests) = (0, 0);
    for path in all {
        if path.components().any(|part| part.as_os_str() == "tests")
            || path.file_stem().is_some_and(|name| name == "tests")
        {
            tests += 1;
            continue;
        }
        looked += 1;
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        if product(&text).contains("adapters::") {
            wrong.push(path.display().to_string());
        }
    }
    assert!(looked > 50 && tests > 5, "{looked} files and {tests} of tests were found");
    assert!(wrong.is_empty(), "these name an adapter, which only `app` may: {wrong:?}");
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::adapters::x;\n}";
    assert!(!product(tests).contains("adapters::"));
    for wrong in
        [format!("use crate::adapters::x;\n{tests}"), "#[cfg(test)]\nmod tests;\nuse crate::adapters::x;".to_owned()]
    {
        assert!(product(&wrong).contains("adapters::"), "{wrong}");
    }
}
