//! What one run of apt would do, package by package, and whether the site allows it.
//!
//! apt takes away whatever is in the way of what it is asked for, and a held package where it is told to change one. Only
//! the site says what goes: a removal must be written `absent`, and a held package that changes must be written at all.

use std::collections::BTreeSet;

use muster_catalog::kinds::package::PackageSpec;

/// What apt would do with one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Without an architecture where it is the machine's own.
    pub name: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub deed: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Install,
    Upgrade,
    Downgrade,
    Remove,
    /// Half installed by an earlier run, and only finished.
    Finish,
}

impl Move {
    /// A line for people; `with` says with what it comes or goes.
    pub fn line(&self, with: &str) -> String {
        let version = |version: &Option<String>| version.clone().unwrap_or_default();
        let (name, from, to) = (&self.name, version(&self.from), version(&self.to));
        match self.deed {
            Deed::Install => format!("+ {name} {to} (comes with {with})"),
            Deed::Upgrade => format!("{name} {from} → {to} (upgraded with {with})"),
            Deed::Downgrade => format!("{name} {from} → {to} (downgraded with {with})"),
            Deed::Remove => format!("- {name} {from} (goes with {with})"),
            Deed::Finish => format!("{name} is half installed and is finished"),
        }
    }

    /// A daemon of an installed package may run on in its old version.
    pub fn replaces(&self) -> bool {
        match self.deed {
            Deed::Upgrade | Deed::Downgrade => true,
            Deed::Install | Deed::Remove | Deed::Finish => false,
        }
    }
}

/// Why a transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// It would remove this one, which is not written `absent`. With `wanted` the site even asks for it.
    Removes { name: String, wanted: bool },
    /// It would change this one, which is held, and which it was not asked to change.
    ChangesHeld { name: String, from: String, to: String },
}

/// What is asked of apt, by names without the machine's own architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub install: BTreeSet<String>,
    pub remove: BTreeSet<String>,
}

/// What of these moves the site does not allow. `written` are all packages of the node's catalog, by the same names.
pub fn offences(
    moves: &[Move],
    asked: &Asked,
    written: &[(String, &PackageSpec)],
    held: impl Fn(&str) -> bool,
) -> BTreeSet<Offence> {
    let spec = |name: &str| written.iter().find(|(written, _)| written == name).map(|(_, spec)| *spec);
    let mut offences = BTreeSet::new();
    for step in moves {
        let name = &step.name;
        match step.deed {
            Deed::Remove => match spec(name) {
                Some(spec) if spec.absent => {}
                Some(_) => drop(offences.insert(Offence::Removes { name: name.clone(), wanted: true })),
                None => drop(offences.insert(Offence::Removes { name: name.clone(), wanted: false })),
            },
            Deed::Upgrade | Deed::Downgrade if held(name) && !asked.install.contains(name) => {
                let (from, to) = (step.from.clone().unwrap_or_default(), step.to.clone().unwrap_or_default());
                offences.insert(Offence::ChangesHeld { name: name.clone(), from, to });
            }
            Deed::Install | Deed::Upgrade | Deed::Downgrade | Deed::Finish => {}
        }
    }
    offences
}

/// Lines for what nobody asked for by name.
pub fn company(moves: &[Move], asked: &Asked) -> Vec<String> {
    let names: Vec<&String> = asked.install.iter().chain(&asked.remove).collect();
    let with = match names.as_slice() {
        [] => "them".to_owned(),
        [one] => (*one).clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    let of_itself = |step: &&Move| !names.contains(&&step.name);
    moves.iter().filter(of_itself).map(|step| step.line(&with)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, deed: Deed) -> Move {
        let (from, to) = match deed {
            Deed::Install => (None, Some("2".to_owned())),
            Deed::Upgrade | Deed::Downgrade => (Some("1".to_owned()), Some("2".to_owned())),
            Deed::Remove | Deed::Finish => (Some("1".to_owned()), None),
        };
        Move { name: name.into(), from, to, deed }
    }

    fn spec(name: &str, absent: bool) -> PackageSpec {
        PackageSpec { name: name.into(), version: None, hold: None, absent }
    }

    fn install(names: &[&str]) -> Asked {
        Asked { install: names.iter().map(|&name| name.to_owned()).collect(), remove: BTreeSet::new() }
    }

    #[test]
    fn only_what_is_written_absent_may_go() {
        let (chrony, gone, wanted) = (spec("chrony", false), spec("ntp", true), spec("timesyncd", false));
        let moves = [
            step("ntp", Deed::Remove),
            step("timesyncd", Deed::Remove),
            step("app", Deed::Remove),
            step("chrony", Deed::Install),
        ];
        let written: Vec<_> = [&chrony, &gone, &wanted].map(|spec| (spec.name.clone(), spec)).into();
        let found = offences(&moves, &install(&["chrony"]), &written, |_| false);
        let removes = |name: &str, wanted| Offence::Removes { name: name.into(), wanted };
        assert_eq!(found, [removes("app", false), removes("timesyncd", true)].into());
    }

    #[test]
    fn a_held_package_changes_only_where_it_is_asked_for() {
        let moves = [step("a", Deed::Upgrade), step("b", Deed::Downgrade), step("c", Deed::Upgrade)];
        let found = offences(&moves, &install(&["a"]), &[], |name| name != "c");
        assert_eq!(found, [Offence::ChangesHeld { name: "b".into(), from: "1".into(), to: "2".into() }].into());
    }

    #[test]
    fn what_nobody_wrote_is_said() {
        let moves = [
            step("a", Deed::Install),
            step("lib", Deed::Install),
            step("old", Deed::Upgrade),
            step("gone", Deed::Remove),
            step("half", Deed::Finish),
        ];
        assert_eq!(
            company(&moves, &install(&["a"])),
            [
                "+ lib 2 (comes with a)",
                "old 1 → 2 (upgraded with a)",
                "- gone 1 (goes with a)",
                "half is half installed and is finished"
            ]
        );
        assert_eq!(company(&moves[1..2], &install(&["a", "b", "c"])), ["+ lib 2 (comes with a and 2 more)"]);
    }
}
