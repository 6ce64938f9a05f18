//! systemd's notifications: ready, alive, stopping. Without systemd they go nowhere.

use std::{
    env, io,
    os::unix::{ffi::OsStrExt as _, net::UnixDatagram},
    path::Path,
    time::Duration,
};

/// The socket that systemd gave.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    every: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub fn from_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|path| match connect(path.as_bytes()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "systemd cannot be notified");
                None
            }
        });
        let every = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Self { socket, every }
    }

    /// Nobody to tell.
    pub fn none() -> Self {
        Self { socket: None, every: None }
    }

    /// How often to say [`Notifier::alive`], where somebody watches: half of what is allowed.
    pub fn watchdog(&self) -> Option<Duration> {
        self.every.map(|every| every / 2)
    }

    pub fn ready(&self) {
        self.send("READY=1");
    }

    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!(%error, "systemd was not notified");
        }
    }
}

fn connect(path: &[u8]) -> io::Result<UnixDatagram> {
    use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path)))?,
    };
    let socket = UnixDatagram::unbound()?;
    // systemd that is busy must not stop the loop.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier { socket: Some(connect(path.as_os_str().as_bytes()).unwrap()), every: None };
        notifier.ready();
        notifier.status("two\nlines");
        let mut buffer = [0; 64];
        for expected in ["READY=1", "STATUS=two lines"] {
            let length = systemd.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }
}
