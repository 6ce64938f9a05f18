//! Docker.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use muster_agent::{
    adapters::{docker::Bollard, fake::FakeDocker},
    ports::{Docker, DockerError, DockerEvent},
};
use muster_catalog::kinds::container::ContainerSpec;
use muster_plan::kinds::container::Volume;

const NAME: &str = "muster-contract";
const OTHER: &str = "muster-contract-2";
const DATA: &str = "muster-contract-data";

fn spec(name: &str, image: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: image.into(),
        command: vec!["sleep".into(), "1000".into()],
        environment: BTreeMap::new(),
        ports: vec!["127.0.0.1:18099:80".into()],
        volumes: vec![],
        network: None,
        adopt: false,
        absent: false,
    }
}

/// `image` can be had.
async fn keeps(docker: &dyn Docker, image: &str) {
    // A run that was cut off may have left one; without one it is no error.
    for name in [NAME, OTHER] {
        docker.remove(name).await.unwrap();
        assert_eq!(docker.container(name).await.unwrap(), None);
        docker.remove(name).await.unwrap();
    }
    let nowhere = docker.pull("127.0.0.1:1/muster-no-such-image:1").await.unwrap_err();
    assert!(matches!(nowhere, DockerError::Registry { .. } | DockerError::NoImage { .. }), "{nowhere:?}");

    let mut events = docker.events();
    let labels = BTreeMap::from([("muster-try".to_owned(), "contract".to_owned())]);
    if docker.image(image).await.unwrap().is_none() {
        docker.pull(image).await.unwrap();
    }
    let data = Volume { name: DATA.into(), at: "/data".into(), ..Volume::default() };
    docker.create(&spec(NAME, image), &labels, std::slice::from_ref(&data)).await.unwrap();
    assert!(docker.container(NAME).await.unwrap().is_some_and(|state| !state.running));
    docker.start(NAME).await.unwrap();
    docker.start(NAME).await.unwrap();
    // When the daemon begins to tell is not said: something happens until it is heard of.
    let mut heard = std::pin::pin!(async {
        while events.next().await.expect("goes on") != (DockerEvent::Container { name: NAME.into() }) {}
    });
    let mut tries = 0;
    while tokio::time::timeout(Duration::from_secs(1), &mut heard).await.is_err() {
        tries += 1;
        assert!(tries < 30, "nothing was heard of it");
        docker.restart(NAME).await.unwrap();
    }
    let state = docker.container(NAME).await.unwrap().expect("it is there");
    assert!(state.running && state.labels.get("muster-try").is_some_and(|label| label == "contract"), "{state:?}");
    assert_eq!(docker.image(image).await.unwrap().as_ref(), Some(&state.image));

    assert!(state.volumes.contains(&data) && state.restarts == 0 && !state.goes_when_it_ends, "{state:?}");
    assert_eq!(state.image_name, image);

    // What nobody is called is nothing, though an id of somebody's may begin so.
    let image_id = docker.image(image).await.unwrap().unwrap();
    for name in "0123456789abcdef".chars().map(String::from) {
        assert_eq!(docker.container(&name).await.unwrap(), None, "{name}");
        assert_eq!(docker.image(&name).await.unwrap(), None, "{name}");
    }
    assert_eq!(docker.image(image_id.trim_start_matches("sha256:")).await.unwrap(), None);

    docker.create(&spec(OTHER, image), &labels, &[]).await.unwrap();
    let taken = docker.start(OTHER).await;
    assert!(matches!(taken, Err(DockerError::PortInUse { .. })), "{taken:?}");
    assert!(docker.create(&spec(OTHER, image), &labels, &[]).await.is_err(), "the name is taken");
    assert!(docker.rename(NAME, OTHER).await.is_err());
    docker.remove(OTHER).await.unwrap();
    docker.restart(NAME).await.unwrap();

    docker.rename(NAME, OTHER).await.unwrap();
    assert_eq!(docker.container(NAME).await.unwrap(), None);
    docker.stop(OTHER).await.unwrap();
    docker.stop(OTHER).await.unwrap();
    assert!(docker.container(OTHER).await.unwrap().is_some_and(|state| !state.running));
    assert_eq!(docker.lodgers(OTHER).await.unwrap(), Vec::<String>::new());
    assert_eq!(docker.last_words(OTHER, 3).await.unwrap(), Vec::<String>::new());
    docker.remove(OTHER).await.unwrap();
    assert_eq!(docker.container(OTHER).await.unwrap(), None);
}

#[tokio::test]
async fn the_fake_keeps_it() {
    let docker = FakeDocker::default();
    docker.publish("x:1");
    keeps(&docker, "x:1").await;
}

#[tokio::test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; `cargo xtask test` asks for it"]
async fn the_real_one_keeps_it() {
    keeps(&Bollard::new(), &crate::lab::artefacts().services_image).await;
    // The port has no way to remove one.
    let removed = std::process::Command::new("docker").args(["volume", "rm", DATA]).output().unwrap();
    assert!(removed.status.success(), "the volume stayed: {removed:?}");
}
