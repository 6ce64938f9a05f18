//! Packages among other resources, and disks that are full.

use super::*;

#[tokio::test]
async fn packages_are_one_transaction_and_the_missing_one_fails_alone() {
    let machine = FakeMachine::new();
    machine.packages.publish("a", "1");
    machine.packages.publish("b", "1");
    let all = catalog([file("/first", "x"), package("a").after(&["file./first"]), package("b"), package("nosuch")]);
    let report = converge(&machine, &all).await;
    assert_eq!(outcome(&report, "package.a"), &Outcome::Done);
    assert_eq!(outcome(&report, "package.b"), &Outcome::Done);
    let Outcome::Failed { error, help: Some(_), retry: false } = outcome(&report, "package.nosuch") else {
        panic!("{report:?}")
    };
    assert_eq!(error, "there is no package nosuch");
    let asked: Vec<usize> = machine.packages.transactions().iter().map(|one| one.install.len()).collect();
    assert_eq!((asked, machine.packages.updates()), (vec![2], 1), "all but the missing one, which is looked for twice");
}

#[tokio::test]
async fn apts_errors_say_what_to_do() {
    let machine = FakeMachine::new();
    machine.packages.publish("a", "1");
    machine.packages.fail(Some(PackageError::DiskFull));
    let report = converge(&machine, &catalog([package("a")])).await;
    let Outcome::Failed { error, help, retry } = outcome(&report, "package.a") else { panic!("{report:?}") };
    assert_eq!((error.as_str(), help.is_some(), *retry), ("the disk is full", true, true));
    machine.packages.fail(None);
    assert!(converge(&machine, &catalog([package("a")])).await.converged);
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_next_run_goes_on() {
    let machine = FakeMachine::new();
    // The ledger must be there before, or the converge itself cannot be remembered.
    converge(&machine, &catalog([])).await;
    machine.files.full(true);
    let engine = engine(&machine);
    let all = shared([file("/x", "x")]);
    let failed = engine.converge(&all, &Options::default()).await;
    // What failed is told even where the ledger cannot be written.
    let report = failed.unwrap();
    let Outcome::Failed { error, help, retry } = outcome(&report, "file./x") else { panic!("{report:?}") };
    assert!(error.starts_with("cannot write /x: ") && help.is_some() && *retry, "{error}");
    machine.files.full(false);
    assert!(converge(&machine, &all).await.converged);
}
