//! A machine that is not as `up` needs it: a clear error, nothing made, and the next run goes on.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::ensure;
use muster_tests::lab::{Lab, run};

/// Somebody who may not use Docker.
pub fn no_permission(lab: &mut Lab) -> anyhow::Result<()> {
    // What a run that was broken off has left.
    lab.expect(&["down", "--yes"], &[0])?;
    // What nobody may read and run.
    let open = || std::fs::Permissions::from_mode(0o755);
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), open())?;
    let program = folder.path().join("muster");
    std::fs::copy(lab.program(), &program)?;
    std::fs::set_permissions(&program, open())?;
    // Places that they may read: what is missing there would be told first.
    let artefacts = folder.path().join("local.json");
    let mut list: serde_json::Value = serde_json::from_slice(&std::fs::read(lab.artefacts())?)?;
    for key in ["apt_repository", "apt_key", "registry"] {
        list[key] = serde_json::json!(if key == "apt_key" { program.as_path() } else { folder.path() });
    }
    std::fs::write(&artefacts, list.to_string())?;
    let site = folder.path().join("site");
    run(&program.to_string_lossy(), &["init", &site.to_string_lossy()])?;
    run("chmod", &["--recursive", "a+rX", &folder.path().to_string_lossy()])?;
    // Who asks how things are is told so, too, and not to bring up what may well be up.
    for command in ["up", "status"] {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg(command)
            .env("MUSTER_SITE", &site)
            .env("MUSTER_ARTEFACTS", &artefacts)
            .env("HOME", folder.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{command} ended with {}: {said}", output.status);
        ensure!(said.contains("no permission on the Docker socket") && said.contains("help:"), "{command}: {said}");
        ensure!(!said.contains("muster up"), "{command}: {said}");
    }
    ensure!(lab.containers()?.is_empty(), "something was made");
    Ok(())
}

/// Another network has the addresses; after it has gone, `up` (the next step) goes on.
pub fn addresses_in_use(lab: &mut Lab) -> anyhow::Result<()> {
    let name = format!("not-of-muster-{}", std::process::id());
    run("docker", &["network", "create", "--subnet", "10.89.0.0/17", &name])?;
    let output = lab.muster(&["up"]);
    run("docker", &["network", "rm", &name])?;
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "it ended with {}: {said}", output.status);
    ensure!(said.contains("10.89.0.0/16") && said.contains("help:"), "{said}");
    ensure!(lab.containers()?.is_empty(), "a container was made");
    Ok(())
}
