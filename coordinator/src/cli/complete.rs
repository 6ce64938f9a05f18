//! Completion of the words that only a site and this machine know: environments, nodes, and plans that were shown.
//!
//! The shell's script calls this program at every TAB, so that each list is a look at files or one question to Docker, and
//! never one to the coordinator. What cannot be looked at offers nothing.

use std::{ffi::OsString, fs, path::Path, time::Duration};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::{CompleteEnv, CompletionCandidate, Shell, env::Shells};
use muster_ids::EnvName;

use super::{
    args::{Cli, Global},
    program, remembered, site,
};
use crate::{
    cloud::docker::{NODE, Role, Scope},
    local::start,
};

/// Set by the script where it asks for words.
const ASKED: &str = "MUSTER_COMPLETE";
/// Longer nobody waits for a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends the program where it was called by a shell's script.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKED).complete();
}

/// The script for a shell.
pub fn script(shell: Shell) -> anyhow::Result<String> {
    let name = shell.to_string();
    let shell = Shells::builtins();
    let shell = shell.completer(&name).with_context(|| format!("no completion is known for {name}"))?;
    let typed = program::typed();
    // Which program a path means must not depend on the folder that the shell is in.
    let program = if typed == "muster" { typed } else { std::env::current_exe()?.to_string_lossy().into_owned() };
    let mut script = Vec::new();
    shell.write_registration(ASKED, "muster", "muster", &program, &mut script)?;
    Ok(String::from_utf8(script)?)
}

pub fn environments() -> Vec<CompletionCandidate> {
    words(in_folder(&global().site))
}

pub fn nodes() -> Vec<CompletionCandidate> {
    words(site::scope(&global()).and_then(|scope| of_docker(&scope)).unwrap_or_default())
}

pub fn plans() -> Vec<CompletionCandidate> {
    let folder = site::scope(&global()).and_then(|scope| remembered::folder(&scope).ok());
    words(folder.map(|folder| remembered::plans(&folder)).unwrap_or_default())
}

fn words(all: Vec<String>) -> Vec<CompletionCandidate> {
    all.into_iter().map(CompletionCandidate::new).collect()
}

fn in_folder(site: &Path) -> Vec<String> {
    let entries = fs::read_dir(site.join("environments")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let name = |file: String| file.strip_suffix(".toml")?.parse::<EnvName>().ok().map(|name| name.to_string());
    let mut names: Vec<String> = names.filter_map(name).collect();
    names.sort();
    names
}

fn of_docker(scope: &Scope) -> Option<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let listed = async { anyhow::Ok(start::engine().await?.containers(scope).await?) };
    let listed = runtime.block_on(async { tokio::time::timeout(PATIENCE, listed).await.ok()?.ok() })?;
    let nodes = listed.into_iter().filter(|found| found.role == Role::Node.to_string());
    let mut names: Vec<String> = nodes.filter_map(|mut found| found.labels.remove(NODE)).collect();
    names.sort();
    Some(names)
}

/// The site and environment of the line that is typed: it is not whole, so that no parser takes it.
fn global() -> Global {
    let mut words = std::env::args_os().skip_while(|word| word != "--").skip(1).map(OsString::into_string);
    let line: Vec<String> = std::iter::from_fn(|| words.next()?.ok()).collect();
    let given = |flags: &[&str], variable: &str| given(&line, flags).or_else(|| std::env::var(variable).ok());
    Global {
        site: given(&["--site"], "MUSTER_SITE").unwrap_or_else(|| "catalogs".to_owned()).into(),
        environment: given(&["--environment", "-e"], "MUSTER_ENVIRONMENT"),
        json: false,
        yes: false,
        role: None,
    }
}

/// The value of a flag, in the word after it or behind `=`.
fn given(line: &[String], flags: &[&str]) -> Option<String> {
    line.iter().zip(line.iter().skip(1).map(Some).chain([None])).find_map(|(word, next)| {
        if flags.contains(&word.as_str()) {
            return next.cloned();
        }
        flags.iter().find_map(|flag| word.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_typed_line_says_which_site_is_meant() {
        let line = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        for text in ["muster plan --site my-site -e", "muster --site=my-site node why"] {
            assert_eq!(given(&line(text), &["--site"]).as_deref(), Some("my-site"), "{text}");
        }
        assert_eq!(given(&line("muster plan -e prod"), &["--environment", "-e"]).as_deref(), Some("prod"));
        assert_eq!(given(&line("muster plan --site"), &["--site"]), None);
    }
}
