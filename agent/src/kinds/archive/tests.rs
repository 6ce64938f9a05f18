//! From a URL to a folder: the download is a closure, the rest real in a folder of its own.

use std::fs;

use muster_plan::kinds::archive::diff;

use super::*;
use crate::{
    adapters::{archive::RealArchives, fake::FakeMachine},
    ports::{Files, Output},
};

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    builder.append_data(&mut header, "tool/x", &b"hello"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn it_is_fetched_once_put_back_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut ctx = machine.node("n-1");
    ctx.archives = Arc::new(RealArchives::below(root.path()));
    let spec = ArchiveSpec {
        path: "/opt/tool".into(),
        url: Some("https://example.org/tool.tar".into()),
        source: None,
        content: None,
        content_base64: None,
        sha256: Some(Digest::of(tar()).to_string()),
        strip: 1,
        owner: uid.to_string(),
        group: gid.to_string(),
        absent: false,
    };
    let (files, real) = (Arc::clone(&machine.files), root.path().to_owned());
    let fetched = move |content: Vec<u8>| {
        let (files, real) = (Arc::clone(&files), real.clone());
        move |run: &Invocation| {
            let path = run.argv.last().unwrap();
            files.put(path, "x");
            let real = real.join(path.trim_start_matches('/'));
            fs::create_dir_all(real.parent().unwrap()).unwrap();
            fs::write(real, &content).unwrap();
            Output::default()
        }
    };
    let helper = "/usr/lib/apt/apt-helper";
    let step = async |spec: &ArchiveSpec| -> Result<bool, StepError> {
        let Some(change) = diff(spec, &observe(&ctx, spec).await?) else { return Ok(false) };
        apply(&ctx, spec, &change).await?;
        assert_eq!(diff(spec, &observe(&ctx, spec).await?), None, "after {change:?}");
        Ok(true)
    };

    machine.commands.install(helper, |_| Output { status: 100, stderr: b"E: no route".to_vec(), ..Output::default() });
    assert_eq!(
        step(&spec).await.unwrap_err().to_string(),
        "the archive cannot be fetched from https://example.org/tool.tar"
    );
    machine.commands.install(helper, fetched(b"something else".to_vec()));
    assert!(step(&spec).await.unwrap_err().to_string().contains("was asked for"));
    assert!(!root.path().join("opt").exists());

    machine.commands.install(helper, fetched(tar()));
    assert!(step(&spec).await.unwrap());
    let file = root.path().join("opt/tool/x");
    assert_eq!(fs::read(&file).unwrap(), b"hello");
    assert_eq!(machine.files.list(FETCHED).unwrap().unwrap(), [] as [&str; 0], "the archive itself goes");
    let ran = machine.commands.ran().len();
    assert!(!step(&spec).await.unwrap());
    assert_eq!(machine.commands.ran().len(), ran);
    fs::write(&file, "changed").unwrap();
    assert!(step(&spec).await.unwrap());
    assert_eq!(fs::read(&file).unwrap(), b"hello");
    let gone = ArchiveSpec { absent: true, ..spec.clone() };
    assert!(step(&gone).await.unwrap());
    assert!(!step(&gone).await.unwrap());
    // Somebody's own folder.
    fs::create_dir_all(root.path().join("opt/tool/mine")).unwrap();
    for spec in [spec, gone] {
        assert_eq!(step(&spec).await.unwrap_err().to_string(), "/opt/tool holds something that no archive brought");
    }
    assert!(root.path().join("opt/tool/mine").exists());
}
