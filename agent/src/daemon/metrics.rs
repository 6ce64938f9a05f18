//! How busy this machine is: CPU and memory, of the container where it is one, of the machine otherwise.
//!
//! A container's figures come from its cgroup (version 1 or 2), because `/proc` tells the host's. Known imprecision: where
//! the container has no limit, what there is is the host's, shared with others.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use muster_proto::v1::Metrics;
use sysinfo::System;

/// Measures between two calls.
pub struct Meter {
    source: Source,
    last: Option<(Instant, u64)>,
}

enum Source {
    Machine(Box<System>),
    Container {
        cgroup: PathBuf,
        system: Box<System>,
    },
    /// A system of which nothing can be read.
    Unknown,
}

impl Meter {
    /// `container`: as the facts say.
    pub fn new(container: bool) -> Self {
        let source = match System::new().map(Box::new) {
            Ok(system) if container => Source::Container { cgroup: PathBuf::from("/sys/fs/cgroup"), system },
            Ok(system) => Source::Machine(system),
            Err(error) => {
                tracing::warn!(%error, "there will be no metrics");
                Source::Unknown
            }
        };
        Self { source, last: None }
    }

    /// Measures nothing: for a node that is no machine.
    pub fn none() -> Self {
        Self { source: Source::Unknown, last: None }
    }

    /// What was used since the last call; the first tells no CPU.
    pub fn read(&mut self) -> Metrics {
        match &mut self.source {
            Source::Unknown => Metrics::default(),
            Source::Machine(system) => {
                system.refresh_cpu_usage();
                system.refresh_memory();
                let cpus = system.cpus().len() as u64;
                let used = f64::from(system.global_cpu_usage()) / 100.0 * cpus as f64 * 1000.0;
                Metrics {
                    cpu_used_milli: used.max(0.0) as u64,
                    cpu_total_milli: cpus * 1000,
                    memory_used: system.used_memory(),
                    memory_total: system.total_memory(),
                }
            }
            Source::Container { cgroup, system } => {
                system.refresh_memory();
                let host_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64 * 1000;
                let reading = Reading::of(cgroup);
                let now = Instant::now();
                let used = match (self.last, reading.cpu_nanos) {
                    (Some((then, before)), Some(nanos)) => {
                        let passed = now.duration_since(then).as_nanos().max(1);
                        u128::from(nanos.saturating_sub(before)) * 1000 / passed
                    }
                    (None, _) | (_, None) => 0,
                };
                self.last = reading.cpu_nanos.map(|nanos| (now, nanos));
                let total = system.total_memory();
                Metrics {
                    cpu_used_milli: u64::try_from(used).unwrap_or(u64::MAX),
                    cpu_total_milli: reading.cpu_limit_milli.unwrap_or(host_cpus),
                    memory_used: reading.memory_used.unwrap_or(0),
                    memory_total: reading.memory_limit.unwrap_or(total).min(total),
                }
            }
        }
    }
}

/// One reading of a cgroup; what is not there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reading {
    cpu_nanos: Option<u64>,
    cpu_limit_milli: Option<u64>,
    memory_used: Option<u64>,
    memory_limit: Option<u64>,
}

impl Reading {
    fn of(root: &Path) -> Self {
        if root.join("cgroup.controllers").exists() { Self::version_2(root) } else { Self::version_1(root) }
    }

    fn version_2(root: &Path) -> Self {
        let cache = field(&root.join("memory.stat"), "inactive_file").unwrap_or(0);
        let limit = fs::read_to_string(root.join("cpu.max")).ok().and_then(|text| {
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<u64>().ok()? * 1000 / period.parse::<u64>().ok()?.max(1))
        });
        Self {
            cpu_nanos: field(&root.join("cpu.stat"), "usage_usec").map(|micros| micros * 1000),
            cpu_limit_milli: limit,
            memory_used: number(&root.join("memory.current")).map(|used| used.saturating_sub(cache)),
            memory_limit: number(&root.join("memory.max")),
        }
    }

    fn version_1(root: &Path) -> Self {
        let memory = root.join("memory");
        let cache = field(&memory.join("memory.stat"), "total_inactive_file").unwrap_or(0);
        let quota = number(&root.join("cpu/cpu.cfs_quota_us"));
        let period = number(&root.join("cpu/cpu.cfs_period_us"));
        Self {
            cpu_nanos: number(&root.join("cpuacct/cpuacct.usage")),
            // A quota of -1 is no number here: no limit.
            cpu_limit_milli: quota.zip(period).map(|(quota, period)| quota * 1000 / period.max(1)),
            memory_used: number(&memory.join("memory.usage_in_bytes")).map(|used| used.saturating_sub(cache)),
            memory_limit: number(&memory.join("memory.limit_in_bytes")),
        }
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind `name` in a file of `name number` lines.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_cgroup_of_version_1() {
        let root = files(&[
            ("cpuacct/cpuacct.usage", "5000000000\n"),
            ("cpu/cpu.cfs_quota_us", "150000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
            ("memory/memory.limit_in_bytes", "4000\n"),
            ("memory/memory.stat", "cache 500\ntotal_inactive_file 300\n"),
        ]);
        let expected = Reading {
            cpu_nanos: Some(5_000_000_000),
            cpu_limit_milli: Some(1500),
            memory_used: Some(700),
            memory_limit: Some(4000),
        };
        assert_eq!(Reading::of(root.path()), expected);
        fs::write(root.path().join("cpu/cpu.cfs_quota_us"), "-1\n").unwrap();
        assert_eq!(Reading::of(root.path()).cpu_limit_milli, None);
    }

    #[test]
    fn a_cgroup_of_version_2() {
        let root = files(&[
            ("cgroup.controllers", "cpu memory\n"),
            ("cpu.stat", "usage_usec 7000\nuser_usec 1\n"),
            ("cpu.max", "max 100000\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\ninactive_file 400\n"),
        ]);
        let expected =
            Reading { cpu_nanos: Some(7_000_000), cpu_limit_milli: None, memory_used: Some(600), memory_limit: None };
        assert_eq!(Reading::of(root.path()), expected);
    }

    #[test]
    fn this_machine_has_memory_and_cpus() {
        let metrics = Meter::new(false).read();
        assert!(metrics.memory_total > metrics.memory_used && metrics.memory_used > 0, "{metrics:?}");
        assert!(metrics.cpu_total_milli >= 1000);
    }
}
