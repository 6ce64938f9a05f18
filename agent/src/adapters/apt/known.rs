//! What dpkg knows, as `dpkg-query` prints it.

use std::collections::BTreeMap;

use crate::ports::{Files, Installed, Known};

/// Fields of a line, with tabs between them: an architecture may be empty.
pub const FORMAT: &str =
    "--showformat=${db:Status-Want}\\t${db:Status-Status}\\t${Package}\\t${Architecture}\\t${Version}\\n";

pub fn parse(text: &str) -> Known {
    let mut all = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [want, status, name, arch, version] = fields.as_slice() else { continue };
        if *status == "not-installed" {
            continue;
        }
        let version = if *status == "config-files" { String::new() } else { (*version).to_owned() };
        let complete = matches!(*status, "installed" | "triggers-awaited" | "triggers-pending");
        all.push((*name, *arch, Installed { version, complete, hold: *want == "hold" }));
    }
    // dpkg itself is always of the machine's own architecture.
    let native = all.iter().find(|(name, _, _)| *name == "dpkg").map_or("", |(_, arch, _)| *arch).to_owned();
    let mut packages = BTreeMap::new();
    for (name, arch, package) in all {
        let own = arch == native || arch == "all" || arch.is_empty();
        packages.insert(if own { name.to_owned() } else { format!("{name}:{arch}") }, package);
    }
    Known { native, packages }
}

/// systemd units among a package's files.
pub fn units(files: &dyn Files, known: &Known, name: &str) -> Vec<String> {
    let list = |name: &str| files.read(&format!("/var/lib/dpkg/info/{name}.list")).ok().flatten();
    // Of a package that may be there for several architectures the list's name has one.
    let text = list(name).or_else(|| list(&format!("{name}:{}", known.native))).unwrap_or_default();
    let mut units: Vec<String> = String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|path| {
            let path = path.strip_prefix("/usr").unwrap_or(path);
            path.strip_prefix("/lib/systemd/system/")
        })
        .filter(|unit| unit.ends_with(".service") && !unit.contains(['/', '@']))
        .map(str::to_owned)
        .collect();
    units.sort();
    units.dedup();
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fake::FakeFiles;

    #[test]
    fn dpkg_lines_become_packages() {
        let known = parse(
            "install\tinstalled\tbash\tamd64\t5.2\ninstall\tinstalled\tdpkg\tamd64\t1.21\n\
             hold\tinstalled\tlibc6\tamd64\t2.36-9\ninstall\tinstalled\tlibc6\ti386\t2.36-8\n\
             install\tinstalled\thostname\tall\t3\ndeinstall\tconfig-files\tnginx\tamd64\t1.2\n\
             install\thalf-configured\tx\tamd64\t1\nunknown\tnot-installed\tgone\t\t\n",
        );
        let bash = Installed { version: "5.2".into(), complete: true, hold: false };
        for name in ["bash", "bash:amd64"] {
            assert_eq!(known.get(name), Some(&bash));
        }
        assert!(known.get("hostname:all").is_some() && known.get("hostname:amd64").is_some());
        assert!(known.get("libc6").unwrap().hold && !known.get("libc6:i386").unwrap().hold);
        assert_eq!(known.get("bash:i386"), None);
        assert_eq!(known.get("nginx").unwrap().version, "");
        assert!(!known.get("x").unwrap().complete);
        assert_eq!(known.get("gone"), None);
    }

    #[test]
    fn another_architectures_package_is_not_the_own_one() {
        let known = parse("install\tinstalled\tdpkg\tamd64\t1\ninstall\tinstalled\twine\ti386\t8\n");
        assert_eq!(known.get("wine"), None);
        assert!(known.get("wine:i386").is_some());
    }

    #[test]
    fn units_are_found_in_both_places() {
        let files = FakeFiles::default();
        files.put("/var/lib/dpkg/info/x.list", "/.\n/lib/systemd/system/x.service\n/usr/lib/systemd/system/y.service\n/usr/lib/systemd/system/x@.service\n/usr/lib/systemd/system/x.service\n/usr/lib/systemd/system/x.socket\n");
        let known = Known { native: "amd64".into(), ..Known::default() };
        assert_eq!(units(&files, &known, "x"), ["x.service", "y.service"]);
        files.put("/var/lib/dpkg/info/z:amd64.list", "/lib/systemd/system/z.service\n");
        assert_eq!(units(&files, &known, "z"), ["z.service"]);
        assert!(units(&files, &known, "nosuch").is_empty());
    }
}
