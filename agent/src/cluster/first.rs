//! The first start of a control plane's etcd, before kubelet has it.
//!
//! An etcd that is told to begin a cluster begins another one whenever its data is gone: after a disk was changed, this
//! node's API server would serve an empty cluster to everybody behind the load balancer, and kubelets would end their pods.
//! One that is told of the other members comes back without its data as the voter that it was, and has forgotten what it agreed
//! to: with another like it the cluster could lose what was written. kubelet can only start what its manifest says, and a
//! manifest changed later costs the node its etcd for most of a minute. So the data is made here, by the same program out of
//! the same image, and the manifest says from its first day that the cluster exists and names nobody else: without its
//! data such an etcd starts in no cluster at all.

use std::time::{Duration, Instant};

use muster_catalog::kinds::cluster_member::ClusterMemberSpec;

use super::{KUBERNETES, client, documents, etcd::peer_url, join::ETCD_DATA, kubeadm, midwife, processes};
use crate::{
    Context, StepError,
    ports::{CommandError, Invocation, Output},
};

const ETCD: &str = "/var/lib/etcd";
/// Where the data is made; it gets its name when it is whole.
const MAKING: &str = "/var/lib/etcd/muster-birth";
const IMAGE: &str = "/run/muster/etcd-image";
/// Where the first etcd tells how it is: kubelet's, a moment later, has another.
const HEALTH: &str = "http://127.0.0.1:2391";
/// A slow disk, a slow mirror.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the first start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First<'a> {
    /// Begins the cluster.
    Alone,
    /// Joins the members of it, all as `name=peer URL,…` with this node among them.
    Joins(&'a str),
}

/// Makes etcd's data where there is none. `documents` are kubeadm's.
pub async fn begin(
    ctx: &Context,
    spec: &ClusterMemberSpec,
    documents: &str,
    first: First<'_>,
) -> Result<(), StepError> {
    if ctx.files.stat(ETCD_DATA)?.is_some() {
        return Ok(());
    }
    let began = Instant::now();
    // What an attempt that was cut has left.
    end(ctx).await?;
    ctx.files.remove(MAKING, true)?;
    if ctx.files.stat(ETCD)?.is_none() {
        ctx.files.make_own_dir(ETCD, 0o700, 0, 0)?;
    }
    let image = image(ctx, documents).await?;
    unmount(ctx).await?;
    ctx.files.make_dir(IMAGE)?;
    let mount = ["ctr", "--namespace", "k8s.io", "images", "mount", &image, IMAGE];
    // kubeadm's checks have brought it, but where they were passed before.
    if run(ctx, &mount).await.is_err() {
        kubeadm::run(ctx, &["config", "images", "pull"], documents).await?;
        run(ctx, &mount).await?;
    }
    let made = make(ctx, spec, first).await;
    unmount(ctx).await?;
    made?;
    let member = format!("{MAKING}/member");
    run(ctx, &["sync", "--file-system", MAKING]).await?;
    run(ctx, &["mv", "--no-target-directory", &member, ETCD_DATA]).await?;
    run(ctx, &["sync", ETCD]).await?;
    ctx.files.remove(MAKING, true)?;
    tracing::info!(took = began.elapsed().as_millis(), "etcd's data is made");
    Ok(())
}

/// As kubeadm names it for this version and repository.
async fn image(ctx: &Context, documents: &str) -> Result<String, StepError> {
    let listed = kubeadm::print(ctx, &["config", "images", "list"], documents).await?;
    let found = listed
        .lines()
        .map(str::trim)
        .find(|image| image.rsplit('/').next().is_some_and(|name| name.starts_with("etcd:")));
    let found = found.ok_or_else(|| StepError::failed("kubeadm names no image of etcd"))?;
    Ok(found.to_owned())
}

/// Runs etcd until it has written down who it is, then ends it.
async fn make(ctx: &Context, spec: &ClusterMemberSpec, first: First<'_>) -> Result<(), StepError> {
    let argv = arguments(spec, first);
    let invocation = Invocation::new(argv).timeout(PATIENCE);
    let mut running = std::pin::pin!(ctx.commands.run(invocation));
    let early = |ended: Result<Output, CommandError>| match ended {
        Ok(output) => {
            let said = last_words(&String::from_utf8_lossy(&output.stderr));
            StepError::failed(format!("etcd ended at its first start: {said}")).retry()
        }
        Err(error) => StepError::failed("etcd could not be started").because(error).retry(),
    };
    tokio::select! {
        ended = &mut running => return Err(early(ended)),
        made = has_data(ctx, first) => made?,
    }
    end(ctx).await?;
    // It ends by the signal, with whatever code.
    tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .map_err(|_| StepError::failed("etcd does not end after its first start").retry())?
        .map_err(|error| early(Err(error)))?;
    Ok(())
}

