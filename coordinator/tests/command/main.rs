//! The program as scripts see it: exit codes and standard output. No coordinator is needed.

use std::process::{Command, Output};

fn muster(line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(line).env_remove("MUSTER_SITE").env_remove("MUSTER_ENVIRONMENT").output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Standard output as one JSON value.
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_wrong_command_line_ends_with_1_and_not_as_a_plan_with_changes() {
    for line in [&["plan", "--nosuch"][..], &["nosuch"], &["plan", "--wait", "soon"], &[]] {
        let output = muster(line);
        assert_eq!(output.status.code(), Some(1), "{line:?}");
        assert!(output.stdout.is_empty() && text(&output.stderr).contains("help"), "{output:?}");
    }
    for line in [&["--help"][..], &["plan", "--help"], &["--version"]] {
        let output = muster(line);
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(!output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn with_json_an_error_is_one_object_too() {
    let output = muster(&["plan", "--nosuch", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(json(&output)["error"].as_str().unwrap().contains("--nosuch"), "{output:?}");

    let output = muster(&["validate", "--site", "/nosuch", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(json(&output)["error"].as_str().unwrap().starts_with("/nosuch is no site"), "{output:?}");
    assert!(json(&output)["help"][0].as_str().unwrap().contains("muster init DIR"), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn with_json_what_was_done_is_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let output = muster(&["init", &path("site"), "--json"]);
    assert_eq!(json(&output)["site"], path("site"), "{output:?}");
    assert!(json(&output)["files"].as_u64().unwrap() > 3, "{output:?}");

    let output = muster(&["coordinator", "key", &path("recovery.txt"), "--json"]);
    assert!(json(&output)["recipient"].as_str().unwrap().starts_with("age1"), "{output:?}");

    std::fs::write(path("site/roles/base.toml"), "[[file]]\npath = \"/x\"\ncontents = \"y\"\n").unwrap();
    let output = muster(&["validate", "--site", &path("site"), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(json(&output)["error"].is_string() && json(&output)["diagnostics"].is_array(), "{output:?}");
}

/// A variable that one environment alone gives.
#[test]
fn validate_checks_every_environment_and_says_whose_an_error_is() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    let named = site.to_str().unwrap();
    muster(&["init", named]);
    let output = muster(&["validate", "--site", named]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout).lines().count(), 4, "{output:?}");
    let add = |file: &str, text: &str| {
        let path = site.join(file);
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + text).unwrap();
    };
    add("muster.toml", "\n[variables.place]\n");
    add("environments/local.toml", "\n[variables.place]\ndns = \"10.0.0.2\"\n");
    add("roles/base.toml", "\n[[file]]\npath = \"/etc/dns\"\ncontent = \"{{ place.dns }}\"\n");
    let output = muster(&["validate", "--site", named]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("error in dev, prod, qa: `place.dns` is not defined"), "{said}");
    assert!(said.contains("/local is valid") && said.ends_with("1 error. Nothing was changed.\n"), "{said}");
    let output = muster(&["validate", "--site", named, "--json"]);
    assert_eq!(json(&output)["diagnostics"][0]["environments"], serde_json::json!(["dev", "prod", "qa"]), "{output:?}");
    assert_eq!(muster(&["validate", "--site", named, "-e", "local"]).status.code(), Some(0));
    assert_eq!(muster(&["validate", "--site", named, "-e", "prod"]).status.code(), Some(1));
    // One of every environment is said without their names.
    add("roles/base.toml", "contents = \"\"\n");
    let output = muster(&["validate", "--site", named]);
    assert!(text(&output.stderr).contains("error: unknown key `contents`"), "{output:?}");
}

#[test]
fn what_is_worth_saying_and_no_error_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site").to_str().unwrap().to_owned();
    muster(&["init", &site]);
    let output = muster(&["validate", "--site", &site, "-e", "prod"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("warning: the provider aws is not offered yet"), "{output:?}");
    let output = muster(&["validate", "--site", &site, "-e", "prod", "--json"]);
    assert!(json(&output)["warnings"][0]["message"].as_str().unwrap().contains("aws"), "{output:?}");
}

/// `muster completion bash | head -1`: whoever has read enough closes the pipe.
#[test]
fn a_reader_who_goes_away_ends_the_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    let output = command.args(["completion", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), ""));
}
