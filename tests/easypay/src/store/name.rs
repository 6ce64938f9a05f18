//! Where the database's name leads, also while names are not to be had.
//!
//! A cluster's name service is one more thing that can be away, and the database's address outlives it: so what a
//! connection was last made by is remembered, and used when the name cannot be had. A name that is to be had is asked for
//! each connection all the same, because a database that moved is found by nothing else.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// For one look-up. The system's resolver takes five seconds a try, which is all the patience that a payment has.
const LOOK_UP: Duration = Duration::from_secs(1);
/// A look-up that takes longer than the resolver's own tries is not waited for any more. Until then it is the only one:
/// each holds a thread, for as long as half a minute.
const STUCK: Duration = Duration::from_secs(5);

/// Asks where the name leads now.
pub type Resolver =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync>;

/// The system's resolver; an address leads to itself without it.
pub fn system(host: &str, port: u16) -> Resolver {
    let host = host.to_owned();
    Box::new(move || {
        let host = host.clone();
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) })
    })
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("no answer within {} s", LOOK_UP.as_secs())]
    Slow,
    #[error("it has no address")]
    Empty,
    #[error("{0}")]
    Failed(String),
}

type Found = Result<Vec<SocketAddr>, NameError>;

/// A name and where it last led.
pub struct Name {
    resolver: Resolver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: Option<(Instant, watch::Receiver<Option<Found>>)>,
    remembered: Vec<SocketAddr>,
    /// Whether the log says that the name is not to be had.
    lost: bool,
}

