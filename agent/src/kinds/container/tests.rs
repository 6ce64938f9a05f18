//! Containers step by step on a fake daemon, cut off at each point too.

use muster_plan::kinds::container::diff;

use super::*;
use crate::{adapters::fake::FakeMachine, ports::DockerError};

fn spec(image: &str) -> ContainerSpec {
    ContainerSpec {
        name: "web".into(),
        image: image.into(),
        command: vec![],
        environment: Default::default(),
        ports: vec!["8080:80".into()],
        volumes: vec![],
        network: None,
        adopt: false,
        absent: false,
    }
}

fn machine() -> FakeMachine {
    let machine = FakeMachine::new();
    for image in ["web:1", "web:2", "bad:1"] {
        machine.docker.publish(image);
        machine.docker.keeps_data(image, "/data");
    }
    machine.docker.ends_at_once("bad:1");
    machine
}

/// One step, as the engine makes it: it must leave no difference.
async fn converge(ctx: &Context, spec: &ContainerSpec) -> Result<(), StepError> {
    if let Some(change) = diff(spec, &observe(ctx, spec).await?) {
        apply(ctx, spec, &change).await?;
        assert_eq!(diff(spec, &observe(ctx, spec).await?), None);
    }
    Ok(())
}

async fn state(ctx: &Context, name: &str) -> ContainerState {
    ctx.docker.container(name).await.unwrap().unwrap()
}

