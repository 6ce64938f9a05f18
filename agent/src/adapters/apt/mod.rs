//! apt and dpkg as programs. One transaction at a time; no service is started by it; a run of dpkg that was cut off is
//! finished first; what apt says is turned into errors that say what to do.

mod explain;
mod holds;
mod known;
mod policy;
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use muster_ids::Digest;
use muster_plan::kinds::package::transaction::{Deed, Move};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use tokio::time::Instant;

use self::{
    explain::explain,
    policy::{BEGINS, OWED, POLICY, Quiet},
};
use crate::ports::{
    CommandError, Commands, Files, Invocation, Known, Output, Owed, PackageError, Packages, Transaction,
};

/// How long another holder of a lock is waited for; apt itself waits as long for dpkg's.
const LOCK_WAIT: Duration = Duration::from_secs(120);
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
const APT: Duration = Duration::from_secs(1800);
/// Held by apt, and by dpkg where it is called by itself, from the beginning to the end.
const LOCK: &str = "/var/lib/dpkg/lock-frontend";
const STATUS: &str = "/var/lib/dpkg/status";
/// dpkg's journal: what is not in its status yet.
const JOURNAL: &str = "/var/lib/dpkg/updates";
/// Files are as the site wants them, whatever a package brings.
const KEEP: [&str; 2] = ["--force-confdef", "--force-confold"];
/// What the node's own apt.conf may say otherwise of, and a run of ours counts on: that configuration stays when a package
/// goes, that nothing goes that nobody asked for, and that all of it is done. Arguments that follow count before these.
const AS_WE_COUNT_ON: [&str; 12] = [
    "APT::Get::Purge=false",
    "APT::Get::AutomaticRemove=false",
    "APT::Get::Remove=true",
    "APT::Get::Upgrade=true",
    "APT::Get::Only-Upgrade=false",
    "APT::Get::ReInstall=false",
    "APT::Get::Simulate=false",
    "APT::Get::Download=true",
    "APT::Get::Download-Only=false",
    "APT::Get::Trivial-Only=false",
    "APT::Get::Print-URIs=false",
    "APT::Get::Assume-No=false",
];

/// Something read from the node, and the state that it was read in.
struct Stamped<T> {
    stamp: Digest,
    value: Arc<T>,
}

type Candidates = BTreeMap<String, String>;

