//! Names that mean one thing on a node: paths below a bind mount or a link that the site itself makes, folders that every
//! Debian has twice, units by an alias, packages with the node's own architecture.

use std::{borrow::Cow, collections::HashMap};

use super::Draft;
use crate::{
    kinds::{Claim, Spec},
    unit,
};

/// Folders that are links to others: a merged `/usr`, and `/run`.
const KNOWN: &[(&str, &str)] = &[
    ("/bin", "/usr/bin"),
    ("/lib", "/usr/lib"),
    ("/lib32", "/usr/lib32"),
    ("/lib64", "/usr/lib64"),
    ("/libx32", "/usr/libx32"),
    ("/sbin", "/usr/sbin"),
    ("/var/lock", "/run/lock"),
    ("/var/run", "/run"),
];
/// Units that Debian's packages give a second name.
const UNITS: &[(&str, &str)] = &[("mysql", "mariadb"), ("sshd", "ssh"), ("syslog", "rsyslog")];
/// Where a site writes unit files.
const UNIT_FILES: &str = "/etc/systemd/system/";
/// As many links are followed as the kernel follows.
const MOST_LINKS: usize = 40;

/// What one node's resources make of names.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// What lies below a path lies below another.
    paths: HashMap<String, String>,
    /// Units by their alias, both without `.service`.
    units: HashMap<String, String>,
    /// The node's architecture: a package's name says the same with it and without.
    arch: String,
}

impl Aliases {
    /// What these resources make of names on a node of this architecture, in Debian's word.
    pub(super) fn of(drafts: &[Draft], arch: &str) -> Self {
        let mut aliases = Self { arch: arch.to_owned(), ..Self::default() };
        for draft in drafts {
            let spec = &draft.resource.spec;
            if let Some(leads) = spec.leads() {
                let unit = |path: &str| {
                    path.rsplit('/').next().and_then(|name| name.strip_suffix(".service")).map(str::to_owned)
                };
                if let (true, Some(alias), Some(of)) =
                    (leads.path.starts_with(UNIT_FILES), unit(leads.path), unit(&leads.to))
                {
                    aliases.units.insert(alias, of);
                }
                aliases.paths.insert(leads.path.to_owned(), leads.to);
            }
            if let Spec::File(file) = spec
                && let Some(of) = file.path.strip_prefix(UNIT_FILES).and_then(|name| name.strip_suffix(".service"))
                && let (Some(text), false) = (&file.content, file.absent)
            {
                let named =
                    text.lines().filter_map(|line| line.trim().strip_prefix("Alias")?.trim_start().strip_prefix('='));
                let names = named.flat_map(str::split_whitespace);
                aliases.units.extend(names.map(|alias| (unit::short(alias).to_owned(), of.to_owned())));
            }
        }
        aliases
    }

    /// The claim by the name that all of its names have in common.
    pub(super) fn resolved<'c>(&self, claim: &'c Claim) -> Cow<'c, Claim> {
        let name = match claim.what() {
            "" | "mount at" => self.path(claim.name()),
            "service" => self.unit(claim.name()),
            "package" => {
                claim.name().split_once(':').filter(|(_, arch)| *arch == self.arch).map(|(name, _)| name.to_owned())
            }
            _ => None,
        };
        name.map_or(Cow::Borrowed(claim), |name| Cow::Owned(Claim::new(claim.what(), name)))
    }

    /// Where a path really is, where it is elsewhere.
    pub(super) fn path(&self, path: &str) -> Option<String> {
        let mut found: Option<String> = None;
        for _ in 0..MOST_LINKS {
            let current = found.as_deref().unwrap_or(path);
            match self.step(current) {
                Some(next) => found = Some(next),
                None => break,
            }
        }
        found
    }

    /// Whether a link is met again when it is followed.
    pub(super) fn leads_to_itself(&self, link: &str) -> bool {
        let mut at = link;
        for _ in 0..MOST_LINKS {
            match self.paths.get(at) {
                // Its own target is what the link itself says of it.
                Some(to) if to == link => return at != link,
                Some(to) => at = to,
                None => return false,
            }
        }
        // One that leads into a circle that it is no part of: those in it are told.
        false
    }

    fn step(&self, path: &str) -> Option<String> {
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for end in ends {
            let (above, below) = path.split_at(end);
            let known = KNOWN.iter().find(|(name, _)| *name == above).map(|(_, to)| *to);
            // What is at the very path of a mount or link is itself.
            let made = self.paths.get(above).filter(|_| !below.is_empty()).map(String::as_str);
            if let Some(to) = known.or(made) {
                return Some(format!("{}{below}", to.trim_end_matches('/')));
            }
        }
        None
    }

    fn unit(&self, name: &str) -> Option<String> {
        let known = || UNITS.iter().find(|(alias, _)| *alias == name).map(|(_, of)| (*of).to_owned());
        self.units.get(name).cloned().or_else(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_followed_as_the_kernel_does() {
        let made = [("/srv/app", "/data/app"), ("/data/app/now", "/data/app/v2"), ("/loop", "/loop/more")];
        let aliases = Aliases {
            paths: made.into_iter().map(|(from, to)| (from.to_owned(), to.to_owned())).collect(),
            ..Aliases::default()
        };
        for (path, real) in [
            ("/var/run/app/pid", Some("/run/app/pid")),
            ("/var/run", Some("/run")),
            ("/var/running", None),
            ("/bin/sh", Some("/usr/bin/sh")),
            ("/srv/app/now/etc", Some("/data/app/v2/etc")),
            ("/srv/app", None),
            ("/srv/apps/now", None),
            ("/", None),
        ] {
            assert_eq!(aliases.path(path).as_deref(), real, "{path}");
        }
        // A circle ends.
        assert!(aliases.path("/loop/x").is_some());
    }
}
