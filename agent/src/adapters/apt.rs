//! apt and dpkg as programs. One transaction at a time; no service is started by it; a run of dpkg that was cut off is
//! finished first; what apt says is turned into errors that say what to do.

use std::{
    collections::BTreeMap,
    fs::File,
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::ports::{CommandError, Commands, Files, Installed, Invocation, Output, PackageError, Packages, Transaction};

/// Seconds that apt itself waits for another holder of its lock.
const LOCK_WAIT: u32 = 120;
const APT: Duration = Duration::from_secs(1800);
/// Held by apt, and by dpkg where it is called by itself, from the beginning to the end.
const LOCK: &str = "/var/lib/dpkg/lock-frontend";
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// 101: not allowed. What a package starts is for service resources to say, after its files are as written.
const POLICY_TEXT: &[u8] = b"#!/bin/sh\n# Written by muster while it installs packages.\nexit 101\n";

pub struct Apt {
    commands: Arc<dyn Commands>,
    files: Arc<dyn Files>,
    /// What dpkg knows, and the state of its database when it was asked.
    known: Mutex<Option<(Vec<u8>, Arc<BTreeMap<String, Installed>>)>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Apt {
    pub fn new(commands: Arc<dyn Commands>, files: Arc<dyn Files>) -> Self {
        Self { commands, files, known: Mutex::new(None), one_at_a_time: tokio::sync::Mutex::new(()) }
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

    fn apt_get(options: &[&str]) -> Invocation {
        let lock = format!("DPkg::Lock::Timeout={LOCK_WAIT}");
        let mut argv = vec![
            "apt-get",
            "--yes",
            "--quiet=2",
            "--no-install-recommends",
            "--option",
            &lock,
            "--option",
            "Dpkg::Options::=--force-confdef",
            "--option",
            "Dpkg::Options::=--force-confold",
            "--option",
            "Dpkg::Use-Pty=0",
            "--option",
            "APT::Get::AllowUnauthenticated=false",
        ];
        argv.extend(options);
        Invocation::new(argv)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("NEEDRESTART_SUSPEND", "1")
            .env("APT_LISTCHANGES_FRONTEND", "none")
            .timeout(APT)
    }

    async fn checked(&self, invocation: Invocation) -> Result<(), PackageError> {
        let program = invocation.program().to_owned();
        let output = self.run(invocation).await?;
        if output.success() { Ok(()) } else { Err(explain(&program, &output)) }
    }

    /// Finishes what a killed dpkg left half done; dpkg says itself when there is something.
    async fn repair(&self) -> Result<(), PackageError> {
        let audit = self.run(Invocation::new(["dpkg", "--audit"])).await?;
        let journal = self.files.list("/var/lib/dpkg/updates").ok().flatten().unwrap_or_default();
        if audit.success() && audit.stdout.is_empty() && journal.is_empty() {
            return Ok(());
        }
        tracing::info!("an interrupted run of dpkg is finished first");
        let configure = Invocation::new(["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .timeout(APT);
        match self.checked(configure).await {
            // What lacks its dependencies is finished by apt.
            Err(PackageError::Failed { .. }) => self.checked(Self::apt_get(&["--fix-broken", "install"])).await,
            other => other,
        }
    }

    /// Takes away the policy that a killed agent left, once the apt that outlived it has ended. In a plan, which cannot
    /// write, it stays.
    fn sweep(&self, lock: &Path) {
        // While a transaction of ours runs, the policy is its own.
        let Ok(_one) = self.one_at_a_time.try_lock() else { return };
        let left = self.files.read(POLICY).is_ok_and(|text| text.is_some_and(|text| text == POLICY_TEXT));
        if !left || is_held(lock) {
            return;
        }
        match self.files.remove(POLICY, false) {
            Ok(()) => tracing::info!("packages may start services again: an interrupted run had kept them from it"),
            Err(error) => tracing::debug!(%error, "the policy that keeps packages from starting services stays"),
        }
    }

    async fn hold(&self, names: &[String], word: &str) -> Result<(), PackageError> {
        if names.is_empty() {
            return Ok(());
        }
        let list: String = names.iter().map(|name| format!("{name} {word}\n")).collect();
        self.checked(Invocation::new(["dpkg", "--set-selections"]).stdin(list)).await
    }
}

/// Whether another process has this lock; true as well where that cannot be asked.
fn is_held(lock: &Path) -> bool {
    match File::open(lock) {
        Ok(file) => !matches!(fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)), Ok(None)),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Stops packages from starting services while it lives. A policy that somebody else wrote is left alone.
struct Quiet<'a> {
    files: &'a dyn Files,
    ours: bool,
}

impl<'a> Quiet<'a> {
    fn begin(files: &'a dyn Files) -> Result<Self, PackageError> {
        let failed = |error: crate::ports::FileError| match error.source.kind() {
            ErrorKind::StorageFull => PackageError::DiskFull,
            _other => PackageError::Failed { program: POLICY.to_owned(), tail: format!("{error}: {}", error.source) },
        };
        // Ours from a run that was killed is taken over.
        let there = files.read(POLICY).map_err(failed)?;
        let ours = there.is_none_or(|text| text == POLICY_TEXT);
        if ours {
            files.write(POLICY, POLICY_TEXT, 0o755, 0, 0).map_err(failed)?;
        }
        Ok(Self { files, ours })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = self.files.remove(POLICY, false)
        {
            tracing::warn!(%error, "the policy that keeps packages from starting services stays");
        }
    }
}

#[async_trait::async_trait]
impl Packages for Apt {
    async fn installed(&self) -> Result<Arc<BTreeMap<String, Installed>>, PackageError> {
        self.sweep(Path::new(LOCK));
        // The database's text is its own stamp: reading it costs less than starting dpkg-query to learn that nothing changed.
        let mut stamp = self
            .files
            .read("/var/lib/dpkg/status")
            .ok()
            .flatten()
            .map(|text| muster_ids::Digest::of(text).as_bytes().to_vec())
            .unwrap_or_default();
        for name in self.files.list("/var/lib/dpkg/updates").ok().flatten().unwrap_or_default() {
            stamp.extend_from_slice(name.as_bytes());
        }
        if let Some((then, known)) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && *then == stamp
        {
            return Ok(Arc::clone(known));
        }
        let format = "--showformat=${db:Status-Want} ${db:Status-Status} ${binary:Package} ${Version}\\n";
        let output = self.run(Invocation::new(["dpkg-query", "--show", format])).await?;
        if !output.success() {
            return Err(explain("dpkg-query", &output));
        }
        let known = Arc::new(parse(&output.stdout()));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, Arc::clone(&known)));
        Ok(known)
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), PackageError> {
        let _one = self.one_at_a_time.lock().await;
        let quiet = Quiet::begin(&*self.files)?;
        self.repair().await?;
        self.hold(&transaction.unhold, "install").await?;
        if !transaction.install.is_empty() || !transaction.remove.is_empty() {
            let wanted: Vec<String> = transaction
                .install
                .iter()
                .map(|(name, version)| match version {
                    Some(version) => format!("{name}={version}"),
                    None => name.clone(),
                })
                // A minus at the end removes in the same run.
                .chain(transaction.remove.iter().map(|name| format!("{name}-")))
                .collect();
            let mut options = vec!["--allow-downgrades", "--allow-change-held-packages", "install", "--"];
            options.extend(wanted.iter().map(String::as_str));
            self.checked(Self::apt_get(&options)).await?;
        }
        self.hold(&transaction.hold, "hold").await?;
        drop(quiet);
        Ok(())
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
        self.checked(Self::apt_get(&options)).await
    }
}

fn parse(text: &str) -> BTreeMap<String, Installed> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(want), Some(status), Some(name)) = (words.next(), words.next(), words.next()) else { continue };
        let version = words.next().unwrap_or_default();
        // Of the native architecture a name has no suffix; of another it has one, and is not what a site means.
        let name = name.strip_suffix(":any").unwrap_or(name);
        if status == "not-installed" {
            continue;
        }
        let version = if status == "config-files" { String::new() } else { version.to_owned() };
        let complete = matches!(status, "installed" | "triggers-awaited" | "triggers-pending");
        let package = Installed { version, complete, hold: want == "hold" };
        // Packages that may stand beside those of other architectures carry theirs even when it is the native one.
        let bare = name.split(':').next().unwrap_or(name);
        all.entry(bare.to_owned()).or_insert_with(|| package.clone());
        if bare != name {
            all.insert(name.to_owned(), package);
        }
    }
    all
}

