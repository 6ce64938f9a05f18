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
            let output = ctr(ctx, &["images", "list", "--quiet", &filter], Duration::from_secs(60)).await?;
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
            ctr(ctx, &["images", "pull", "--hosts-dir", HOSTS, &name], PULL).await?;
        }
    }
    Ok(Done::default())
}

async fn ctr(ctx: &Context, arguments: &[&str], timeout: Duration) -> Result<String, StepError> {
    let argv = ["ctr", "--namespace", "k8s.io"].iter().chain(arguments).map(|&word| word.to_owned());
    let output = ctx.commands.run(Invocation::new(argv).timeout(timeout)).await?;
    if output.success() {
        return Ok(output.stdout());
    }
    let tail = output.tail(2).replace('\n', " | ");
    let step = StepError::failed(format!("containerd: {tail}")).retry();
    Err(if tail.contains("containerd.sock") {
        step.help("is containerd running? a service resource `containerd` keeps it so")
    } else if tail.contains("not found") {
        step.help("no registry has this image: check name and tag")
    } else {
        step.help("is the registry up, and can this node reach it?")
    })
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
    use super::full_name;

    #[test]
    fn names_are_made_whole() {
        assert_eq!(full_name("postgres:15"), "docker.io/library/postgres:15");
        assert_eq!(full_name("a/b"), "docker.io/a/b:latest");
        assert_eq!(full_name("10.89.0.3:5000/web:1"), "10.89.0.3:5000/web:1");
    }
}
