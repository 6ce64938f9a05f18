//! The kernel's word on changed files. Folders are watched, not files: a file that is replaced is another file.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    time::Duration,
};

use muster_ids::ResourceId;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::{io::unix::AsyncFd, sync::mpsc::UnboundedSender};

use super::places::Places;

/// Content when it is complete, attributes, names that come and go.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Until a watch that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(30);

struct Watcher {
    kernel: AsyncFd<OwnedFd>,
    /// The folder of each watch, and whether it stands for one below it that is not there yet.
    folders: HashMap<i32, String>,
    /// Folders that are not there: the nearest one above each is watched for it.
    missing: BTreeMap<String, BTreeSet<String>>,
    places: Places,
}

/// Tells of every resource in `places` that may have changed, until nobody listens.
pub async fn watch(places: Places, tell: UnboundedSender<ResourceId>) {
    if places.is_empty() {
        return;
    }
    loop {
        match Watcher::new(places.clone()) {
            Ok(mut watcher) => {
                let Err(error) = watcher.run(&tell).await else { return };
                tracing::warn!(%error, "files are not watched for a while: only the timer finds what is changed by hand");
            }
            Err(error) => {
                tracing::warn!(%error, "files cannot be watched yet: only the timer finds what is changed by hand");
            }
        }
        tokio::time::sleep(AGAIN).await;
        // Whatever happened meanwhile was not heard.
        for id in places.values().flat_map(BTreeMap::values).flatten() {
            if tell.send(id.clone()).is_err() {
                return;
            }
        }
    }
}

impl Watcher {
    fn new(places: Places) -> io::Result<Self> {
        let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "an OwnedFd owns its descriptor, which is all that the successor's unsafe contract asks"
        )]
        let kernel = AsyncFd::try_new(kernel).map_err(io::Error::from)?;
        let mut watcher = Self { kernel, folders: HashMap::new(), missing: BTreeMap::new(), places };
        for folder in watcher.places.keys().cloned().collect::<Vec<_>>() {
            watcher.add(&folder)?;
        }
        Ok(watcher)
    }

    /// Watches the folder, or the nearest one above it that is there.
    fn add(&mut self, folder: &str) -> io::Result<()> {
        let mut nearest = folder;
        loop {
            match inotify::add_watch(self.kernel.get_ref(), nearest, CHANGES) {
                Ok(watch) => {
                    self.folders.insert(watch, nearest.to_owned());
                    if nearest != folder {
                        self.missing.entry(nearest.to_owned()).or_default().insert(folder.to_owned());
                    }
                    return Ok(());
                }
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::ACCESS)
                    if nearest != "/" =>
                {
                    nearest =
                        nearest.rsplit_once('/').map_or("/", |(above, _)| if above.is_empty() { "/" } else { above });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn run(&mut self, tell: &UnboundedSender<ResourceId>) -> io::Result<()> {
        loop {
            let mut changed = BTreeSet::new();
            let mut overflow = false;
            // Folders to look for again, one that came or went being among them.
            let mut again = BTreeSet::new();
            {
                let mut ready = self.kernel.readable().await?;
                let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
                let mut reader = inotify::Reader::new(self.kernel.get_ref(), &mut buffer);
                loop {
                    match reader.next() {
                        Ok(event) => {
                            let flags = event.events();
                            overflow |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
                            let Some(folder) = self.folders.get(&event.wd()) else { continue };
                            let name =
                                event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                            if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED) {
                                again.insert(folder.clone());
                            }
                            if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
                                && let Some(below) = self.missing.get(folder)
                            {
                                again.extend(below.iter().cloned());
                            }
                            let names = self.places.get(folder);
                            let of =
                                |name: &str| names.and_then(|names| names.get(name)).into_iter().flatten().cloned();
                            changed.extend(of(&name).chain(of("")));
                        }
                        Err(rustix::io::Errno::WOULDBLOCK) => break,
                        Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                    if reader.is_buffer_empty() && changed.len() > 4096 {
                        break;
                    }
                }
                ready.clear_ready();
            }
            if overflow {
                changed.extend(self.places.values().flat_map(BTreeMap::values).flatten().cloned());
            }
            for folder in again {
                self.appeared(&folder, &mut changed)?;
            }
            for id in changed {
                if tell.send(id).is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// A folder came, went or was replaced: all in it may be different, and it is another one to watch.
    fn appeared(&mut self, folder: &str, changed: &mut BTreeSet<ResourceId>) -> io::Result<()> {
        for waiting in self.missing.values_mut() {
            waiting.remove(folder);
        }
        if let Some(names) = self.places.get(folder) {
            changed.extend(names.values().flatten().cloned());
            self.add(folder)?;
        }
        Ok(())
    }
}
