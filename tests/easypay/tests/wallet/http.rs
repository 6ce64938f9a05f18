//! As little HTTP as the tests need, and none of the product's own.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer, with its head as text.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

/// Sends a request on a connection of its own. `None` when there is no whole answer.
pub async fn send(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

pub async fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, "GET", path, "", "").await.unwrap_or_else(|| panic!("no answer to {path}"))
}

pub async fn post(to: SocketAddr, body: &Value) -> Option<Answer> {
    send(to, "POST", "/payments", "content-type: application/json\r\n", &body.to_string()).await
}

pub async fn pay(to: SocketAddr, user: &str, amount_cents: i64, key: &str) -> Answer {
    let body = json!({ "user": user, "amount_cents": amount_cents, "idempotency_key": key });
    post(to, &body).await.expect("an answer to a payment")
}

/// The numbers of a wallet: balance, tried, succeeded.
pub async fn wallet(to: SocketAddr, user: &str) -> (i64, i64, i64) {
    let answer = get(to, &format!("/wallets/{user}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let wallet = answer.json();
    let number = |name: &str| wallet[name].as_i64().unwrap_or_else(|| panic!("no {name} in {wallet}"));
    assert_eq!(number("balance_cents"), number("succeeded_cents"));
    (number("balance_cents"), number("tried"), number("succeeded"))
}
