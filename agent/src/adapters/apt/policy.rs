//! `policy-rc.d` while apt runs: what a package may do to services.
//!
//! Nothing is started or restarted: files may not be as written yet, and a restart may need a turn. What is removed stops.
//! What runs and was to be restarted is written down with the run that it is in (systemd's invocation), on a file system that a
//! boot empties: the restart is owed for as long as that very run goes on.
//!
//! Who asks: `invoke-rc.d` with `[--quiet] NAME ACTION [RUNLEVEL]`, where the action stands in brackets outside of its
//! runlevels; `deb-systemd-invoke` with `UNIT ACTION`, which asks for its units one by one and gives up at the first that
//! may not, so that all units of its own arguments count.

use std::{collections::BTreeSet, io::ErrorKind};

use crate::ports::{FileError, Files, Owed, PackageError};

pub const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Where restarts that were not allowed are written down, a line each.
pub const OWED: &str = "/run/muster-agent-owed";
/// How every policy of ours begins, those of earlier versions too.
pub const BEGINS: &[u8] = b"#!/bin/sh\n# Written by muster while it installs packages.\n";

/// `goes` are the packages that this run removes.
fn script(goes: &BTreeSet<String>) -> Vec<u8> {
    let goes: Vec<&str> = goes.iter().map(|name| name.split(':').next().unwrap_or(name)).collect();
    let mut text = BEGINS.to_vec();
    text.extend_from_slice(format!("goes=' {} '\nowed={OWED}\n", goes.join(" ")).as_bytes());
    text.extend_from_slice(include_bytes!("policy-rc.d"));
    text
}

/// Keeps packages from starting services while it lives. A policy that somebody else wrote is left alone.
pub struct Quiet<'a> {
    files: &'a dyn Files,
    ours: bool,
}

impl<'a> Quiet<'a> {
    pub fn begin(files: &'a dyn Files, goes: &BTreeSet<String>) -> Result<Self, PackageError> {
        let failed = |error: FileError| match error.source.kind() {
            ErrorKind::StorageFull => PackageError::DiskFull,
            _other => PackageError::Failed { program: POLICY.to_owned(), tail: format!("{error}: {}", error.source) },
        };
        // Ours from a run that was killed is taken over.
        let there = files.read(POLICY).map_err(failed)?;
        let ours = there.is_none_or(|text| text.starts_with(BEGINS));
        if ours {
            files.write(POLICY, &script(goes), 0o755, 0, 0).map_err(failed)?;
        } else {
            tracing::info!("{POLICY} is somebody else's: it decides what packages do to services");
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

/// One line of [`OWED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub unit: String,
    /// Of the run that went on.
    pub invocation: String,
    pub package: String,
}

/// Lines as the policy writes them: `PACKAGE Id=… InvocationID=… ActiveState=…`, in systemd's order of properties.
pub fn denied(text: &str) -> Vec<Denied> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let package = words.next()?.to_owned();
        let words: Vec<&str> = words.collect();
        let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        let (unit, invocation) = (value("Id=")?, value("InvocationID=")?);
        // An agent that restarts itself ends in the middle of its own converge.
        let whole = !unit.is_empty() && !invocation.is_empty() && unit != "muster-agent.service";
        whole.then_some(Denied { unit, invocation, package })
    };
    text.lines().filter_map(one).collect()
}

