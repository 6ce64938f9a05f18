//! A load balancer as simple as they come: takes turns, believes `/ready`, never tries a second time. What a front end
//! does wrong when it leaves shows here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::http;

/// A running balancer; its tasks end with the test's runtime.
pub struct Balancer {
    pub address: SocketAddr,
    backends: Arc<Mutex<Vec<Backend>>>,
}

struct Backend {
    address: SocketAddr,
    up: bool,
}

impl Balancer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backends = Arc::new(Mutex::new(Vec::<Backend>::new()));
        let all = Arc::clone(&backends);
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let up: Vec<_> = all.lock().unwrap().iter().filter(|b| b.up).map(|b| b.address).collect();
                let Some(&backend) = up.get(turn % up.len().max(1)) else { continue };
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(backend).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, backends }
    }

    /// Adds a back end and checks it ten times a second from now on.
    pub fn add(&self, address: SocketAddr) {
        let all = Arc::clone(&self.backends);
        all.lock().unwrap().push(Backend { address, up: false });
        tokio::spawn(async move {
            loop {
                let answer = timeout(Duration::from_secs(1), http::send(address, "GET", "/ready", "", "")).await;
                let up = matches!(answer, Ok(Some(http::Answer { status: 200, .. })));
                for backend in all.lock().unwrap().iter_mut().filter(|b| b.address == address) {
                    backend.up = up;
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
    }

    /// Waits until so many back ends are up.
    pub async fn has(&self, count: usize) {
        for _ in 0..400 {
            if self.backends.lock().unwrap().iter().filter(|b| b.up).count() == count {
                return;
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("never had {count} back ends");
    }
}
