//! Versions, holds and what is left alone.

use super::*;

fn spec(version: Option<&str>, hold: Option<bool>) -> PackageSpec {
    PackageSpec { name: "kubelet".into(), version: version.map(Into::into), hold, absent: false }
}

fn whole(version: &str, hold: bool) -> Observed {
    Observed { version: Some(version.into()), complete: true, hold, candidate: None }
}

#[test]
fn a_pattern_ends_in_a_star() {
    assert!(matches("1.34.4-*", "1.34.4-1.1"));
    assert!(!matches("1.34.4-*", "1.34.40-1.1"));
    assert!(!matches("1.34.4", "1.34.4-1.1"));
    assert!(matches("1:2.0-*", "1:2.0-1"));
    assert!(!matches("2.0-*", "1:2.0-1"), "an epoch is part of the version");
}

#[test]
fn half_installed_is_not_installed() {
    let half = Observed { complete: false, ..whole("1.34.4-1.1", false) };
    let change = diff(&spec(Some("1.34.4-*"), None), &half).unwrap();
    assert!(change.install);
    assert_eq!(change.detail(), ["version 1.34.4-1.1 is half installed"]);
    assert_eq!(diff(&spec(Some("1.34.4-*"), None), &whole("1.34.4-1.1", false)), None);
    let held = diff(&spec(None, Some(true)), &whole("1.34.4-1.1", false)).unwrap();
    assert_eq!((held.install, held.hold), (false, Some(true)));
}

#[test]
fn a_hold_that_is_not_written_is_left_alone() {
    assert_eq!(diff(&spec(None, None), &whole("1", true)), None);
    let lifted = diff(&spec(None, Some(false)), &whole("1", true)).unwrap();
    assert_eq!((lifted.install, lifted.hold, lifted.keep_hold), (false, Some(false), false));
}

#[test]
fn a_change_of_version_keeps_the_hold() {
    for hold in [None, Some(true)] {
        let change = diff(&spec(Some("2-*"), hold), &whole("1-1", true)).unwrap();
        assert_eq!((change.install, change.hold, change.keep_hold), (true, None, true));
        assert_eq!(change.detail(), ["version 1-1 → 2-*"]);
    }
    let change = diff(&spec(Some("2-*"), Some(true)), &whole("1-1", false)).unwrap();
    assert_eq!((change.hold, change.keep_hold), (Some(true), false));
}

#[test]
fn the_newest_is_the_candidate_of_the_indexes() {
    let latest = spec(Some("latest"), None);
    let seen = |installed: Option<&str>, candidate: Option<&str>| Observed {
        version: installed.map(Into::into),
        complete: installed.is_some(),
        hold: false,
        candidate: candidate.map(Into::into),
    };
    assert_eq!(diff(&latest, &seen(Some("2"), Some("2"))), None);
    assert_eq!(diff(&latest, &seen(Some("2"), None)), None, "no index has it");
    assert_eq!(diff(&latest, &seen(Some("1"), Some("2"))).unwrap().detail(), ["version 1 → 2"]);
    assert_eq!(diff(&latest, &seen(None, Some("2"))).unwrap().wanted.as_deref(), Some("2"));
    assert_eq!(diff(&latest, &seen(None, None)).unwrap().detail(), ["newest version"]);
}
