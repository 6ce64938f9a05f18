//! The way out where an environment's coordinator does not run: one that works as it is printed.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{args::Global, program, remembered};
use crate::{
    cloud::docker::Scope,
    local::{
        containers,
        manifest::Manifest,
        standing::{Names, Standing},
        start,
    },
};

/// Names one environment of one site in the commands that are advised.
#[derive(Debug, Clone)]
pub struct Advice {
    scope: Scope,
    /// As in `--site my-site -e local`.
    pub flags: String,
    /// The same for whoever is in another folder.
    anywhere: String,
    /// The list of artefacts that `up` would take by itself.
    list: Option<PathBuf>,
}

impl Advice {
    pub fn new(global: &Global, scope: &Scope) -> Self {
        let given = std::env::var_os("MUSTER_ARTEFACTS").filter(|list| !list.is_empty()).map(PathBuf::from);
        let remembered = || remembered::artefacts(&remembered::folder(scope).ok()?);
        let flags = |site: &Path| format!("--site {} -e {}", word(&site.to_string_lossy()), scope.environment);
        let site = std::path::absolute(&global.site).unwrap_or_else(|_| global.site.clone());
        Self {
            scope: scope.clone(),
            flags: flags(&global.site),
            anywhere: flags(&site),
            list: given.or_else(remembered),
        }
    }

    /// How the environment is brought up, or goes on.
    fn up(&self) -> String {
        match &self.list {
            Some(list) if list.exists() => format!("  help: {} up {}", program::typed(), self.flags),
            Some(_) | None => self.make(),
        }
    }

    /// How what it is made from is made.
    fn make(&self) -> String {
        let (flags, muster) = (&self.flags, program::typed());
        format!(
            "  help: in muster's checkout: cargo xtask up -- {}\n  help: or, where `cargo xtask artefacts` has made the list FILE: {muster} up {flags} --artefacts FILE",
            self.anywhere
        )
    }

    /// How a backup is restored beside the nodes that are there.
    fn restore(&self) -> String {
        let list = self.list.as_ref().filter(|list| list.exists()).map(|list| list.to_string_lossy());
        let list = list.as_deref().map_or("FILE".into(), word);
        let muster = program::typed();
        format!(
            "  help: restore a backup: {muster} coordinator restore {flags} --artefacts {list} --key KEY BACKUP\n  help: without a backup these nodes cannot be had back; to begin anew: {muster} down {flags}, then up",
            flags = self.flags
        )
    }

    /// No coordinator runs: what is there instead, and what to do.
    pub async fn no_coordinator(&self) -> anyhow::Error {
        let looked = async { anyhow::Ok(Standing::look(&start::engine().await?, &self.scope).await?) };
        match looked.await {
            Ok(standing) => self.of(&standing),
            Err(error) => error,
        }
    }

    /// The same, as it was found.
    pub fn of(&self, standing: &Standing) -> anyhow::Error {
        let scope = &self.scope;
        match standing {
            Standing::Lost(made) => anyhow::anyhow!(
                "the coordinator of {scope} is lost with its state, the volume {}, and what it made is there: {}\n{}",
                containers::state_volume(scope),
                Names(made),
                self.restore()
            ),
            Standing::Coordinator | Standing::State => {
                anyhow::anyhow!("the coordinator of {scope} does not run; its state is there\n{}", self.up())
            }
            Standing::Nothing => anyhow::anyhow!("{scope} is not up on this machine\n{}", self.up()),
        }
    }

    /// A coordinator that runs and does not answer.
    pub fn away(&self, error: anyhow::Error) -> anyhow::Error {
        let container = self.scope.name("coordinator");
        error.context(format!(
            "the coordinator of {} does not answer\n  help: its log: docker logs {container}\n{}",
            self.scope,
            self.up()
        ))
    }

    /// What the environment is made from: as it is given, else as an earlier `up` was given it.
    pub fn manifest(&self, given: Option<&Path>) -> anyhow::Result<(Manifest, PathBuf)> {
        let Some(list) = given.or(self.list.as_deref()) else {
            anyhow::bail!(
                "what {} is made from is not named, and was not named to an earlier `up`\n{}",
                self.scope,
                self.make()
            )
        };
        let manifest = Manifest::read(list).with_context(|| {
            let which = if given.is_some() { "given" } else { "given to an earlier `up`" };
            format!("the list of artefacts that was {which} is of no use\n{}", self.make())
        })?;
        Ok((manifest, list.to_owned()))
    }
}

/// A word as a shell takes it.
pub fn word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(list: Option<&Path>) -> Advice {
        let scope = Scope { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() };
        Advice {
            scope,
            flags: "--site my-site -e local".to_owned(),
            anywhere: "--site /srv/my-site -e local".to_owned(),
            list: list.map(Path::to_owned),
        }
    }

    #[test]
    fn the_first_advice_is_one_that_works() {
        let list = tempfile::NamedTempFile::new().unwrap();
        let muster = program::typed();
        for standing in [Standing::Nothing, Standing::State, Standing::Coordinator] {
            let known = advice(Some(list.path())).of(&standing).to_string();
            assert!(known.ends_with(&format!("  help: {muster} up --site my-site -e local")), "{known}");
            for list in [None, Some(Path::new("/nosuch/local.json"))] {
                let said = advice(list).of(&standing).to_string();
                assert!(said.contains("cargo xtask up -- --site /srv/my-site -e local\n"), "{said}");
                assert!(said.contains(&format!("{muster} up --site my-site -e local --artefacts FILE")), "{said}");
            }
        }
        let said = advice(None).manifest(None).unwrap_err().to_string();
        assert!(said.contains("is not named, and was not named to an earlier `up`"), "{said}");
    }

    #[test]
    fn a_lost_state_is_restored_and_not_made_anew() {
        let lost = Standing::Lost(vec!["control-plane-1".to_owned()]);
        let list = tempfile::NamedTempFile::new().unwrap();
        let said = advice(Some(list.path())).of(&lost).to_string();
        assert!(
            said.contains("the volume muster-easypay-local-state, and what it made is there: control-plane-1\n"),
            "{said}"
        );
        let command = format!(
            "{} coordinator restore --site my-site -e local --artefacts {} --key KEY BACKUP\n",
            program::typed(),
            list.path().display()
        );
        assert!(said.contains(&command), "{said}");
        assert!(!said.contains(" up --site"), "{said}");
    }

    #[test]
    fn what_is_remembered_and_gone_is_said() {
        let error = advice(Some(Path::new("/nosuch/local.json"))).manifest(None).unwrap_err();
        let said = super::super::render::Wrong::of(&error).to_string();
        assert!(said.contains("given to an earlier `up` is of no use: cannot read /nosuch/local.json"), "{said}");
        assert!(
            said.contains("\n  help: in muster's checkout: cargo xtask up -- --site /srv/my-site -e local"),
            "{said}"
        );
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_part_it() {
        assert_eq!(word("my-site/a.json"), "my-site/a.json");
        assert_eq!(word("my site"), "'my site'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word(""), "''");
    }
}