/// What etcd says last, a line of JSON, without its stack.
fn last_words(said: &str) -> String {
    let last = said.lines().last().unwrap_or_default();
    let Ok(line) = serde_json::from_str::<serde_json::Value>(last) else { return last.to_owned() };
    let words = ["msg", "error"].map(|key| line[key].as_str()).into_iter().flatten();
    words.collect::<Vec<_>>().join(": ")
}

fn arguments(spec: &ClusterMemberSpec, first: First<'_>) -> Vec<String> {
    let (name, url) = (&spec.name, peer_url(&spec.address));
    let pki = |file: &str| format!("{KUBERNETES}/pki/etcd/{file}");
    let mut argv = vec![format!("{IMAGE}/usr/local/bin/etcd")];
    let mut option = |name: &str, value: String| argv.push(format!("--{name}={value}"));
    option("name", name.clone());
    option("data-dir", MAKING.to_owned());
    match first {
        First::Alone => option("initial-cluster", format!("{name}={url}")),
        First::Joins(members) => {
            option("initial-cluster", members.to_owned());
            option("initial-cluster-state", "existing".to_owned());
            option("max-learners", documents::MAX_LEARNERS.to_owned());
        }
    }
    option("initial-advertise-peer-urls", url.clone());
    option("listen-peer-urls", url);
    option("peer-client-cert-auth", "true".to_owned());
    option("peer-cert-file", pki("peer.crt"));
    option("peer-key-file", pki("peer.key"));
    option("peer-trusted-ca-file", pki("ca.crt"));
    option("advertise-client-urls", super::etcd::client_url(&spec.address));
    // Nobody is to be served by this one.
    option("client-cert-auth", "true".to_owned());
    option("cert-file", pki("server.crt"));
    option("key-file", pki("server.key"));
    option("trusted-ca-file", pki("ca.crt"));
    option("listen-client-urls", "https://127.0.0.1:2389".to_owned());
    option("listen-metrics-urls", HEALTH.to_owned());
    argv
}

/// Waits until it has what a later start needs: who it is and, of others, who they are.
async fn has_data(ctx: &Context, first: First<'_>) -> Result<(), StepError> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let good = match first {
            First::Alone => is_healthy().await,
            // The first thing that the others tell is who they are, and there is more than that in any cluster.
            First::Joins(_) => midwife::vitals(HEALTH).await.is_some_and(midwife::Vitals::follows),
        };
        if good {
            return Ok(());
        }
        ctx.clock.sleep(Duration::from_millis(50)).await;
    }
    let what = match first {
        First::Alone => "the first etcd did not serve within two minutes",
        First::Joins(_) => "this node's etcd did not find its cluster within two minutes",
    };
    Err(StepError::failed(what)
        .help("can this node reach port 2380 of the other control planes, and they its own?")
        .retry())
}

/// As the only member it is healthy when it leads and has written down who it is.
async fn is_healthy() -> bool {
    let Ok(health) = client::anonymous(HEALTH, None) else { return false };
    let request = http::Request::get("/health").body(Vec::new()).expect("a fixed request");
    let asked = tokio::time::timeout(Duration::from_secs(1), health.request_text(request)).await;
    matches!(asked, Ok(Ok(text)) if text.contains("\"health\":\"true\""))
}

/// Ends it, where it runs.
async fn end(ctx: &Context) -> Result<(), StepError> {
    let data = format!("--data-dir={MAKING}");
    let first = |words: &[&[u8]]| processes::is(words, "etcd") && words.contains(&data.as_bytes());
    for _ in 0..100 {
        let found = processes::find(&*ctx.files, first)?;
        if found.is_empty() {
            return Ok(());
        }
        for pid in found {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
    Err(StepError::failed("etcd does not end after its first start").retry())
}

async fn unmount(ctx: &Context) -> Result<(), StepError> {
    let mounted = ctx.files.stat(&format!("{IMAGE}/usr"))?.is_some();
    if mounted { run(ctx, &["ctr", "--namespace", "k8s.io", "images", "unmount", "--rm", IMAGE]).await } else { Ok(()) }
}

async fn run(ctx: &Context, argv: &[&str]) -> Result<(), StepError> {
    let invocation = Invocation::new(argv.iter().copied()).timeout(PATIENCE);
    let output = ctx.commands.run(invocation).await;
    let output =
        output.map_err(|error| StepError::failed(format!("{} could not be run", argv[0])).because(error).retry())?;
    if output.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(StepError::failed(format!("{} failed: {said}", argv.join(" "))).retry())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_ends_says_why_in_a_line() {
        let fatal = r#"{"level":"fatal","ts":"…","msg":"discovery failed","error":"too many learner members","stacktrace":"a\nb"}"#;
        assert_eq!(last_words(&format!("first\n{fatal}\n")), "discovery failed: too many learner members");
        assert_eq!(last_words("exec format error\n"), "exec format error");
        assert_eq!(last_words(""), "");
    }
}
