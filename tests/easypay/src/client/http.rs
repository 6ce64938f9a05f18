//! One HTTP/1.1 request on one new TCP connection. Nothing is retried or kept: a load balancer that fails a connection is
//! to be seen.

use std::str::FromStr;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// More than any answer of EasyPay.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// A server, from `http://HOST` or `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err("an address begins with http://".to_owned());
        }
        if uri.path_and_query().is_some_and(|path| path != "/") {
            return Err("an address has no path".to_owned());
        }
        let authority = uri.authority().ok_or("an address names a host")?;
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
        })
    }
}

/// Why there was no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("connect: {0}")]
    Connect(std::io::ErrorKind),
    #[error("exchange: {}", innermost(.0))]
    Exchange(hyper::Error),
    #[error("request: {0}")]
    Request(hyper::http::Error),
    #[error("the answer ended early or is too long")]
    Body,
}

/// Reasons are counted by their text, so it is short and holds nothing that differs from time to time.
fn innermost(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(io) => io.kind().to_string(),
        None => cause.to_string(),
    }
}

/// An answer, whatever its status.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Target {
    /// Sends a request on a connection of its own and reads the whole answer. Has no time limit.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn send(&self, method: Method, path: &str, json: Option<String>) -> Result<Answer, HttpError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| HttpError::Connect(error.kind()))?;
        let _ = stream.set_nodelay(true);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(HttpError::Exchange)?;
        let driver = tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, &self.authority).header(CONNECTION, "close");
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(json.unwrap_or_default()));
        let request = request.body(body).map_err(HttpError::Request)?;
        let response = sender.send_request(request).await.map_err(HttpError::Exchange)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|_| HttpError::Body)?;
        driver.abort();
        Ok(Answer { status, body: body.to_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let target: Target = "http://10.89.0.11".parse().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("10.89.0.11", 80));
        let target: Target = "http://[::1]:8080/".parse().unwrap();
        assert_eq!((target.host.as_str(), target.port, target.authority.as_str()), ("::1", 8080, "[::1]:8080"));
        for wrong in ["10.89.0.11", "https://wallet", "http://wallet/path", "", "http://"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
