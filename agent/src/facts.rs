//! What a node reports of itself. Read from the kernel's files, in Debian's words; no program is started for it.

use std::{fs, net::UdpSocket, path::Path};

use muster_catalog::Facts;

/// Looks at this machine. What cannot be seen is empty or 0.
pub fn collect() -> Facts {
    let names = rustix::system::uname();
    let release = text("/etc/os-release");
    let (interface, address) = default_route();
    Facts {
        hostname: names.nodename().to_string_lossy().into_owned(),
        os: field(&release, "ID"),
        os_version: field(&release, "VERSION_ID"),
        arch: arch(&names.machine().to_string_lossy()).to_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        virtualization: virtualization().to_owned(),
        cgroup: if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 },
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        memory: memory(),
        machine_cpus: text("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count() as u32,
        machine_memory: machine_memory(),
        address,
        interface,
    }
}

/// What tells this boot from every other: the kernel's identifier of its own boot and when PID 1 began, because containers
/// begin anew on a kernel that runs on. None where the kernel does not say.
pub fn boot() -> Option<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let init = fs::read_to_string("/proc/1/stat").ok()?;
    Some(format!("{}/{}", kernel.trim(), began(&init)?))
}

/// Field 22 of proc_pid_stat(5); the second, the name, is in brackets and may hold blanks and brackets.
fn began(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field(release: &str, name: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// The kernel's word for a processor in Debian's.
fn arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "armhf",
        "ppc64le" => "ppc64el",
        other => other,
    }
}

fn virtualization() -> &'static str {
    let environment = fs::read("/proc/1/environ").unwrap_or_default();
    let container = environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(b"container="));
    if container || Path::new("/run/systemd/container").exists() || Path::new("/.dockerenv").exists() {
        "container"
    } else if text("/proc/cpuinfo").lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor")) {
        "vm"
    } else {
        "none"
    }
}

/// The machine's memory in bytes, or the control group's limit where that is less.
fn memory() -> u64 {
    let total = machine_memory();
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // "max" and version 1's huge number are no limits.
    limits.iter().filter_map(|path| text(path).trim().parse::<u64>().ok()).fold(total, u64::min)
}

fn machine_memory() -> u64 {
    text("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// The interface of the default route and the address that this machine has there.
fn default_route() -> (String, String) {
    let routes = text("/proc/net/route");
    let Some(interface) = routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split('\t');
        let interface = fields.next()?;
        (fields.next()? == "00000000").then(|| interface.to_owned())
    }) else {
        return (String::new(), String::new());
    };
    // Nothing is sent: connecting a datagram socket asks the kernel for the source address of the way out.
    let address = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    (interface, address.map_or_else(|_| String::new(), |address| address.ip().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let facts = collect();
        assert!(facts.cpus > 0 && facts.memory > 0 && !facts.kernel.is_empty(), "{facts:?}");
        assert!(["container", "vm", "none"].contains(&facts.virtualization.as_str()));
    }

    #[test]
    fn a_boot_is_told_by_the_kernel_and_by_when_init_began() {
        let boot = boot().unwrap();
        let (kernel, began) = boot.split_once('/').unwrap();
        assert!(kernel.len() == 36 && began.parse::<u64>().is_ok(), "{boot}");
        let stat = "1 (a ) b) S 0 1 1 0 -1 4194560 5 1 0 6 5 4 3 2 20 0 1 0 4711 406 231";
        assert_eq!(super::began(stat), Some("4711"));
        assert_eq!(super::began("1 (init) S"), None);
    }

    #[test]
    fn quoted_release_fields_are_bare() {
        assert_eq!(field("NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n", "VERSION_ID"), "12");
        assert_eq!(field("ID_LIKE=x\nID=debian\n", "ID"), "debian");
    }
}
