//! Names of systemd's units, as `systemctl` reads them, and where their files lie.

/// What a unit's name ends with: systemd.unit(5).
const SUFFIXES: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// Where unit files are read from, the strongest first.
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A unit's whole name: a known suffix stays, anything else is a service, as `app8.2-fpm` and `tun@site.example` are.
pub fn whole(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, suffix)) if SUFFIXES.contains(&suffix) => name.to_owned(),
        Some(_) | None => format!("{name}.service"),
    }
}

/// Its short name: without `.service`.
pub fn short(name: &str) -> &str {
    name.strip_suffix(".service").unwrap_or(name)
}

/// The template of a whole name that is an instance: `tun@.service` of `tun@home.service`.
pub fn template(whole: &str) -> Option<String> {
    let (prefix, _) = whole.split_once('@')?;
    let (_, suffix) = whole.rsplit_once('.')?;
    Some(format!("{prefix}@.{suffix}"))
}

/// A name that stands for many: a template without an instance.
pub fn is_template(whole: &str) -> bool {
    template(whole).as_deref() == Some(whole)
}

/// What a whole name is about: `tun` of `tun@home.service` and of `tun.timer`. Packages are called like that.
pub fn base(whole: &str) -> &str {
    let base = whole.rsplit_once('.').map_or(whole, |(base, _)| base);
    base.split_once('@').map_or(base, |(prefix, _)| prefix)
}

/// Where a file of this whole name may lie, its template's too.
pub fn files(whole: &str) -> Vec<String> {
    let names = [Some(whole.to_owned()), template(whole)];
    names.iter().flatten().flat_map(|name| FOLDERS.map(|folder| format!("{folder}/{name}"))).collect()
}

/// A suffix that looks like one of systemd's and is none, and the one that it looks like.
pub(crate) fn misspelt(name: &str) -> Option<(&str, &'static str)> {
    let (_, suffix) = name.rsplit_once('.')?;
    // An instance may end with anything.
    let plain = !name.contains('@') && suffix.len() > 3 && !SUFFIXES.contains(&suffix);
    let near = SUFFIXES.into_iter().find(|known| strsim::damerau_levenshtein(suffix, known) <= 1);
    plain.then_some((suffix, near?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_systemctl_makes_of_them() {
        for (name, made) in [
            ("containerd", "containerd.service"),
            ("containerd.service", "containerd.service"),
            ("app8.2-fpm", "app8.2-fpm.service"),
            ("tun@site.example", "tun@site.example.service"),
            ("tun@plain", "tun@plain.service"),
            ("getty@tty1.service", "getty@tty1.service"),
            ("docker.socket", "docker.socket"),
            ("apt-daily.timer", "apt-daily.timer"),
            ("srv-data.mount", "srv-data.mount"),
            ("multi-user.target", "multi-user.target"),
            ("x.conf", "x.conf.service"),
        ] {
            assert_eq!(whole(name), made);
        }
        assert_eq!((short("x.service"), short("x"), short("x.timer")), ("x", "x", "x.timer"));
    }

    #[test]
    fn an_instance_has_a_template_and_both_have_a_base() {
        assert_eq!(template("tun@site.example.service").as_deref(), Some("tun@.service"));
        assert_eq!(template("tun.service"), None);
        assert!(is_template("tun@.service") && !is_template("tun@a.service") && !is_template("tun.service"));
        assert_eq!((base("tun@site.example.service"), base("app8.2-fpm.service")), ("tun", "app8.2-fpm"));
        assert!(files("tun@a.timer").contains(&"/etc/systemd/system/tun@.timer".to_owned()));
    }

    #[test]
    fn a_suffix_that_is_almost_one_is_noticed() {
        assert_eq!(misspelt("backup.timr"), Some(("timr", "timer")));
        assert_eq!(misspelt("backup.sevice"), Some(("sevice", "service")));
        for fine in ["app8.2-fpm", "tun@site.time", "backup.timer", "org.example", "a.b"] {
            assert_eq!(misspelt(fine), None, "{fine}");
        }
    }
}
