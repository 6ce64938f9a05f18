//! `apt-get --simulate`: its lines as moves.

use std::collections::BTreeSet;

use muster_plan::kinds::package::transaction::{Deed, Move};

use crate::ports::{Known, PackageError, Transaction};

/// The moves of a simulation that went well.
pub fn parse(text: &str) -> Vec<Move> {
    let downgraded = section(text, "will be DOWNGRADED:");
    let mut moves: Vec<Move> = Vec::new();
    for line in text.lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        let name = rest.split(' ').next().unwrap_or_default().to_owned();
        let after = rest[name.len()..].trim_start();
        let from = after.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(version, _)| version.to_owned());
        let to = after.split_once('(').and_then(|(_, rest)| rest.split([' ', ')']).next()).map(str::to_owned);
        let deed = match (word, &from) {
            ("Inst", None) => Deed::Install,
            ("Inst", Some(_)) if downgraded.contains(&name) => Deed::Downgrade,
            ("Inst", Some(_)) if from == to => Deed::Finish,
            ("Inst", Some(_)) => Deed::Upgrade,
            ("Remv" | "Purg", _) => Deed::Remove,
            // What was unpacked in this run is configured in it, too.
            ("Conf", _) if moves.iter().all(|step| step.name != name) => Deed::Finish,
            _other_line => continue,
        };
        if !moves.iter().any(|step| step.name == name && step.deed == deed) {
            moves.push(Move { name, from, to, deed });
        }
    }
    moves
}

/// The names in a paragraph that ends its first line so.
fn section(text: &str, title: &str) -> BTreeSet<String> {
    let lines = text.lines().skip_while(|line| !line.ends_with(title)).skip(1);
    let inside = lines.take_while(|line| line.starts_with(' '));
    inside.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// Refuses what apt takes in the place of a name: a provider, or the package of another architecture.
pub fn by_name(text: &str, moves: &[Move], known: &Known, transaction: &Transaction) -> Result<(), PackageError> {
    for name in transaction.install.keys() {
        let own = known.name(name);
        let selected: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Note, selecting '")?.split_once("' instead of '"))
            .filter(|(_, asked)| known.name(asked.trim_end_matches('\'')) == own)
            .map(|(selected, _)| selected.to_owned())
            .collect();
        let other = moves.iter().filter(|step| step.name.split_once(':').is_some_and(|(bare, _)| bare == own));
        let there = known.get(own).is_some() || moves.iter().any(|step| step.name == own);
        let providers: Vec<String> = selected.into_iter().chain(other.map(|step| step.name.clone())).collect();
        match (there, providers.is_empty()) {
            (true, _) => {}
            (false, false) => return Err(PackageError::Virtual { name: name.clone(), providers }),
            // `vim+` is a word of apt's for `vim`.
            (false, true) => return Err(PackageError::NotFound { name: name.clone(), version: None }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, from: Option<&str>, to: Option<&str>, deed: Deed) -> Move {
        Move { name: name.into(), from: from.map(Into::into), to: to.map(Into::into), deed }
    }

    #[test]
    fn lines_become_moves() {
        let moves = parse(
            "Reading package lists...\nThe following packages will be DOWNGRADED:\n  til\n\
             0 upgraded, 1 newly installed, 1 downgraded, 1 to remove and 0 not upgraded.\n\
             Remv systemd-timesyncd [252.38-1~deb12u1]\n\
             Inst til [2.0.1-1] (2.0~rc1-1 localhost [all])\n\
             Inst libx:i386 (1.0 Debian:12.15/oldstable [i386]) []\n\
             Inst g++ [1:2] (1:3 localhost, other [amd64])\n\
             Inst half [1.0] (1.0 localhost [all])\n\
             Conf til (2.0~rc1-1 localhost [all])\nConf bad (1.0-1 localhost [all])\n",
        );
        assert_eq!(
            moves,
            [
                step("systemd-timesyncd", Some("252.38-1~deb12u1"), None, Deed::Remove),
                step("til", Some("2.0.1-1"), Some("2.0~rc1-1"), Deed::Downgrade),
                step("libx:i386", None, Some("1.0"), Deed::Install),
                step("g++", Some("1:2"), Some("1:3"), Deed::Upgrade),
                step("half", Some("1.0"), Some("1.0"), Deed::Finish),
                step("bad", None, Some("1.0-1"), Deed::Finish),
            ]
        );
    }

    #[test]
    fn a_provider_is_not_taken_for_the_name() {
        let known = Known { native: "amd64".into(), ..Known::default() };
        let transaction =
            |name: &str| Transaction { install: [(name.to_owned(), None)].into(), ..Transaction::default() };
        let text = "Note, selecting 'real27' instead of 'virt27'\nInst real27 (1.0-1 localhost [all])\n";
        let error = by_name(text, &parse(text), &known, &transaction("virt27")).unwrap_err();
        assert_eq!(error, PackageError::Virtual { name: "virt27".into(), providers: vec!["real27".into()] });
        let text = "Note, selecting 'steam:i386' instead of 'steam'\nInst steam:i386 (1 localhost [i386])\n";
        let error = by_name(text, &parse(text), &known, &transaction("steam")).unwrap_err();
        assert!(error.to_string().contains("steam:i386"), "{error}");
        let text = "Inst vim (1 localhost [amd64])\n";
        let error = by_name(text, &parse(text), &known, &transaction("vim+")).unwrap_err();
        assert_eq!(error, PackageError::NotFound { name: "vim+".into(), version: None });
        let text = "Inst x (1 localhost [amd64])\n";
        by_name(text, &parse(text), &known, &transaction("x:amd64")).unwrap();
        let text = "Inst x:i386 (1 localhost [i386])\n";
        by_name(text, &parse(text), &known, &transaction("x:i386")).unwrap();
    }
}