impl Name {
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, state: Mutex::default() }
    }

    /// Where to connect now, the likeliest first.
    ///
    /// # Errors
    /// When the name is not to be had and nothing is remembered.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, NameError> {
        let found = self.look_up().await;
        let mut state = self.state();
        match found {
            Ok(addresses) => {
                if std::mem::take(&mut state.lost) {
                    tracing::info!("the database's name can be looked up again");
                }
                Ok(addresses)
            }
            Err(error) if state.remembered.is_empty() => Err(error),
            Err(error) => {
                if !std::mem::replace(&mut state.lost, true) {
                    tracing::warn!(%error, addresses = ?state.remembered, "the database's name cannot be looked up; going where it last led");
                }
                Ok(state.remembered.clone())
            }
        }
    }

    /// Remembers that a connection was made by one of these addresses.
    pub fn led_to(&self, address: SocketAddr, mut addresses: Vec<SocketAddr>) {
        // The others too: the successor of a database that fails over may be among them.
        addresses.sort_by_key(|other| *other != address);
        self.state().remembered = addresses;
    }

    async fn look_up(&self) -> Found {
        let (since, mut answer) = self.begun();
        match timeout_at(since + LOOK_UP, answer.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone().unwrap_or(Err(NameError::Slow)),
            Ok(Err(_)) => Err(NameError::Failed("the look-up broke off".to_owned())),
            Err(_) => Err(NameError::Slow),
        }
    }

    /// The look-up under way, or a new one. Who comes late to a slow one does not wait a second once more.
    fn begun(&self) -> (Instant, watch::Receiver<Option<Found>>) {
        let mut state = self.state();
        if let Some((since, answer)) = &state.under_way
            && answer.borrow().is_none()
            && answer.has_changed().is_ok()
            && since.elapsed() < STUCK
        {
            return (*since, answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        let asking = (self.resolver)();
        tokio::spawn(async move {
            let found = asking.await.map_err(|error| NameError::Failed(error.to_string())).and_then(|mut addresses| {
                // A name may stand in the file of hosts several times.
                addresses.dedup();
                if addresses.is_empty() { Err(NameError::Empty) } else { Ok(addresses) }
            });
            sender.send_replace(Some(found));
        });
        let new = (Instant::now(), answer);
        state.under_way = Some(new.clone());
        new
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Error;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::testing::logged;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 5432))
    }

    /// A name whose look-ups end so one after the other, `None` being no end at all; and how many there were.
    fn name(ends: Vec<Option<Result<Vec<SocketAddr>, &'static str>>>) -> (Name, Arc<AtomicU32>) {
        let (ends, asked) = (Mutex::new(VecDeque::from(ends)), Arc::<AtomicU32>::default());
        let count = Arc::clone(&asked);
        let resolver: Resolver = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            let end = ends.lock().unwrap().pop_front().expect("a look-up that was foreseen");
            Box::pin(async move {
                match end {
                    Some(end) => end.map_err(Error::other),
                    None => std::future::pending().await,
                }
            })
        });
        (Name::new(resolver), asked)
    }

    #[tokio::test]
    async fn a_name_that_can_be_had_is_asked_for_each_time() {
        let (name, asked) = name(vec![Some(Ok(vec![at(1), at(1)])), Some(Ok(vec![at(2)]))]);
        assert_eq!(name.addresses().await, Ok(vec![at(1)]));
        name.led_to(at(1), vec![at(1)]);
        assert_eq!(name.addresses().await, Ok(vec![at(2)]), "the database has moved");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn where_a_connection_was_made_serves_while_the_name_is_not_to_be_had_and_the_log_says_so_once() {
        let lost = || Some(Err("temporary failure"));
        let ends =
            vec![Some(Ok(vec![at(1), at(2), at(3)])), lost(), Some(Ok(vec![])), lost(), Some(Ok(vec![at(4)])), lost()];
        let (name, _) = name(ends);
        let log = logged();
        let first = name.addresses().await.unwrap();
        name.led_to(at(2), first);
        for _ in 0..3 {
            assert_eq!(name.addresses().await, Ok(vec![at(2), at(1), at(3)]));
        }
        assert_eq!(name.addresses().await, Ok(vec![at(4)]));
        assert_eq!(log.lines("going where it last led"), 1, "{}", log.text());
        assert_eq!(log.lines("can be looked up again"), 1, "{}", log.text());
        // No connection was made there.
        assert_eq!(name.addresses().await, Ok(vec![at(2), at(1), at(3)]));
        assert_eq!(log.lines("going where it last led"), 2, "{}", log.text());
    }

    #[tokio::test]
    async fn a_name_that_never_led_anywhere_is_an_error() {
        let (name, _) = name(vec![Some(Err("no such name")), Some(Ok(vec![])), None]);
        assert_eq!(name.addresses().await, Err(NameError::Failed("no such name".to_owned())));
        assert_eq!(name.addresses().await, Err(NameError::Empty));
        assert_eq!(name.addresses().await, Err(NameError::Slow));
    }

    #[tokio::test]
    async fn a_look_up_without_an_end_costs_a_second_once_and_is_not_the_last() {
        let (name, asked) = name(vec![Some(Ok(vec![at(1)])), None, Some(Ok(vec![at(2)]))]);
        let first = name.addresses().await.unwrap();
        name.led_to(at(1), first);
        let start = Instant::now();
        let (one, other) = tokio::join!(name.addresses(), name.addresses());
        assert_eq!((one, other), (Ok(vec![at(1)]), Ok(vec![at(1)])));
        assert!(start.elapsed() < LOOK_UP * 2);
        for _ in 0..100 {
            let quick = timeout(LOOK_UP / 2, name.addresses()).await;
            assert_eq!(quick.expect("who comes late does not wait"), Ok(vec![at(1)]));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        sleep((start + STUCK).saturating_duration_since(Instant::now())).await;
        assert_eq!(name.addresses().await, Ok(vec![at(2)]));
    }

    #[tokio::test]
    async fn the_systems_resolver() {
        for host in ["localhost", "127.0.0.1", "::1"] {
            let found = Name::new(system(host, 5432)).addresses().await.unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 5432), "{found:?}");
        }
        assert!(Name::new(system("nobody.invalid", 5432)).addresses().await.is_err());
    }
}