fn failed(error: StepError) -> String {
    match error {
        StepError::Failed(failure) => format!("{}; {}", failure.message, failure.help.unwrap_or_default()),
        StepError::Skip(why) => panic!("{why:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_container_keeps_its_data() {
    let machine = machine();
    let ctx = machine.node("node-1");
    converge(&ctx, &spec("web:1")).await.unwrap();
    let before = state(&ctx, "web").await;
    converge(&ctx, &spec("web:2")).await.unwrap();
    let after = state(&ctx, "web").await;
    assert_ne!(before.image, after.image);
    assert_eq!(before.volumes, after.volumes);
    assert_eq!(ctx.docker.container("web.muster-replaced").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_stay_up_is_no_success_and_the_old_one_comes_back() {
    let machine = machine();
    let ctx = machine.node("node-1");
    let error = failed(converge(&ctx, &spec("bad:1")).await.unwrap_err());
    assert!(error.contains("does not stay up; it ended with status 1") && error.contains("docker logs"), "{error}");
    ctx.docker.remove("web").await.unwrap();

    converge(&ctx, &spec("web:1")).await.unwrap();
    let before = state(&ctx, "web").await;
    let error = failed(converge(&ctx, &spec("bad:1")).await.unwrap_err());
    assert!(error.contains("the old container is back"), "{error}");
    let back = state(&ctx, "web").await;
    assert_ne!(back.run, before.run);
    assert_eq!(back, ContainerState { run: back.run.clone(), ..before });
    assert_eq!(ctx.docker.container("web.muster-replaced").await.unwrap(), None);
    // What runs is not stopped for it again and again.
    let error = failed(converge(&ctx, &spec("bad:1")).await.unwrap_err());
    assert!(error.contains("the old one runs") && error.contains("docker logs web.muster-failed"), "{error}");
    machine.docker.change_by_hand("web.muster-failed", |state| state.down = 3600).unwrap();
    let error = failed(converge(&ctx, &spec("bad:1")).await.unwrap_err());
    assert!(error.contains("the old container is back"), "{error}");
    converge(&ctx, &spec("web:2")).await.unwrap();
    assert_eq!(ctx.docker.container("web.muster-failed").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_answer_costs_nothing() {
    let machine = machine();
    let ctx = machine.node("node-1");
    converge(&ctx, &spec("web:1")).await.unwrap();
    machine.docker.registry_away(true);
    assert!(converge(&ctx, &spec("web:2")).await.is_err());
    assert!(state(&ctx, "web").await.running);
}

/// Each point at which the agent can be killed in a replacement.
#[tokio::test(start_paused = true)]
async fn a_replacement_that_was_cut_off_ends_as_if_nothing_had_been() {
    for steps in 0..=4 {
        let machine = machine();
        let ctx = machine.node("node-1");
        converge(&ctx, &spec("web:1")).await.unwrap();
        let before = state(&ctx, "web").await;
        let newer = spec("web:2");
        let docker = &ctx.docker;
        docker.pull("web:2").await.unwrap();
        if steps >= 1 {
            docker.rename("web", &newer.aside()).await.unwrap();
        }
        if steps >= 2 {
            create(&ctx, &newer, &before.volumes).await.unwrap();
        }
        if steps >= 3 {
            docker.stop(&newer.aside()).await.unwrap();
        }
        if steps >= 4 {
            docker.start("web").await.unwrap();
        }
        converge(&ctx, &newer).await.unwrap();
        let after = state(&ctx, "web").await;
        assert!(after.running && after.image_name == "web:2", "after {steps} steps: {after:?}");
        assert_eq!(after.volumes, before.volumes, "after {steps} steps");
        assert_eq!(docker.container(&newer.aside()).await.unwrap(), None, "after {steps} steps");
    }
}

#[tokio::test(start_paused = true)]
async fn what_muster_did_not_make_is_adopted_only_where_it_is_written() {
    let machine = machine();
    let ctx = machine.node("node-1");
    ctx.docker.pull("web:1").await.unwrap();
    ctx.docker.create(&spec("web:1"), &Default::default(), &[]).await.unwrap();
    ctx.docker.start("web").await.unwrap();
    let before = state(&ctx, "web").await;
    let absent = ContainerSpec { absent: true, ..spec("web:1") };
    for refused in [&spec("web:2"), &absent] {
        let error = failed(converge(&ctx, refused).await.unwrap_err());
        assert!(error.contains("muster did not make") && error.contains("adopt = true"), "{error}");
        assert_eq!(state(&ctx, "web").await, before);
    }
    let adopt = ContainerSpec { adopt: true, ..spec("web:2") };
    let compose = "com.docker.compose.project";
    let label = |value: Option<&str>| {
        machine.docker.change_by_hand("web", |state| {
            state.labels = value.map(|value| (compose.to_owned(), value.to_owned())).into_iter().collect();
        })
    };
    label(Some("shop")).unwrap();
    let error = failed(converge(&ctx, &adopt).await.unwrap_err());
    assert!(error.contains("in use by the Docker Compose project shop"), "{error}");
    label(None).unwrap();
    converge(&ctx, &adopt).await.unwrap();
    let after = state(&ctx, "web").await;
    assert_eq!((after.image_name.as_str(), after.volumes), ("web:2", before.volumes));
    // Taken over, it needs no word any more.
    converge(&ctx, &spec("web:2")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_leaves_no_half_container() {
    let machine = machine();
    let ctx = machine.node("node-1");
    let other = ContainerSpec { name: "other".into(), ..spec("web:1") };
    converge(&ctx, &other).await.unwrap();
    assert!(converge(&ctx, &spec("web:1")).await.is_err());
    assert_eq!(ctx.docker.container("web").await.unwrap(), None);
    let taken = ctx.docker.create(&other, &Default::default(), &[]).await;
    assert!(matches!(taken, Err(DockerError::Refused(_))), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_docker_starts_again_and_again_is_not_right_while_it_runs() {
    let machine = machine();
    let ctx = machine.node("node-1");
    converge(&ctx, &spec("web:1")).await.unwrap();
    for (restarts, up, right) in [(3, 2, false), (3, 60, true), (0, 2, true)] {
        machine.docker.change_by_hand("web", |state| (state.restarts, state.up) = (restarts, up)).unwrap();
        let differs = diff(&spec("web:1"), &observe(&ctx, &spec("web:1")).await.unwrap());
        assert_eq!(differs.is_none(), right, "{restarts} restarts, {up} s");
    }
}
