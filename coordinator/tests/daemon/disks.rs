//! Disks in plans: what comes of them is shown, and what they cannot do is refused.

use muster_catalog::SiteFiles;
use muster_coordinator::plan::render;
use muster_planner::CloudAction;

use crate::lab::{Lab, site};

/// The usual site, and what is written behind it.
fn with(text: &str) -> SiteFiles {
    let mut files = site("hello");
    files.texts.entry("muster.toml".to_owned()).or_default().push_str(text);
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_on_a_full_pool_shows_which_machine_goes_for_the_one_that_comes() {
    let lab = Lab::new().await;
    lab.up(&site("hello")).await;
    let plan = lab.plan(&with("[disk.data]\npool = \"workers\"\nsize = \"5Gi\"\n")).await.unwrap();
    let machines = plan.cloud.iter().filter(|row| row.what.starts_with("instance "));
    let machines: Vec<_> = machines.map(|row| (row.action, row.what.as_str(), row.reason.as_str())).collect();
    let expected = [
        (CloudAction::Create, "instance workers-3", "disk data needs a node that is made with it"),
        (CloudAction::Destroy, "instance workers-2", "workers-3 comes for disk data: the pool keeps its number"),
    ];
    assert_eq!(machines, expected);
    let text = render(&plan);
    assert!(text.contains("drained first, its pods move") && text.contains("1 to destroy"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_would_shrink_or_be_elsewhere_is_refused_at_its_line_and_one_that_grows_is_told() {
    let lab = Lab::new().await;
    let batch = "[pool.batch]\nrole = \"worker\"\ncount = 1\n";
    let disk = |pool: &str, size: &str| with(&format!("{batch}[disk.data]\npool = \"{pool}\"\nsize = \"{size}\"\n"));
    let before = lab.publish(&disk("workers", "5Gi")).await;
    let wrong = lab.plan(&disk("batch", "3Gi")).await.unwrap_err();
    for said in [
        "disk data cannot shrink: 5Gi → 3Gi",
        "disk data cannot move from the pool workers to batch",
        "size = \\\"3Gi\\\"",
        "workers-1 of workers holds it",
        "\"file\":\"muster.toml\"",
    ] {
        assert!(wrong.contains(said), "{said}: {wrong}");
    }
    assert_eq!(lab.status().await.generation, Some(before), "nothing was done");
    let plan = lab.plan(&disk("workers", "8Gi")).await.unwrap();
    let row = plan.cloud.iter().find(|row| row.what == "disk data").unwrap();
    assert_eq!((row.action, row.detail[0].as_str()), (CloudAction::Change, "size 5Gi → 8Gi"));
}
