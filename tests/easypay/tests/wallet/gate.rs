//! A TCP forwarder before the database, that can lead elsewhere or fall silent: what happens to a service's address when
//! a node is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A running forwarder; its tasks end with the test's runtime.
pub struct Gate {
    pub port: String,
    to: Arc<AtomicU16>,
    silenced: Arc<AtomicU64>,
}

impl Gate {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let gate = Self { port, to: Arc::new(to.into()), silenced: Arc::default() };
        let (to, silenced) = (Arc::clone(&gate.to), Arc::clone(&gate.silenced));
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (to, silenced) = (to.load(Ordering::Relaxed), Arc::clone(&silenced));
                tokio::spawn(async move {
                    let born = silenced.load(Ordering::Relaxed);
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let silence = async {
                        while silenced.load(Ordering::Relaxed) == born {
                            sleep(Duration::from_millis(5)).await;
                        }
                    };
                    let silent = tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => false,
                        () = silence => true,
                    };
                    if silent {
                        // Held open and never read again.
                        sleep(Duration::from_secs(600)).await;
                    }
                });
            }
        });
        gate
    }

    /// All connections so far fall silent for good, without an end or an error; new ones work.
    pub async fn silence(&self) {
        self.silenced.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(50)).await;
    }

    /// New connections lead there; those so far stay where they are.
    pub fn lead(&self, to: u16) {
        self.to.store(to, Ordering::Relaxed);
    }
}
