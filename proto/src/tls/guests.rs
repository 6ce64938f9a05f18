//! Connections that have proven nothing: those in their handshake, those that showed no certificate, those of plain HTTP. Of
//! each sort they are limited in number, so that whoever opens thousands and says nothing keeps no agent out.
//!
//! A newcomer is never refused: the oldest goes for it, of its own address where that holds its share, else of all. One that
//! is served goes on in milliseconds and is rarely the oldest; one that waits for nothing is, soon. Among all addresses
//! nobody is cut within [`Places::settling`]: where a whole fleet comes back at once, newcomers wait in the kernel's queue instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub all: usize,
    /// Of one IPv4 address, or one /64 of IPv6.
    pub each: usize,
    /// A handshake takes milliseconds: this is much for one, and short for who waits behind it.
    pub settling: Duration,
}

/// Each costs some ten KiB.
pub const PLACES: Places = Places { all: 2048, each: 256, settling: Duration::from_millis(500) };

/// All of them.
pub struct Guests {
    places: Places,
    book: Mutex<Book>,
    left: Notify,
}

#[derive(Default)]
struct Book {
    last: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, Guest>,
    by_origin: BTreeMap<IpAddr, BTreeSet<u64>>,
}

struct Guest {
    origin: IpAddr,
    since: Instant,
    cut: CancellationToken,
}

/// A place, until it is dropped.
pub struct Place {
    guests: Arc<Guests>,
    number: u64,
    cut: CancellationToken,
}

impl Guests {
    pub fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { places, book: Mutex::default(), left: Notify::new() })
    }

    /// A place for a connection from this address, as soon as there may be one.
    pub async fn admit(self: &Arc<Self>, address: IpAddr) -> Place {
        let origin = origin(address);
        loop {
            let left = self.left.notified();
            let settled = match self.room(origin) {
                Ok((number, cut)) => return Place { guests: self.clone(), number, cut },
                Err(settled) => settled,
            };
            tokio::select! {
                () = left => {}
                () = sleep_until(settled) => {}
            }
        }
    }

    /// Makes room and takes it, or says when the oldest may be cut.
    fn room(&self, origin: IpAddr) -> Result<(u64, CancellationToken), Instant> {
        let mut book = self.book();
        let now = Instant::now();
        let own = book.by_origin.get(&origin).filter(|own| own.len() >= self.places.each);
        if let Some(oldest) = own.and_then(BTreeSet::first).copied() {
            book.cut(oldest);
        } else if book.all.len() >= self.places.all
            && let Some((oldest, guest)) = book.all.first_key_value()
        {
            let (oldest, settled) = (*oldest, guest.since + self.places.settling);
            if now < settled {
                return Err(settled);
            }
            book.cut(oldest);
        }
        book.last += 1;
        let (number, cut) = (book.last, CancellationToken::new());
        book.all.insert(number, Guest { origin, since: now, cut: cut.clone() });
        book.by_origin.entry(origin).or_default().insert(number);
        Ok((number, cut))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn cut(&mut self, number: u64) {
        if let Some(guest) = self.remove(number) {
            guest.cut.cancel();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Guest> {
        let guest = self.all.remove(&number)?;
        if let Some(own) = self.by_origin.get_mut(&guest.origin) {
            own.remove(&number);
            if own.is_empty() {
                self.by_origin.remove(&guest.origin);
            }
        }
        Some(guest)
    }
}

impl Place {
    /// Returns when the place went to another.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + 'static {
        self.cut.clone().cancelled_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.book().remove(self.number);
        self.guests.left.notify_one();
    }
}

/// Whom an address counts for: who has one of IPv6 has a /64 of them.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    /// Long for a machine that has much to do, and no long wait.
    const SETTLING: Duration = Duration::from_millis(400);

    fn guests(all: usize, each: usize) -> Arc<Guests> {
        Guests::new(Places { all, each, settling: SETTLING })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 89, 1, last])
    }

    #[tokio::test]
    async fn the_oldest_of_an_address_that_has_its_share_goes_for_a_newcomer() {
        let guests = guests(9, 2);
        let other = guests.admit(address(2)).await;
        let (first, second) = (guests.admit(address(1)).await, guests.admit(address(1)).await);
        let third = guests.admit(address(1)).await;
        first.cut().await;
        assert!(!second.cut.is_cancelled() && !other.cut.is_cancelled());
        // One that left made room.
        drop(second);
        let _fourth = guests.admit(address(1)).await;
        assert!(!third.cut.is_cancelled());
    }

    #[tokio::test]
    async fn of_all_addresses_the_oldest_goes_once_it_had_time() {
        let guests = guests(2, 2);
        let (first, second) = (guests.admit(address(1)).await, guests.admit(address(2)).await);
        let wait = timeout(SETTLING / 4, guests.admit(address(3))).await;
        assert!(wait.is_err() && !first.cut.is_cancelled(), "a handshake is not cut for the next");
        sleep(SETTLING).await;
        let third = guests.admit(address(3)).await;
        assert!(first.cut.is_cancelled() && !second.cut.is_cancelled());
        // Who waits comes in as soon as somebody leaves.
        drop((second, third));
        let (_one, two) = (guests.admit(address(4)).await, guests.admit(address(5)).await);
        let waits = tokio::spawn({
            let guests = guests.clone();
            async move { guests.admit(address(6)).await }
        });
        drop(two);
        assert!(timeout(SETTLING / 4, waits).await.is_ok());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_a_mapped_address_as_its_own() {
        let origin = |text: &str| origin(text.parse().unwrap());
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:3:4:5:6"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:10.89.1.4"), origin("10.89.1.4"));
    }
}