pub struct Apt {
    commands: Arc<dyn Commands>,
    files: Arc<dyn Files>,
    known: Mutex<Option<Stamped<Known>>>,
    candidates: Mutex<Option<Stamped<Candidates>>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Apt {
    pub fn new(commands: Arc<dyn Commands>, files: Arc<dyn Files>) -> Self {
        let one_at_a_time = tokio::sync::Mutex::new(());
        Self { commands, files, known: Mutex::new(None), candidates: Mutex::new(None), one_at_a_time }
    }

    async fn run(&self, invocation: Invocation) -> Result<Output, PackageError> {
        let program = invocation.program().to_owned();
        self.commands.run(invocation).await.map_err(|error| match error {
            CommandError::NotFound { .. } => PackageError::NoApt,
            CommandError::Start { .. } | CommandError::TimedOut { .. } | CommandError::NoSandbox { .. } => {
                PackageError::Failed { program, tail: error.to_string() }
            }
        })
    }

    /// What came out where it went well. Whoever holds a lock is waited for.
    async fn checked(&self, invocation: Invocation) -> Result<Output, PackageError> {
        let until = Instant::now() + LOCK_WAIT;
        loop {
            let output = self.run(invocation.clone()).await?;
            if output.success() {
                return Ok(output);
            }
            match explain(invocation.program(), &output) {
                PackageError::Locked { .. } if Instant::now() < until => tokio::time::sleep(LOCK_PAUSE).await,
                error => return Err(error),
            }
        }
    }

    /// The same without write access. An index cache of apt's that is not current cannot be renewed then: it goes without.
    async fn look(&self, run: Invocation) -> Result<Output, PackageError> {
        let run = run.read_only().scratch();
        match self.checked(run.clone()).await {
            Err(PackageError::Failed { tail, .. }) if tail.contains("pkgcache.bin") => {
                let mut argv = run.argv.clone();
                let without = ["--option", "Dir::Cache::pkgcache=", "--option", "Dir::Cache::srcpkgcache="];
                argv.splice(1..1, without.map(str::to_owned));
                self.checked(Invocation { argv, ..run }).await
            }
            other => other,
        }
    }

    fn apt_get(quiet: &str, options: &[&str]) -> Invocation {
        let lock = format!("DPkg::Lock::Timeout={}", LOCK_WAIT.as_secs());
        let mut argv = vec!["apt-get", "--yes", quiet, "--no-install-recommends", "--option", &lock];
        let keep = KEEP.map(|word| format!("Dpkg::Options::={word}"));
        argv.extend(keep.iter().flat_map(|word| ["--option", word.as_str()]));
        argv.extend(["--option", "Dpkg::Use-Pty=0", "--option", "APT::Get::AllowUnauthenticated=false"]);
        // A name with a dot that no package has would be a pattern for others.
        argv.extend(["--option", "APT::Cmd::Pattern-Only=true"]);
        argv.extend(AS_WE_COUNT_ON.iter().flat_map(|option| ["--option", option]));
        argv.extend(options);
        Invocation::new(argv)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("NEEDRESTART_SUSPEND", "1")
            .env("APT_LISTCHANGES_FRONTEND", "none")
            .timeout(APT)
    }

    /// The same for a simulation as for the real run.
    fn install(transaction: &Transaction) -> Vec<String> {
        let words = ["--allow-downgrades", "--allow-change-held-packages", "install", "--"];
        let install = transaction.install.iter().map(|(name, version)| match version {
            Some(version) => format!("{name}={version}"),
            None => name.clone(),
        });
        // A minus at the end removes in the same run.
        let remove = transaction.remove.iter().map(|name| format!("{name}-"));
        words.map(str::to_owned).into_iter().chain(install).chain(remove).collect()
    }

    /// What `apt-get` with these arguments would do, and all that it said.
    async fn foresee(&self, arguments: &[&str]) -> Result<(Vec<Move>, String), PackageError> {
        let mut options = vec!["--simulate"];
        options.extend(arguments);
        // In full, but without its progress: what it takes in the place of a name stands only there.
        let text = self.look(Self::apt_get("--quiet=0", &options)).await?.stdout().replace('\r', "\n");
        Ok((simulation::parse(&text), text))
    }

    /// Takes away the policy that a killed agent left, once the apt that outlived it has ended, and sets the holds that it
    /// owed. In a plan, which cannot write, they stay.
    async fn sweep(&self, lock: &Path) {
        // While a transaction of ours runs, both are its own.
        let Ok(_one) = self.one_at_a_time.try_lock() else { return };
        let left = self.files.read(POLICY).is_ok_and(|text| text.is_some_and(|text| text.starts_with(BEGINS)));
        let holds = self.owed_holds();
        if (!left && holds.is_empty()) || is_held(lock) {
            return;
        }
        if left {
            match self.files.remove(POLICY, false) {
                Ok(()) => tracing::info!("packages may start services again: an interrupted run had kept them from it"),
                Err(error) => tracing::debug!(%error, "the policy that keeps packages from starting services stays"),
            }
        }
        if !holds.is_empty()
            && let Err(error) = self.pay_holds(&holds).await
        {
            tracing::debug!(%error, "holds that an interrupted run took away are not set yet");
        }
    }

    fn stamp(&self) -> Digest {
        // The database's text is its own stamp: reading it costs less than starting dpkg-query to learn that nothing changed.
        let mut stamp = self.files.read(STATUS).ok().flatten().unwrap_or_default();
        for name in self.files.list(JOURNAL).ok().flatten().unwrap_or_default() {
            stamp.extend_from_slice(name.as_bytes());
        }
        Digest::of(stamp)
    }

    /// Of all that decides what the newest version of a package is: sources, preferences, indexes, what is installed.
    fn index_stamp(&self, names: &BTreeSet<String>) -> Digest {
        let mut stamp = self.stamp().as_bytes().to_vec();
        names.iter().for_each(|name| stamp.extend_from_slice(name.as_bytes()));
        let mut add = |path: &str, content: bool| {
            stamp.extend_from_slice(path.as_bytes());
            let text = if content { self.files.read(path).ok().flatten() } else { None };
            match text {
                Some(text) => stamp.extend_from_slice(Digest::of(text).as_bytes()),
                None => {
                    let size = self.files.stat(path).ok().flatten().map_or(0, |stat| stat.size);
                    stamp.extend_from_slice(&size.to_le_bytes());
                }
            }
        };
        let below = |folder: &str| {
            let names = self.files.list(folder).ok().flatten().unwrap_or_default();
            names.into_iter().map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
        };
        for path in ["/etc/apt", "/etc/apt/sources.list.d", "/etc/apt/preferences.d", "/etc/apt/apt.conf.d"] {
            below(path).iter().for_each(|path| add(path, true));
        }
        // What is signed names the digests of the rest, which is large.
        below("/var/lib/apt/lists").iter().for_each(|path| add(path, path.ends_with("Release")));
        Digest::of(stamp)
    }

    /// The versions that the indexes have of a package, where they have any.
    async fn versions(&self, name: &str) -> Vec<String> {
        let run = Invocation::new(["apt-cache", "madison", name]);
        let Ok(output) = self.look(run).await else { return Vec::new() };
        let mut versions: Vec<String> = Vec::new();
        for version in output.stdout().lines().filter_map(|line| line.split('|').nth(1)) {
            let version = version.trim().to_owned();
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions.truncate(6);
        versions
    }

    /// Which versions there are, where one is asked for that is not.
    async fn with_versions(&self, error: PackageError) -> PackageError {
        let PackageError::NotFound { name, version: Some(version) } = error else { return error };
        let has = self.versions(&name).await;
        if has.is_empty() {
            return PackageError::NotFound { name, version: Some(version) };
        }
        PackageError::NoSuchVersion { name, version, has }
    }

    /// Configures what is half installed, and lets apt mend what lacks its dependencies where it removes nothing for that.
    async fn mend(&self, except: &BTreeSet<String>) -> Result<(), PackageError> {
        self.take_in_the_journal().await?;
        let known = self.read_known().await?;
        let half = known.packages.iter().filter(|(name, package)| {
            let next = except.iter().any(|except| known.name(except) == name.as_str());
            !package.complete && !package.version.is_empty() && !next
        });
        let names: Vec<String> = half.map(|(name, _)| name.clone()).collect();
        if !names.is_empty() && forgiven(self.configure(&names).await)?.is_none() && names.len() > 1 {
            // One may have ended dpkg itself: it is to keep none of the others.
            for name in &names {
                self.take_in_the_journal().await?;
                forgiven(self.configure(std::slice::from_ref(name)).await)?;
            }
        }
        self.take_in_the_journal().await?;
        let fix = ["--fix-broken", "install"];
        let broken = match self.foresee(&fix).await {
            Ok((moves, _)) => moves.iter().any(|step| step.deed != Deed::Finish || step.from.is_some()),
            Err(error) => return forgiven(Err(error)).map(drop),
        };
        if broken {
            let fix = Self::apt_get("--quiet=2", &["--no-remove", "--fix-broken", "install"]);
            forgiven(self.checked(fix).await.map(drop))?;
        }
        self.take_in_the_journal().await
    }

    async fn configure(&self, names: &[String]) -> Result<(), PackageError> {
        let argv = ["dpkg", "--configure"].into_iter().chain(KEEP).map(str::to_owned).chain(names.iter().cloned());
        let configure = Invocation::new(argv).env("DEBIAN_FRONTEND", "noninteractive").timeout(APT);
        self.checked(configure).await.map(drop)
    }

    /// What a dpkg that was cut off had not written into its status. Any run that may write does that; apt refuses to run
    /// before.
    async fn take_in_the_journal(&self) -> Result<(), PackageError> {
        if self.files.list(JOURNAL).ok().flatten().unwrap_or_default().is_empty() {
            return Ok(());
        }
        self.checked(Invocation::new(["dpkg", "--set-selections"])).await.map(drop)
    }

    async fn read_known(&self) -> Result<Arc<Known>, PackageError> {
        let stamp = self.stamp();
        if let Some(known) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && known.stamp == stamp
        {
            return Ok(Arc::clone(&known.value));
        }
        let output = self.run(Invocation::new(["dpkg-query", "--show", known::FORMAT])).await?;
        if !output.success() {
            return Err(explain("dpkg-query", &output));
        }
        let value = Arc::new(known::parse(&output.stdout()));
        let stamped = Stamped { stamp, value: Arc::clone(&value) };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamped);
        Ok(value)
    }
}

/// A package that does not come right is its own affair; what keeps apt from working is everyone's. None: it did not.
fn forgiven(result: Result<(), PackageError>) -> Result<Option<()>, PackageError> {
    match result {
        Err(error @ (PackageError::Locked { .. } | PackageError::DiskFull | PackageError::NoApt)) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "an interrupted run of dpkg cannot be finished whole");
            Ok(None)
        }
        Ok(()) => Ok(Some(())),
    }
}

