//! Load balancers as their clients see them: haproxy's own view of its targets, and one real request.

use std::{net::SocketAddr, time::Duration};

use muster_planner::blueprint::LoadBalancerPlan;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::cloud::{Served, haproxy};

/// Clients have little more patience.
const PATIENCE: Duration = Duration::from_secs(5);
/// More of an answer is not read.
const LONGEST: u64 = 64 << 10;

/// What it is to its clients. The API takes no request without a certificate: of it the view alone counts, which rests on
/// requests of haproxy's own.
pub(super) async fn ask(plan: &LoadBalancerPlan) -> Served {
    let view = SocketAddr::new(plan.address, haproxy::view_port(plan)).to_string();
    let to = match limited(&view, "/").await {
        Ok((200, text)) => haproxy::targets_up(&text, plan),
        Ok((status, _)) => return trouble(format!("its load balancer's view at {view} answers {status}")),
        Err(why) => return trouble(format!("its load balancer at {view} {why}")),
    };
    if plan.tls {
        return Served { to, trouble: None };
    }
    let front = SocketAddr::new(plan.address, plan.listen).to_string();
    let trouble = match limited(&front, &plan.check).await {
        Ok((200..400, _)) => None,
        Ok((status, _)) => Some(format!("http://{front}{} answers {status}", plan.check)),
        Err(why) => Some(format!("http://{front}{} {why}", plan.check)),
    };
    Served { to, trouble }
}

fn trouble(text: String) -> Served {
    Served { trouble: Some(text), ..Served::default() }
}

async fn limited(address: &str, path: &str) -> Result<(u16, String), String> {
    match timeout(PATIENCE, get(address, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("cannot be asked: {error}")),
        Err(_) => Err(format!("does not answer within {} s", PATIENCE.as_secs())),
    }
}

/// One plain GET: the status, and what was answered.
pub async fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("what it answers is no HTTP"))?;
    Ok((status, text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, process::Command};

    use super::*;

    /// Answers every request with this status.
    async fn target(status: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 1024];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n").as_bytes()).await;
            }
        });
        address
    }

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// A real haproxy says which targets it sends to, and a request through it tells what clients get.
    #[tokio::test]
    async fn what_clients_get_is_what_is_told() {
        let plan = LoadBalancerPlan {
            // Another test's haproxy has another address, so that the ports of views do not meet.
            address: "127.0.89.11".parse().unwrap(),
            listen: free_port(),
            targets: [
                ("workers-1".parse().unwrap(), target("200 OK").await),
                ("workers-2".parse().unwrap(), target("503 no").await),
            ]
            .into(),
            tls: false,
            check: "/ready".to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        // Whoever runs this may not become haproxy's user, nor have its folder.
        let text = haproxy::render(&plan).replace("user haproxy", "").replace("group haproxy", "");
        let text = text.replace("/run/haproxy.sock", &folder.path().join("socket").display().to_string());
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, text).unwrap();
        let quiet = std::process::Stdio::null;
        let command = Command::new("haproxy").arg("-db").arg("-f").arg(&path).stdout(quiet()).stderr(quiet()).spawn();
        let mut haproxy = command.expect("haproxy is needed for this test: `cargo xtask test` installs it");
        let mut served = trouble("it was not asked".to_owned());
        let good = Served { to: ["workers-1".parse().unwrap()].into(), trouble: None };
        for _ in 0..200 {
            served = ask(&plan).await;
            if served == good {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        haproxy.kill().unwrap();
        haproxy.wait().unwrap();
        assert_eq!(served, good);
        let gone = ask(&plan).await.trouble.unwrap();
        assert!(gone.contains("cannot be asked"), "{gone}");
    }
}