/// Those whose run goes on. `shown` is systemd's answer: a block of properties for each unit.
pub fn still_owed(denied: &[Denied], shown: &str) -> Vec<Owed> {
    let mut owed: Vec<Owed> = Vec::new();
    for block in shown.split("\n\n") {
        let value = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let (id, invocation) = (value("Id="), value("InvocationID="));
        let runs = matches!(value("ActiveState="), "active" | "activating" | "reloading");
        let since = denied.iter().find(|one| one.unit == id && one.invocation == invocation);
        if let Some(one) = since.filter(|_| runs && owed.iter().all(|owed| owed.units[0] != id)) {
            let mut units = vec![id.to_owned()];
            units.extend(value("Names=").split(' ').filter(|name| *name != id && !name.is_empty()).map(str::to_owned));
            owed.push(Owed { units, package: one.package.clone() });
        }
    }
    owed
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    /// The policy with a systemctl that knows `run.service` (running) and `dead.service`, and what came out: status and lines.
    fn ask(arguments: &[&str], package: &str, by: Option<&[&str]>) -> (i32, String) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let put = |name: &str, text: &[u8]| {
            // By another process: what this one has open for writing no thread of it could run.
            let mut install = Command::new("install");
            let mut install =
                install.args(["-m", "755", "/dev/stdin"]).arg(at(name)).stdin(Stdio::piped()).spawn().unwrap();
            install.stdin.take().unwrap().write_all(text).unwrap();
            assert!(install.wait().unwrap().success());
        };
        put(
            "systemctl",
            b"#!/bin/sh\nfor unit; do :; done\ncase $unit in *.*) ;; *) unit=$unit.service ;; esac\n\
              case $unit in run*) s=active ;; *) s=inactive ;; esac\ncase $unit in *reload*) r=yes ;; *) r=no ;; esac\n\
              printf 'Id=%s\\nActiveState=%s\\nCanReload=%s\\nInvocationID=abc\\n' $unit $s $r\n",
        );
        let goes = ["gone".to_owned(), "other:i386".to_owned()].into();
        let text = String::from_utf8(script(&goes)).unwrap();
        let text = text.replace(OWED, &at("owed").to_string_lossy()).replace("/run/systemd/system", "/");
        put("policy", text.as_bytes());
        let policy = at("policy").to_string_lossy().into_owned();
        let mut command = match by {
            None => {
                let mut command = Command::new(&policy);
                command.args(arguments);
                command
            }
            // As a program of this name that runs it through a shell.
            Some(argv) => {
                put("deb-systemd-invoke", format!("#!/bin/sh\n{policy} {}\nexit $?\n", arguments.join(" ")).as_bytes());
                let mut command = Command::new(at("deb-systemd-invoke"));
                command.args(argv);
                command
            }
        };
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let status = command
            .env_clear()
            .env("PATH", path)
            .env("DPKG_MAINTSCRIPT_PACKAGE", package)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        let owed = std::fs::read_to_string(at("owed")).unwrap_or_default();
        let units: Vec<_> = denied(&owed).into_iter().map(|one| format!("{} {}", one.unit, one.package)).collect();
        (status.code().unwrap(), units.join(", "))
    }

    #[test]
    fn nothing_starts_and_what_ran_is_owed_a_restart() {
        let said = |text: &str| text.to_owned();
        assert_eq!(ask(&["dead.service", "start"], "x", None), (101, said("")));
        assert_eq!(ask(&["run.service", "start"], "x", None), (101, said("")), "it runs: nothing to do");
        assert_eq!(ask(&["run.service", "restart"], "x", None), (101, said("run.service x")));
        assert_eq!(ask(&["dead.service", "restart"], "x", None), (101, said("")));
        assert_eq!(ask(&["--quiet", "run", "restart", "5"], "x", None), (101, said("run.service x")));
        assert_eq!(ask(&["run", "(restart)"], "x", None), (101, said("run.service x")));
        assert_eq!(ask(&["run", "try-restart"], "x", None), (101, said("run.service x")));
    }

    #[test]
    fn what_is_removed_stops_and_what_is_upgraded_does_not() {
        assert_eq!(ask(&["run.service", "stop"], "gone", None), (0, String::new()));
        assert_eq!(ask(&["run", "stop"], "other", None), (0, String::new()));
        assert_eq!(ask(&["run.service", "stop"], "x", None), (101, "run.service x".to_owned()));
    }

    #[test]
    fn what_reloads_reloads() {
        assert_eq!(ask(&["run", "reload"], "x", None).0, 0);
        assert_eq!(ask(&["run-reload", "force-reload"], "x", None), (0, String::new()));
        assert_eq!(ask(&["run", "force-reload"], "x", None), (101, "run.service x".to_owned()));
    }

    #[test]
    fn all_units_that_are_asked_for_at_once_count() {
        let argv: &[&str] = &["--system", "restart", "dead.socket", "run.service", "run2.service"];
        let asked = ask(&["dead.socket", "restart"], "x", Some(argv));
        assert_eq!(asked, (101, "run.service x, run2.service x".to_owned()));
    }

    #[test]
    fn the_agent_is_not_restarted_by_itself() {
        let line =
            "x Id=muster-agent.service ActiveState=active InvocationID=abc\nx Id=a.service InvocationID=\nbroken\n";
        assert_eq!(denied(line), []);
    }

    #[test]
    fn a_restart_is_owed_for_as_long_as_the_same_run_goes_on() {
        let all =
            denied("p Id=a.service ActiveState=active CanReload=no InvocationID=1\nq Id=b.service InvocationID=2\n");
        let shown = |a: &str, state: &str| {
            format!(
                "Id=a.service\nNames=a.service alias.service\nActiveState={state}\nInvocationID={a}\n\nId=b.service\n\
                 Names=b.service\nActiveState=active\nInvocationID=9\n"
            )
        };
        let units = vec!["a.service".to_owned(), "alias.service".to_owned()];
        assert_eq!(still_owed(&all, &shown("1", "active")), [Owed { units, package: "p".into() }]);
        assert_eq!(still_owed(&all, &shown("3", "active")), [], "started anew");
        assert_eq!(still_owed(&all, &shown("1", "inactive")), [], "stopped");
    }
}