/// Whether another process has this lock; true as well where that cannot be asked.
fn is_held(lock: &Path) -> bool {
    match File::open(lock) {
        Ok(file) => !matches!(fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)), Ok(None)),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

#[async_trait::async_trait]
impl Packages for Apt {
    async fn installed(&self) -> Result<Arc<Known>, PackageError> {
        self.sweep(Path::new(LOCK)).await;
        self.read_known().await
    }

    async fn candidates(&self, names: &BTreeSet<String>) -> Result<Arc<Candidates>, PackageError> {
        let stamp = self.index_stamp(names);
        if let Some(known) = &*self.candidates.lock().unwrap_or_else(PoisonError::into_inner)
            && known.stamp == stamp
        {
            return Ok(Arc::clone(&known.value));
        }
        let known = self.read_known().await?;
        let argv = ["apt-cache", "policy"].into_iter().chain(names.iter().map(String::as_str));
        let output = self.look(Invocation::new(argv)).await?;
        let (mut all, mut name) = (Candidates::new(), "");
        let text = output.stdout();
        for line in text.lines() {
            if let Some(title) = line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
                name = known.name(title);
            } else if let Some(version) = line.trim().strip_prefix("Candidate: ").filter(|version| *version != "(none)")
            {
                // By every name that it was asked for.
                let asked = names.iter().filter(|asked| known.name(asked) == name);
                all.extend(asked.map(|asked| (asked.clone(), version.to_owned())));
            }
        }
        let value = Arc::new(all);
        let stamped = Stamped { stamp, value: Arc::clone(&value) };
        *self.candidates.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamped);
        Ok(value)
    }

    async fn simulate(&self, transaction: &Transaction) -> Result<Vec<Move>, PackageError> {
        let known = self.read_known().await?;
        let arguments = Self::install(transaction);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match self.foresee(&arguments).await {
            Ok((moves, text)) => simulation::by_name(&text, &moves, &known, transaction).map(|()| moves),
            Err(error) => Err(self.with_versions(error).await),
        }
    }

    async fn finish(&self, except: &BTreeSet<String>) -> Result<(), PackageError> {
        let _one = self.one_at_a_time.lock().await;
        let audit = self.run(Invocation::new(["dpkg", "--audit"])).await?;
        let journal = self.files.list(JOURNAL).ok().flatten().unwrap_or_default();
        if audit.success() && audit.stdout.is_empty() && journal.is_empty() {
            return Ok(());
        }
        tracing::info!("an interrupted run of dpkg is finished first");
        let quiet = Quiet::begin(&*self.files, &BTreeSet::new())?;
        let mended = self.mend(except).await;
        drop(quiet);
        mended
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), PackageError> {
        let _one = self.one_at_a_time.lock().await;
        self.mark(&transaction.unhold, "install").await?;
        if !transaction.changes_packages() {
            return self.mark(&transaction.hold, "hold").await;
        }
        let quiet = Quiet::begin(&*self.files, &transaction.goes)?;
        self.owe_holds(&transaction.hold)?;
        let mut arguments = Self::install(transaction);
        if transaction.goes.is_empty() {
            arguments.insert(0, "--no-remove".to_owned());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let done = self.checked(Self::apt_get("--quiet=2", &arguments)).await;
        // What ended dpkg itself in the middle is to keep no other package from being finished.
        if let Err(PackageError::Failed { tail, .. }) = &done
            && tail.contains("Sub-process")
            && let Err(error) = self.mend(&BTreeSet::new()).await
        {
            tracing::debug!(%error, "a dpkg that was cut off is not finished yet");
        }
        // However it ended: what it changed has lost its hold.
        let held = self.pay_holds(&transaction.hold).await;
        drop(quiet);
        match done {
            Ok(_) => held,
            Err(error) => Err(self.with_versions(error).await),
        }
    }

    async fn update(&self, source: Option<&str>) -> Result<(), PackageError> {
        let _one = self.one_at_a_time.lock().await;
        let (list, parts);
        let mut options = vec!["--error-on=any"];
        if let Some(source) = source {
            // Only this source is read, and the indexes of the others stay.
            list = format!("Dir::Etc::SourceList=sources.list.d/{source}.sources");
            parts = "Dir::Etc::SourceParts=-".to_owned();
            options.extend(["--option", &list, "--option", &parts, "--option", "APT::Get::List-Cleanup=0"]);
        }
        options.push("update");
        self.checked(Self::apt_get("--quiet=2", &options)).await.map(drop)
    }

    async fn owed(&self) -> Vec<Owed> {
        let text = self.files.read(OWED).ok().flatten().unwrap_or_default();
        let denied = policy::denied(&String::from_utf8_lossy(&text));
        if text.is_empty() {
            return Vec::new();
        }
        let units: BTreeSet<&str> = denied.iter().map(|one| one.unit.as_str()).collect();
        let argv = ["systemctl", "show", "--property=Id,Names,InvocationID,ActiveState", "--"];
        let shown = if units.is_empty() {
            String::new()
        } else {
            match self.run(Invocation::new(argv.into_iter().chain(units))).await {
                Ok(output) if output.success() => output.stdout(),
                Ok(_) | Err(_) => return Vec::new(),
            }
        };
        let owed = policy::still_owed(&denied, &shown);
        // While apt runs more may come.
        if owed.is_empty() && self.one_at_a_time.try_lock().is_ok() && !is_held(Path::new(LOCK)) {
            let _ = self.files.remove(OWED, false);
        }
        owed
    }

    fn units(&self, name: &str) -> Vec<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|known| known::units(&*self.files, &known.value, name)).unwrap_or_default()
    }
}