/// What apt says, in words that lead on.
fn explain(program: &str, output: &Output) -> PackageError {
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stderr), output.stdout());
    let line = |needle: &str| text.lines().find(|line| line.contains(needle)).map(str::trim);
    let quoted = |line: &str| line.split('\'').nth(1).map(str::to_owned);
    if line("No space left on device").is_some() || line("You don't have enough free space").is_some() {
        return PackageError::DiskFull;
    }
    if let Some(line) = line("Could not get lock").or_else(|| line("is another process using it")) {
        return PackageError::Locked { holder: line.trim_start_matches("E: ").to_owned() };
    }
    if let Some(line) = line("E: Unable to locate package ") {
        let name = line.rsplit(' ').next().unwrap_or_default().to_owned();
        return PackageError::NotFound { name, version: None };
    }
    // E: Version '9.9' for 'kubelet' was not found
    if let Some(line) = text.lines().find(|line| line.starts_with("E: Version '") && line.contains("was not found")) {
        let mut parts = line.split('\'');
        let version = parts.nth(1).map(str::to_owned);
        let name = parts.nth(1).unwrap_or_default().to_owned();
        return PackageError::NotFound { name, version };
    }
    if let Some(line) = line("has no installation candidate") {
        return PackageError::NotFound { name: quoted(line).unwrap_or_default(), version: None };
    }
    let unsigned = line("is not signed").or_else(|| line("does not have a Release file"));
    let by_another = ["NO_PUBKEY", "signatures couldn't be verified", "signatures were invalid", "EXPKEYSIG"];
    if let Some(said) = by_another.iter().find_map(|needle| line(needle)) {
        let said = unsigned.unwrap_or(said);
        return PackageError::Unsigned { source_name: quoted(said).unwrap_or_else(|| address(said)) };
    }
    if let Some(said) = unsigned {
        return PackageError::NoSignature { source_name: quoted(said).unwrap_or_else(|| address(said)) };
    }
    // E: Failed to fetch http://host/pool/x_1_amd64.deb  Hash Sum mismatch
    let altered = ["Hash Sum mismatch", "File has unexpected size", "Writing more data than expected"];
    if let Some(said) = altered.iter().find_map(|needle| line(needle)) {
        let url = address(said);
        let file = url.rsplit('/').next().unwrap_or_default();
        let name = file.split('_').next().unwrap_or_default().replace("%2b", "+");
        return PackageError::Altered { url, name };
    }
    if let Some(line) = line("cannot be authenticated") {
        let after = text.split("cannot be authenticated!").nth(1).unwrap_or(line);
        let name = after.split_whitespace().next().unwrap_or_default().to_owned();
        return PackageError::Untrusted { name };
    }
    if line("unauthenticated packages").is_some() {
        return PackageError::Untrusted { name: "(see apt's output)".to_owned() };
    }
    for needle in [
        "Could not connect to",
        "Unable to connect to",
        "Could not resolve",
        "Connection failed",
        "Failed to fetch",
        "Connection timed out",
    ] {
        if let Some(line) = line(needle) {
            return PackageError::Unreachable {
                what: line.trim_start_matches("E: ").trim_start_matches("W: ").to_owned(),
            };
        }
    }
    PackageError::Failed { program: program.to_owned(), tail: output.tail(6).replace('\n', " | ") }
}

