//! Docker.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use muster_agent::{
    adapters::{docker::Bollard, fake::FakeDocker},
    ports::{Docker, DockerError, DockerEvent},
};
use muster_catalog::kinds::container::ContainerSpec;

const NAME: &str = "muster-contract";

fn spec(name: &str, image: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: image.into(),
        command: vec!["sleep".into(), "1000".into()],
        environment: BTreeMap::new(),
        ports: vec!["127.0.0.1:18099:80".into()],
        volumes: vec![],
        network: None,
        absent: false,
    }
}

/// `image` can be had.
async fn keeps(docker: &dyn Docker, image: &str) {
    // A run that was cut off may have left one; without one it is no error.
    docker.remove(NAME).await.unwrap();
    assert_eq!(docker.container(NAME).await.unwrap(), None);
    docker.remove(NAME).await.unwrap();
    let nowhere = docker.pull("127.0.0.1:1/muster-no-such-image:1").await.unwrap_err();
    assert!(matches!(nowhere, DockerError::Registry { .. } | DockerError::NoImage { .. }), "{nowhere:?}");

    let mut events = docker.events();
    let labels = BTreeMap::from([("muster-try".to_owned(), "contract".to_owned())]);
    docker.run(&spec(NAME, image), &labels).await.unwrap();
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

    let twice = docker.run(&spec("muster-contract-2", image), &labels).await;
    assert!(matches!(twice, Err(DockerError::PortInUse { .. })), "{twice:?}");
    assert_eq!(docker.container("muster-contract-2").await.unwrap(), None, "no half container stays");
    docker.restart(NAME).await.unwrap();
    docker.remove(NAME).await.unwrap();
    assert_eq!(docker.container(NAME).await.unwrap(), None);
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
}
