//! The clock.

use std::time::Duration;

use muster_agent::{
    adapters::{clock::SystemClock, fake::FakeClock},
    ports::Clock,
};

async fn keeps(clock: &dyn Clock) {
    let began = clock.now();
    // Seconds since 1970, and a time when there was a Kubernetes.
    assert!((1_400_000_000..10_000_000_000).contains(&began), "{began}");
    clock.sleep(Duration::ZERO).await;
    assert!(clock.now() - began <= 1, "no sleep takes no time");
    // In small pieces it is as long as in one.
    for _ in 0..11 {
        clock.sleep(Duration::from_millis(100)).await;
    }
    assert!(clock.now() > began, "a second went by");
    let later = clock.now();
    clock.sleep(Duration::from_secs(1)).await;
    assert!(clock.now() > later);
}

#[tokio::test]
async fn the_fake_keeps_it() {
    keeps(&FakeClock::default()).await;
}

#[tokio::test]
async fn the_real_one_keeps_it() {
    keeps(&SystemClock).await;
}