fn address(line: &str) -> String {
    line.split_whitespace().find(|word| word.contains("://")).unwrap_or("(see apt's output)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fake::{FakeCommands, FakeFiles};

    #[test]
    fn a_policy_that_a_killed_agent_left_goes_when_nobody_needs_it() {
        let files = Arc::new(FakeFiles::default());
        let apt = Apt::new(Arc::new(FakeCommands::default()), Arc::clone(&files) as _);
        let lock = tempfile::NamedTempFile::new().unwrap();
        let stays = |text: &str| {
            files.put(POLICY, text);
            apt.sweep(lock.path());
            files.text(POLICY).is_some()
        };
        let ours = String::from_utf8(POLICY_TEXT.to_vec()).unwrap();
        assert!(!stays(&ours));
        assert!(stays("#!/bin/sh\nexit 101\n"), "somebody else's");
        let transaction = apt.one_at_a_time.try_lock().unwrap();
        assert!(stays(&ours));
        drop(transaction);
        assert!(!stays(&ours));
    }

    #[test]
    fn a_lock_that_cannot_be_asked_for_counts_as_held() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        assert!(!is_held(&lock), "no dpkg was here yet");
        std::fs::write(&lock, "").unwrap();
        assert!(!is_held(&lock));
        assert!(is_held(&lock.join("below-a-file")));
    }

    fn said(stderr: &str) -> PackageError {
        explain("apt-get", &Output { status: 100, stdout: Vec::new(), stderr: stderr.into() })
    }

    #[test]
    fn dpkg_lines_become_packages() {
        let all = parse(
            "install installed bash 5.2\nhold installed libc6:amd64 2.36-9\ndeinstall config-files nginx 1.2\ninstall half-configured x 1\n",
        );
        assert_eq!(all["bash"], Installed { version: "5.2".into(), complete: true, hold: false });
        assert!(all["libc6"].hold && all["libc6:amd64"].hold);
        assert_eq!(all["nginx"].version, "");
        assert!(!all["x"].complete);
    }

    #[test]
    fn apt_is_understood() {
        let name = |name: &str, version: Option<&str>| PackageError::NotFound {
            name: name.into(),
            version: version.map(Into::into),
        };
        assert_eq!(said("E: Unable to locate package nosuch"), name("nosuch", None));
        assert_eq!(said("E: Version '9.9' for 'bash' was not found"), name("bash", Some("9.9")));
        assert_eq!(said("E: Package 'x' has no installation candidate"), name("x", None));
        assert_eq!(
            said("E: The repository 'http://10.89.0.3/debian muster InRelease' is not signed."),
            PackageError::NoSignature { source_name: "http://10.89.0.3/debian muster InRelease".into() }
        );
        assert_eq!(
            said(
                "W: GPG error: http://h/debian muster InRelease: The following signatures couldn't be verified because \
                  the public key is not available: NO_PUBKEY 1\nE: The repository 'http://h/debian muster InRelease' is \
                  not signed."
            ),
            PackageError::Unsigned { source_name: "http://h/debian muster InRelease".into() }
        );
        assert_eq!(
            said("E: Failed to fetch http://h/pool/g%2b%2b_1%2b2_amd64.deb  Hash Sum mismatch"),
            PackageError::Altered { url: "http://h/pool/g%2b%2b_1%2b2_amd64.deb".into(), name: "g++".into() }
        );
        assert_eq!(said("dpkg: error: writing to '/x': No space left on device"), PackageError::DiskFull);
        assert!(matches!(
            said("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)"),
            PackageError::Locked { .. }
        ));
        assert!(matches!(
            said("W: Failed to fetch http://a/b  Could not connect to a:80"),
            PackageError::Unreachable { .. }
        ));
        assert!(matches!(said("E: something new"), PackageError::Failed { .. }));
    }
}
