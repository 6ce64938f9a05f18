//! dpkg and apt-get of this machine: told what to install, and first to finish what a killed run of theirs left half done.
//!
//! The state is read without root's rights, so that a user is asked for a password only where there is something to do.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::{Cmd, find};

/// How long another program may hold dpkg's lock, as the first start of a cloud's machine does.
const LOCK_WAIT: Duration = Duration::from_secs(120);
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// The programs, and where dpkg keeps the journal of a run that goes on.
pub struct Debian<'a> {
    /// Before each program's name: nothing, to look for it on the PATH, or a folder.
    programs: String,
    journal: PathBuf,
    as_root: fn(&str) -> Cmd,
    log: &'a Path,
}

impl<'a> Debian<'a> {
    pub fn this_machine(log: &'a Path) -> Self {
        Self { programs: String::new(), journal: "/var/lib/dpkg/updates".into(), as_root: Cmd::as_root, log }
    }

    fn name(&self, program: &str) -> String {
        format!("{}{program}", self.programs)
    }

    pub fn has_apt(&self) -> bool {
        find(&self.name("apt-get")).is_some()
    }

    /// Whether dpkg was killed in the middle of something. Where there is no dpkg, no.
    pub fn interrupted(&self) -> bool {
        let journal = std::fs::read_dir(&self.journal).is_ok_and(|mut entries| entries.next().is_some());
        // Not `dpkg --audit`, which also finds fault with packages that are old or carelessly made.
        let states = Cmd::new(self.name("dpkg-query")).args(["--show", "--showformat", "${Status}\\n"]).output();
        journal || states.is_ok_and(|states| states.lines().any(half_done))
    }

    /// Configures what was unpacked. What lacks its dependencies, or was half unpacked, is finished by apt.
    pub fn repair(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let configured = self
                .root("dpkg")
                .args(["--configure", "--pending", "--force-confdef", "--force-confold"])
                .output()
                .map(drop);
            if !self.interrupted() {
                return Ok(());
            }
            // apt waits for locks by itself, dpkg does not. The holder may well finish all that is half done.
            let locked = configured.is_err_and(|error| format!("{error:#}").contains(" locked by "));
            if !locked || began.elapsed() > LOCK_WAIT {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        self.apt_get()
            .args(["--fix-broken", "install", "--yes"])
            .log(self.log)
            .context("an installation of Debian packages was interrupted; `dpkg --audit` says which are half done")
    }

    pub fn install(&self, packages: &[&str]) -> Result<()> {
        self.apt_get().arg("update").log(self.log)?;
        self.apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages).log(self.log)
    }

    fn apt_get(&self) -> Cmd {
        self.root("apt-get").args(["-o", &format!("DPkg::Lock::Timeout={}", LOCK_WAIT.as_secs())])
    }

    fn root(&self, program: &str) -> Cmd {
        // Variables as arguments, for sudo drops the environment. Messages in English, for one of them is read.
        (self.as_root)("env").args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]).arg(self.name(program))
    }
}

/// Whether a package that is wanted is neither there nor absent, by dpkg's words for it: want, error flag, state.
fn half_done(status: &str) -> bool {
    let words: Vec<&str> = status.split(' ').collect();
    let [want, flag, state] = words[..] else { return false };
    matches!(want, "install" | "hold")
        && (flag != "ok" || !matches!(state, "installed" | "config-files" | "not-installed"))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A folder with programs that note their calls and do as dpkg does with the states that they are given.
    pub struct Machine {
        folder: tempfile::TempDir,
        log: PathBuf,
    }

    impl Machine {
        pub fn new(states: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let machine = Self { log: folder.path().join("log"), folder };
            std::fs::create_dir(machine.path("updates")).unwrap();
            machine.write("calls", "");
            machine.write("states", &format!("{}\n", states.join("\n")));
            machine.program("dpkg-query", "cat states");
            let note = r#"echo "${0##*/} $*" >>calls"#;
            machine.program("dpkg", &format!("{note}\nsed -i 's/half-configured/installed/' states\nrm -f updates/*"));
            machine.program("apt-get", &format!("{note}\nsed -i 's/half-installed/installed/' states"));
            machine
        }

        pub fn debian(&self) -> Debian<'_> {
            let programs = format!("{}/", self.folder.path().display());
            Debian { programs, journal: self.path("updates"), as_root: |program| Cmd::new(program), log: &self.log }
        }

        /// The command lines of `dpkg` and `apt-get`.
        pub fn calls(&self) -> Vec<String> {
            std::fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect()
        }

        pub fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn program(&self, name: &str, script: &str) {
            self.write("text", &format!("#!/bin/sh\nset -eu\ncd \"${{0%/*}}\"\n{script}\n"));
            // By another process: a program that is open for writing, in a child that another test starts, cannot run.
            Cmd::new("install").args(["-m", "755"]).arg(self.path("text")).arg(self.path(name)).output().unwrap();
        }
    }

    #[test]
    fn a_state_between_two_is_half_done() {
        for state in ["half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending"] {
            assert!(half_done(&format!("install ok {state}")), "{state}");
        }
        assert!(half_done("hold reinstreq installed"));
        for whole in
            ["install ok installed", "hold ok installed", "deinstall ok config-files", "install ok not-installed"]
        {
            assert!(!half_done(whole), "{whole}");
        }
    }

    #[test]
    fn what_dpkg_cannot_finish_apt_does() {
        let machine = Machine::new(&["install reinstreq half-installed"]);
        machine.program("apt-get", "echo \"${0##*/} $*\" >>calls\necho install ok installed >states");
        machine.debian().repair().unwrap();
        let calls = machine.calls();
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert_eq!(calls[1], "apt-get -o DPkg::Lock::Timeout=120 --fix-broken install --yes");
    }

    #[test]
    fn a_lock_is_waited_for() {
        let machine = Machine::new(&["install ok unpacked"]);
        // Whoever holds the lock finishes meanwhile.
        machine.program(
            "dpkg",
            "echo dpkg >>calls\nif [ $(wc -l <calls) = 2 ]; then echo install ok installed >states; fi\n\
             echo 'dpkg: error: dpkg frontend lock was locked by another process with pid 7' >&2\nexit 2",
        );
        machine.debian().repair().unwrap();
        assert_eq!(machine.calls(), ["dpkg", "dpkg"]);
    }
}
