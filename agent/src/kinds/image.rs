//! `[[image]]`: by Docker's daemon, or by containerd's own client into the namespace that kubelet uses.

use std::time::Duration;

use muster_catalog::kinds::image::{ImageSpec, Runtime};
use muster_plan::kinds::image::{Change, Observed};

use crate::{Context, Done, StepError, ports::Invocation};

const PULL: Duration = Duration::from_secs(900);
/// Where containerd's registries are described; its CRI plugin reads the same folder.
const HOSTS: &str = "/etc/containerd/certs.d";

pub async fn observe(ctx: &Context, spec: &ImageSpec) -> Result<Observed, StepError> {
    let there = match spec.runtime {
        Runtime::Docker => ctx.docker.image(&spec.name).await?.is_some(),
        Runtime::Kubernetes => {
            let filter = format!("name=={}", full_name(&spec.name));
            let output = ctr(ctx, spec, &["images", "list", "--quiet", &filter], Duration::from_secs(60)).await?;
            !output.trim().is_empty()
        }
    };
    Ok(Observed { there })
}

pub async fn apply(ctx: &Context, spec: &ImageSpec, _change: &Change) -> Result<Done, StepError> {
    match spec.runtime {
        Runtime::Docker => ctx.docker.pull(&spec.name).await?,
        Runtime::Kubernetes => {
            let name = full_name(&spec.name);
            ctr(ctx, spec, &["images", "pull", "--hosts-dir", HOSTS, &name], PULL).await?;
        }
    }
    Ok(Done::default())
}

async fn ctr(ctx: &Context, spec: &ImageSpec, arguments: &[&str], timeout: Duration) -> Result<String, StepError> {
    let argv = ["ctr", "--namespace", "k8s.io"].iter().chain(arguments).map(|&word| word.to_owned());
    let output = ctx.commands.run(Invocation::new(argv).timeout(timeout)).await?;
    if output.success() { Ok(output.stdout()) } else { Err(explain(&spec.name, &output.tail(2).replace('\n', " | "))) }
}

/// What `ctr` says, in the words that Docker's refusals have.
fn explain(image: &str, tail: &str) -> StepError {
    let away = ["connection refused", "no such host", "no route to host", "i/o timeout", "network is unreachable"];
    if tail.contains("containerd.sock") {
        StepError::failed("containerd does not answer")
            .help("is containerd running? a service resource `containerd` keeps it so")
    } else if tail.contains("not found") {
        StepError::failed(format!("no registry has image {image}")).help("check name and tag")
    } else if away.iter().any(|word| tail.contains(word)) {
        StepError::failed(format!("the registry does not answer for image {image}"))
            .help("is the registry up, and can this node reach it?")
    } else {
        StepError::failed(format!("containerd refuses image {image}"))
            .help("is the registry up, and can this node reach it?")
    }
    .because(tail.to_owned())
    .retry()
}

/// containerd knows whole names only: `docker.io/library/` is what Docker leaves out.
fn full_name(name: &str) -> String {
    let tagged = if name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    match tagged.split_once('/') {
        None => format!("docker.io/library/{tagged}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => tagged,
        Some(_) => format!("docker.io/{tagged}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{explain, full_name};

    #[test]
    fn names_are_made_whole() {
        assert_eq!(full_name("postgres:15"), "docker.io/library/postgres:15");
        assert_eq!(full_name("a/b"), "docker.io/a/b:latest");
        assert_eq!(full_name("10.89.0.3:5000/web:1"), "10.89.0.3:5000/web:1");
    }
    #[test]
    fn containerds_refusals_say_what_and_where() {
        let said = |tail: &str| format!("{:?}", explain("h:5000/x:1", tail).into_outcome());
        let away = said("ctr: failed to do request: Head \"http://h:5000/v2/x\": dial tcp 10.89.0.3:5000: i/o timeout");
        assert!(
            away.contains("the registry does not answer for image h:5000/x:1: ") && away.contains("10.89.0.3:5000")
        );
        assert!(said("ctr: h:5000/x:1: not found").contains("no registry has image h:5000/x:1"));
        assert!(said("dial unix /run/containerd/containerd.sock").contains("is containerd running?"));
    }
}
