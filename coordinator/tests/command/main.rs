//! The program as scripts see it: exit codes and standard output. No coordinator is needed.

use std::process::{Command, Output};

fn muster(line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for variable in ["MUSTER_SITE", "MUSTER_ENVIRONMENT", "MUSTER_ROLE"] {
        command.env_remove(variable);
    }
    command.args(line).output().unwrap()
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
fn a_role_that_is_none_is_refused_with_the_three_that_are() {
    let lines =
        [&["status", "--role", "root"][..], &["coordinator", "issue-operator", "--name", "dana", "--role", "root"]];
    for line in lines {
        let output = muster(line);
        assert_eq!(output.status.code(), Some(1), "{line:?}");
        let said = text(&output.stderr);
        assert!(said.contains("`root` is no role of operators: read, apply or admin"), "{said}");
    }
}

/// A name that is nearly right is why the others' errors are there.
#[test]
fn a_file_that_nothing_reads_is_told_beside_errors_that_come_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    let path = site.to_str().unwrap();
    assert!(muster(&["init", path]).status.success());
    std::fs::rename(site.join("apps/easypay.toml"), site.join("apps/easypay.tml")).unwrap();
    let output = muster(&["validate", "--site", path]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    let (warning, error) = (said.find("call it apps/easypay.toml"), said.find("the site has no application `easypay`"));
    assert!(warning.is_some() && error.is_some() && warning < error, "{said}");
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
    let recipient = json(&output)["recipient"].as_str().unwrap().to_owned();
    let kept = std::fs::read_to_string(path("recovery.txt")).unwrap();
    assert!(recipient.starts_with("age1") && kept.starts_with(&format!("# public key: {recipient}\nAGE-SECRET-KEY-1")));

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

/// An error as the README shows it is what is printed, to the letter.
#[test]
fn the_readme_shows_an_error_as_it_is() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("each with its place and the way out:\n\n```\n").unwrap();
    let (shown, _) = rest.split_once("```\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site").to_str().unwrap().to_owned();
    muster(&["init", &site]);
    let role = format!("{site}/roles/base.toml");
    let text = std::fs::read_to_string(&role).unwrap();
    let (head, tail) = text.split_at(text.match_indices('\n').nth(9).unwrap().0 + 1);
    let wrong = "[[file]]\npath = \"/etc/motd\"\nmode = \"0644\"\ncontents = \"hello\"\n\n";
    std::fs::write(&role, format!("{head}{wrong}{tail}")).unwrap();
    for line in [&["validate", "--site", &site][..], &["validate", "--site", &site, "-e", "local"]] {
        let output = muster(line);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text_of(&output), format!("{shown}\n1 error. Nothing was changed.\n"));
    }
}

fn text_of(output: &Output) -> &str {
    text(&output.stderr)
}

/// What several files are not, each with its own way out; and more than can be sent.
#[test]
fn files_that_are_no_part_of_a_site_are_said_each_with_its_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join("site").join(name);
    let site = dir.path().join("site").to_str().unwrap().to_owned();
    muster(&["init", &site]);
    std::os::unix::fs::symlink("/etc/passwd", path("roles/files/passwd")).unwrap();
    std::fs::File::create(path("roles/files/big")).unwrap().set_len(3 << 20).unwrap();
    let output = muster(&["validate", "--site", &site]);
    let said = text_of(&output);
    assert!(
        said.contains("passwd: a link that leads out of the site: copy what it leads to into the site\n"),
        "{said}"
    );
    assert!(said.contains("big: 3145728 bytes; a file of a site has at most 1048576: put it into a package"), "{said}");
    std::fs::remove_file(path("roles/files/passwd")).unwrap();
    std::fs::remove_file(path("roles/files/big")).unwrap();
    std::fs::create_dir(path("environments/eu")).unwrap();
    std::fs::copy(path("environments/prod.toml"), path("environments/eu/prod.toml")).unwrap();
    let output = muster(&["validate", "--site", &site]);
    assert!(text_of(&output).contains("environments/eu/prod.toml is read by nothing"), "{output:?}");
    for number in 0..33 {
        std::fs::File::create(path(&format!("roles/files/{number}"))).unwrap().set_len(1 << 20).unwrap();
    }
    let output = muster(&["validate", "--site", &site]);
    assert!(text_of(&output).contains("more than 33554432 bytes in all\n  help: put the large ones"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
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

/// A daemon that may not be used, or is not there, is what is said, and never to run `up`.
#[test]
fn without_docker_every_command_says_that_it_is_docker() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site").to_str().unwrap().to_owned();
    muster(&["init", &site]);
    for line in
        [&["up"][..], &["plan"], &["apply", "--yes"], &["status"], &["nodes"], &["kubeconfig"], &["down", "--yes"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(line).args(["--site", &site]).env("HOME", dir.path()).env("XDG_STATE_HOME", dir.path());
        let output = command.env("DOCKER_HOST", "unix:///nosuch/docker.sock").output().unwrap();
        let said = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {said}");
        assert!(said.contains("there is no Docker socket at /nosuch/docker.sock\n  help: install docker.io"), "{said}");
        assert!(!said.contains("muster up"), "{line:?}: {said}");
    }
}

/// What a shell's script asks at a TAB at the end of a line.
fn completed(line: &[&str], state: &std::path::Path) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.arg("--").arg("muster").args(line).env("MUSTER_COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", line.len().to_string()).env("_CLAP_COMPLETE_COMP_TYPE", "9");
    command.env("XDG_STATE_HOME", state).env("DOCKER_HOST", "unix:///nosuch/docker.sock");
    command.env_remove("MUSTER_SITE").env_remove("MUSTER_ENVIRONMENT");
    text(&command.output().unwrap().stdout).lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn environments_and_plans_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site").to_str().unwrap().to_owned();
    muster(&["init", &site]);
    assert_eq!(completed(&["plan", "--site", &site, "-e", ""], dir.path()), ["dev", "local", "prod", "qa"]);
    assert_eq!(completed(&["plan", "--site", &site, "-e", "pr"], dir.path()), ["prod"]);
    let state = dir.path().join("muster/easypay-local");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("plans"), "42-9c02de\n41-7f3a91\n").unwrap();
    let plans = completed(&["apply", "--site", &site, "4"], dir.path());
    assert!(["42-9c02de", "41-7f3a91"].iter().all(|plan| plans.contains(&(*plan).to_owned())), "{plans:?}");
    // Without Docker there are none, and no error.
    assert_eq!(completed(&["node", "why", "--site", &site, "work"], dir.path()), Vec::<String>::new());
    let script = muster(&["completion", "bash"]);
    assert!(text(&script.stdout).contains("MUSTER_COMPLETE=\"bash\""), "{script:?}");
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
