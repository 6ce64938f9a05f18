//! What the README says to type is typed here, line by line: a command there that this does not know is an error.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use muster_tests::lab::{Lab, on_node};

fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests lie in the checkout")?.to_owned())
}

/// The blocks of a language under a heading, without comments.
fn blocks(readme: &str, heading: &str, language: &str) -> Vec<Vec<String>> {
    let section = readme.split("\n## ").find(|section| section.starts_with(heading)).unwrap_or_default();
    let fence = format!("```{language}\n");
    let blocks = section.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.lines().map(str::to_owned).filter(|line| !line.trim().is_empty()).collect()).collect()
}

fn commands(readme: &str, heading: &str) -> Vec<String> {
    let lines = blocks(readme, heading, "sh").into_iter().flatten();
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned()).collect()
}

/// The two commands: `up` is run, on a cluster that is up already; `test` is what runs this.
pub fn two_commands(lab: &mut Lab) -> anyhow::Result<()> {
    let root = root()?;
    let readme = std::fs::read_to_string(root.join("README.md"))?;
    let all: usize = readme.matches("```sh").count();
    ensure!(all == 2, "{all} blocks of commands in the README, and two of them are run");
    let commands = commands(&readme, "Two commands");
    ensure!(commands == ["cargo xtask up", "cargo xtask test"], "{commands:?}");
    let before = lab.containers()?;
    let cargo = std::env::var_os("CARGO").context("CARGO is not set: run cargo xtask test")?;
    let output = Command::new(cargo)
        .args(["xtask", "up"])
        .current_dir(&root)
        .env("MUSTER_SITE", &lab.site)
        .stderr(Stdio::inherit())
        .output()?;
    let out = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && out.contains(&format!("application {}", lab.application)), "{out}");
    ensure!(lab.containers()? == before, "a container was made again");
    Ok(())
}

/// The first edit, as written there, the example's file included.
pub fn first_edit(lab: &mut Lab) -> anyhow::Result<()> {
    let readme = std::fs::read_to_string(root()?.join("README.md"))?;
    let example = blocks(&readme, "A first edit", "toml").concat().join("\n");
    let folder = lab.site.parent().context("the lab's folder")?;
    let editor = folder.join("editor");
    std::fs::write(&editor, format!("#!/bin/sh\ncat >>\"$1\" <<'EOF'\n\n{example}\nEOF\n"))?;
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755))?;
    let commands = commands(&readme, "A first edit");
    ensure!(commands.len() == 6, "{commands:?}");
    for command in commands {
        // `plan` says with 2 that there is something to do.
        let good: &[i32] = if command.contains("muster plan") { &[2] } else { &[0] };
        // The only thing that differs from a person's: where the program lies.
        let typed = command.replace("target/debug/muster", &lab.program().to_string_lossy());
        typed_at_a_terminal(lab, folder, &editor, &typed, good).with_context(|| command.clone())?;
        if command.contains("muster apply") {
            let said = on_node("workers-1", &["cat", "/etc/motd"])?;
            ensure!(said == "workers-1 of easypay\n", "/etc/motd is {said:?}");
        }
    }
    Ok(())
}

/// By a shell on a terminal, which says yes when it is asked.
fn typed_at_a_terminal(lab: &Lab, folder: &Path, editor: &Path, command: &str, good: &[i32]) -> anyhow::Result<()> {
    let mut shell = lab
        .environment(&mut Command::new("script"))
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .current_dir(folder)
        .env("EDITOR", editor)
        .env_remove("MUSTER_SITE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("`script`, of Debian's bsdutils, gives a terminal")?;
    let mut input = shell.stdin.take().context("no standard input")?;
    input.write_all(b"y\n")?;
    let output = shell.wait_with_output()?;
    drop(input);
    if !output.status.code().is_some_and(|code| good.contains(&code)) {
        bail!("ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}
