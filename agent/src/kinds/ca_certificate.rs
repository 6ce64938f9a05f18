//! `[[ca_certificate]]`: a file, and `update-ca-certificates`, which makes the bundle and the links of it.

use muster_catalog::kinds::ca_certificate::CaCertificateSpec;
use muster_plan::kinds::ca_certificate::{Change, Observed, body};
use tokio::sync::Mutex;

use super::program;
use crate::{Context, Done, StepError, ports::Invocation};

/// Two of them at once, and the one that began first may end last, without the other's certificate.
static UPDATES: Mutex<()> = Mutex::const_new(());

pub async fn observe(ctx: &Context, spec: &CaCertificateSpec) -> Result<Observed, StepError> {
    let mut kept = ctx.files.read(&spec.file())?;
    if spec.absent && kept.is_none() {
        // A removal was cut off before the bundle was made anew.
        kept = ctx.files.read(&aside(spec))?;
    }
    let trusted = match spec.content.as_deref() {
        Some(pem) => {
            let bundle = ctx.files.read(CaCertificateSpec::BUNDLE)?.unwrap_or_default();
            let bundle: String = String::from_utf8_lossy(&bundle).split_whitespace().collect();
            bundle.contains(&body(pem))
        }
        None => false,
    };
    Ok(Observed { kept, trusted })
}

/// Says that the bundle may still have it. `update-ca-certificates` takes names that end with `.crt` alone.
fn aside(spec: &CaCertificateSpec) -> String {
    format!("{}.muster-removed", spec.file())
}

/// The links by which OpenSSL finds certificates, after one is gone: `update-ca-certificates` makes them anew only where one came.
async fn hashed(ctx: &Context, spec: &CaCertificateSpec) -> Result<(), StepError> {
    let link = spec.link();
    let (folder, name) = link.rsplit_once('/').unwrap_or(("", &link));
    for other in ctx.files.list(folder)?.unwrap_or_default() {
        let other = format!("{folder}/{other}");
        if ctx.files.target(&other)?.is_some_and(|target| target == name) {
            ctx.files.remove(&other, false)?;
        }
    }
    // The same certificate under another name has no link so far. Links of others that lead nowhere are an error to it, and none of ours.
    ctx.commands.run(Invocation::new(["openssl", "rehash", folder])).await?;
    Ok(())
}

pub async fn apply(ctx: &Context, spec: &CaCertificateSpec, change: &Change) -> Result<Done, StepError> {
    let _one = UPDATES.lock().await;
    let update = || async {
        // What a run that was killed left is taken for a beginning.
        ctx.files.remove(&format!("{}.new", CaCertificateSpec::BUNDLE), false)?;
        // With its link there, another certificate in the file would get no link by its hash, by which OpenSSL finds it.
        ctx.files.remove(&spec.link(), false)?;
        program::must(ctx, vec!["update-ca-certificates".to_owned()]).await
    };
    match change {
        Change::Trust { write, .. } => {
            if *write {
                let content = spec.content.as_deref().unwrap_or_default();
                ctx.files.write(&spec.file(), content.as_bytes(), 0o644, 0, 0)?;
            }
            update().await?;
        }
        Change::Remove => {
            // Cut off before the bundle is made anew, it is still seen that there is something to do.
            ctx.files.write(&aside(spec), b"", 0o644, 0, 0)?;
            ctx.files.remove(&spec.file(), false)?;
            update().await?;
            hashed(ctx, spec).await?;
            ctx.files.remove(&aside(spec), false)?;
        }
    }
    Ok(Done::default())
}
