//! What texts may hold: the formats and patterns that schemas name, each with the words of its error.

use std::net::IpAddr;

use ipnet::IpNet;
use muster_ids::{ResourceId, RoleName};

use crate::kinds::Spec;

/// Why a text does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// "an absolute path without `..`"
    pub(crate) expected: String,
    pub(crate) help: Option<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.expected)
    }
}

fn fault(expected: &str) -> Fault {
    Fault { expected: expected.to_owned(), help: None }
}

/// The formats of texts, as schemas name them.
pub(crate) const FORMATS: &[(&str, &str)] = &[
    ("path", "an absolute path"),
    ("site-path", "a path in the site"),
    ("mode", "an octal mode as in \"0644\""),
    ("cidr", "a range of addresses as in \"10.244.0.0/16\""),
    ("ip", "an address as in \"10.89.0.10\""),
    ("size", "a size as in \"2Gi\", at least \"1Mi\""),
    ("version", "a version as in \"1.34.4\""),
    ("resource", "a resource as in \"service.containerd\""),
    ("taint", "a taint as in \"key=value:NoSchedule\""),
    ("url", "a URL as in \"https://…\""),
    ("word", "one word"),
    ("file-name", "a name of letters, digits, `_`, `.` and `-`, beginning with a letter or digit"),
    ("package", "a package as in \"vim\" or \"libc6:amd64\""),
    ("account", "a name of letters, digits, `_`, `.` and `-`, beginning with none of the last two, at most 32"),
    ("unit", "a unit as in \"containerd\""),
    ("span", "a time as in \"15min\" or \"1h 30min\""),
    ("sysctl", "a kernel parameter as in \"net.ipv4.ip_forward\""),
    ("image", "an image as in \"registry.example.org/shop/web:1.4\""),
    ("label-name", "a label's name as in \"disk\" or \"example.org/disk\""),
    ("label", "a label's value: letters, digits, `-`, `_` and `.`, at most 63"),
    ("comment", "a sign as `#` or `//`, without letters and digits"),
    ("sha256", "a SHA-256 digest of 64 hexadecimal digits"),
    ("host-name", "a host name of lower-case letters, digits and `-`, in parts joined by dots, at most 64"),
    ("time-zone", "a time zone as in \"Europe/Zurich\" or \"UTC\""),
    ("env", "the name of an environment variable"),
];

/// What a format is called in messages.
pub(crate) fn noun(format: &str) -> &'static str {
    FORMATS.iter().find(|(name, _)| *name == format).map_or("a text", |(_, noun)| noun)
}

/// Checks a text against a named format.
pub(crate) fn format(name: &str, text: &str) -> Result<(), Fault> {
    let good = match name {
        "path" => return path(text),
        "site-path" => return site_path(text),
        "mode" => return mode(text),
        "cidr" => return cidr(text).map(|_| ()),
        "ip" => text.parse::<IpAddr>().is_ok(),
        "size" => size(text).is_some_and(|bytes| bytes >= LEAST),
        "version" => {
            let parts: Vec<&str> = text.split('.').collect();
            parts.len() == 3 && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        }
        "resource" => return resource(text),
        "taint" => taint(text),
        "url" => text.split_once("://").is_some_and(|(scheme, rest)| {
            ["http", "https", "file"].contains(&scheme) && !rest.is_empty() && one_word(rest)
        }),
        "word" => !text.is_empty() && one_word(text),
        "file-name" => made_of(text, "._-") && text.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "package" => return package(text),
        "account" => return account(text),
        "unit" => made_of(text, ":_.\\@-") && !text.starts_with('-') && text.len() <= 255,
        "span" => crate::calendar::is_span(text),
        "sysctl" => return sysctl(text),
        "image" => image(text),
        "label-name" => label_name(text),
        "label" => text.is_empty() || label(text),
        "comment" => (1..=8).contains(&text.len()) && one_word(text) && !text.chars().any(char::is_alphanumeric),
        "sha256" => text.parse::<muster_ids::Digest>().is_ok(),
        "host-name" => {
            text.len() <= 64
                && text.split('.').all(|part| {
                    let lower = made_of(part, "-") && !part.bytes().any(|b| b.is_ascii_uppercase());
                    lower && part.len() <= 63 && !part.starts_with('-') && !part.ends_with('-')
                })
        }
        "time-zone" => text.split('/').all(|part| made_of(part, "_+-") && !part.starts_with('-')),
        "env" => {
            text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        }
        _ => true,
    };
    if good { Ok(()) } else { Err(fault(noun(name))) }
}

/// Checks a text against one of the patterns of the ids.
pub(crate) fn pattern(pattern: &str, text: &str) -> Result<(), Fault> {
    match pattern {
        NAME => text
            .parse::<RoleName>()
            .map(|_| ())
            .map_err(|_| fault("lower-case letters, digits and `-`, beginning with a letter, at most 40")),
        RESOURCE => resource(text),
        _ => Ok(()),
    }
}

/// The patterns that schemas may name.
#[cfg(test)]
pub(crate) const PATTERNS: &[&str] = &[NAME, RESOURCE];
const NAME: &str = "^[a-z]([a-z0-9-]*[a-z0-9])?$";
const RESOURCE: &str = "^[a-z_]+\\..+$";

/// As Linux takes them.
const MOST_PATH: usize = 4095;
const MOST_NAME: usize = 255;

fn path(text: &str) -> Result<(), Fault> {
    let mut parts = text.split('/');
    let absolute = parts.next() == Some("");
    let rest: Vec<&str> = parts.collect();
    if !absolute {
        let help = if text.starts_with('~') {
            "`~` is a shell's: write the whole path, as in \"/home/app/file\"".to_owned()
        } else {
            format!(
                "begin it with a slash: \"/{}\"",
                text.trim_start().trim_start_matches("./").trim_start_matches('/')
            )
        };
        return Err(Fault { expected: "an absolute path".to_owned(), help: Some(help) });
    }
    if rest.iter().any(|p| *p == ".." || *p == ".") {
        return Err(fault("an absolute path without `.` and `..`"));
    }
    if text != "/" && rest.iter().any(|p| p.is_empty()) {
        return Err(fault("a path without empty parts and without a slash at its end"));
    }
    if text.contains(char::is_control) {
        return Err(fault("a path of one line, without control characters"));
    }
    if text.ends_with(char::is_whitespace) {
        return Err(fault("a path without a blank at its end"));
    }
    if text.len() > MOST_PATH || rest.iter().any(|part| part.len() > MOST_NAME) {
        return Err(fault("a path of at most 4095 bytes, and 255 in each of its names"));
    }
    // As Linux has it, in bytes and with the end of the text.
    if rest.iter().any(|part| part.len() > 255) || text.len() > 4095 {
        return Err(fault("a path whose names have at most 255 bytes, and all of it 4095"));
    }
    Ok(())
}

/// Octal, at most 7777, as chmod takes it.
fn mode(text: &str) -> Result<(), Fault> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let number = u32::from_str_radix(digits, 8).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    let short = (3..=5).contains(&digits.len());
    let help = match number {
        Some(number) if number <= 0o7777 && short && digits == text => return Ok(()),
        Some(number) if number <= 0o7777 => Some(format!("put it in quotes, in octal digits alone: \"{number:04o}\"")),
        Some(_) => Some("the highest is \"7777\": set-user-id, set-group-id, sticky and all rights".to_owned()),
        None if text.bytes().any(|b| b"rwxugoa+-=st".contains(&b)) => {
            Some("in digits: 4 to read, 2 to write, 1 to run or enter, for owner, group and others".to_owned())
        }
        None => None,
    };
    Err(Fault { expected: noun("mode").to_owned(), help })
}

fn site_path(text: &str) -> Result<(), Fault> {
    if text.starts_with('/') || text.split('/').any(|p| p == "..") {
        return Err(fault("a path inside the site, relative to the folder of the file that names it"));
    }
    if text.split('/').any(|p| p.is_empty() || p == ".") {
        return Err(fault("a plain relative path as in \"files/motd\""));
    }
    Ok(())
}

fn cidr(text: &str) -> Result<IpNet, Fault> {
    let net: IpNet = text.parse().map_err(|_| fault(noun("cidr")))?;
    if net.trunc() != net {
        return Err(Fault {
            expected: "a range that begins at its first address".to_owned(),
            help: Some(format!("did you mean \"{}\"?", net.trunc())),
        });
    }
    Ok(net)
}

fn resource(text: &str) -> Result<(), Fault> {
    let Ok(id) = text.parse::<ResourceId>() else { return Err(fault(noun("resource"))) };
    if Spec::KINDS.contains(&id.kind()) {
        return Ok(());
    }
    let help = crate::shape::nearest(id.kind(), Spec::KINDS.iter().copied())
        .map(|kind| format!("did you mean `{kind}.{}`?", id.name()));
    Err(Fault { expected: format!("a kind before the dot: {}", Spec::KINDS.join(", ")), help })
}

fn taint(text: &str) -> bool {
    let Some((key, effect)) = text.rsplit_once(':') else { return false };
    let (key, value) = key.split_once('=').unwrap_or((key, ""));
    let fits = label_name(key) && (value.is_empty() || label(value));
    fits && ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect)
}

fn one_word(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// ASCII letters, digits and these, at least one.
fn made_of(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// Debian Policy 5.6.7, and an architecture. A `-` at the end is what apt takes for "remove it".
fn package(text: &str) -> Result<(), Fault> {
    let (name, arch) = text.split_once(':').unwrap_or((text, "any"));
    let lower = |text: &str, more| made_of(text, more) && !text.bytes().any(|b| b.is_ascii_uppercase());
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if lower(name, "+.-") && begins && name.len() > 1 && !name.ends_with('-') && lower(arch, "-") {
        return Ok(());
    }
    let version =
        text.split_once('=').map(|(name, version)| format!("write name = \"{name}\", version = \"{version}\""));
    Err(Fault { expected: noun("package").to_owned(), help: version })
}

/// As Debian's useradd takes it; a number would be taken for an id.
fn account(text: &str) -> Result<(), Fault> {
    let good =
        made_of(text.strip_suffix('$').unwrap_or(text), "_.-") && text.len() <= 32 && !text.starts_with(['-', '.']);
    if good && text.bytes().all(|b| b.is_ascii_digit()) {
        let help =
            Some("programs take a number for an id: give it a name, and the number as `uid` or `gid`".to_owned());
        return Err(Fault { expected: "a name that is no number".to_owned(), help });
    }
    if good { Ok(()) } else { Err(fault(noun("account"))) }
}

/// As sysctl.d(5) has it: a slash after a dot stands for a dot in a name, as of an interface.
fn sysctl(text: &str) -> Result<(), Fault> {
    let slash_first = text.find(['.', '/']).is_some_and(|first| text[first..].starts_with('/'));
    if made_of(text, "._-:/") && !slash_first && !text.split(['.', '/']).any(str::is_empty) {
        return Ok(());
    }
    let dots = slash_first.then(|| format!("write it with dots: \"{}\"", text.trim_matches('/').replace('/', ".")));
    Err(Fault { expected: noun("sysctl").to_owned(), help: dots })
}

/// The grammar of the distribution project's references: an optional host, a path, an optional tag and digest.
fn image(text: &str) -> bool {
    let (text, digest) = text.split_once('@').map_or((text, None), |(text, digest)| (text, Some(digest)));
    let good = |d: &str| d.strip_prefix("sha256:").is_some_and(|hex| hex.parse::<muster_ids::Digest>().is_ok());
    if !digest.is_none_or(good) {
        return false;
    }
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (text, None),
    };
    let tagged = |tag: &str| made_of(tag, "_.-") && !tag.starts_with(['.', '-']) && tag.len() <= 128;
    if !tag.is_none_or(tagged) {
        return false;
    }
    let is_host = |part: &str| part == "localhost" || part.contains(['.', ':']);
    let path = match path.split_once('/') {
        Some((host, path)) if is_host(host) => {
            let (name, port) = host.split_once(':').unwrap_or((host, "0"));
            if !made_of(name, ".-") || port.parse::<u16>().is_err() {
                return false;
            }
            path
        }
        Some(_) | None => path,
    };
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    path.split('/').all(|part| {
        let lower = made_of(part, "._-") && !part.bytes().any(|b| b.is_ascii_uppercase());
        lower && part.starts_with(edge) && part.ends_with(edge)
    })
}

/// Kubernetes' label keys: a name, after a DNS subdomain and a slash or alone.
fn label_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let subdomain = |prefix: &str| {
        let part = |part: &str| {
            made_of(part, "-")
                && part.starts_with(edge)
                && part.ends_with(edge)
                && !part.bytes().any(|b| b.is_ascii_uppercase())
        };
        prefix.len() <= 253 && prefix.split('.').all(part)
    };
    label(name) && prefix.is_none_or(subdomain)
}

fn label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    made_of(text, "._-") && text.len() <= 63 && text.starts_with(edge) && text.ends_with(edge)
}

/// No amount of memory or disk is smaller: a number without a unit is bytes, and hardly meant so.
const LEAST: u64 = 1 << 20;

/// Bytes: a whole number with `Ki`, `Mi`, `Gi`, `Ti`, or none.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes() {
        assert_eq!(size("2Gi"), Some(2 << 30));
        assert_eq!(size("512"), Some(512));
        for bad in ["", "Gi", "2G", "-1Gi", "1.5Gi", "0", "99999999999Ti"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn formats_refuse_what_is_wrong() {
        for (name, good, bad) in [
            ("path", "/etc/hosts", "etc/hosts"),
            ("path", "/", "/etc/../root"),
            ("path", "/a/b", "/a//b"),
            ("path", "/srv/a b#c", "/srv/a "),
            ("path", "/srv/\u{fc}", "/srv/a\tb"),
            ("path", &format!("/{}", "n".repeat(255)), &format!("/{}", "n".repeat(256))),
            ("path", "/~", "~/x"),
            ("site-path", "files/a.j2", "../../etc/passwd"),
            ("site-path", "a", "/etc/passwd"),
            ("mode", "0644", "0899"),
            ("mode", "7777", "17777"),
            ("mode", "00644", "000644"),
            ("mode", "644", "0o644"),
            ("mode", "2775", "u+rwx"),
            ("mode", "000", "+644"),
            ("cidr", "10.244.0.0/16", "10.244.0.1/16"),
            ("cidr", "fd00::/64", "10.244.0.0"),
            ("version", "1.34.4", "1.34"),
            ("resource", "file./etc/hosts", "fiel./etc/hosts"),
            ("taint", "a=b:NoSchedule", "a=b"),
            ("url", "http://10.89.0.3/debian", "10.89.0.3/debian"),
            ("env", "DATABASE_HOST", "database-host"),
            ("size", "2Gi", "2"),
            ("url", "file:///srv/debian", "http://h/\nTrusted: yes"),
            ("file-name", "br_netfilter", "../br_netfilter"),
            ("package", "g++", "vim=1.2"),
            ("package", "libc6:amd64", "--purge"),
            ("package", "linux-image-6.1", "vim-"),
            ("account", "Debian-snmp", "bad:name/x"),
            ("account", "john.doe", "-x"),
            ("account", "7of9", "1000"),
            ("unit", "getty@tty1", "../x/y"),
            ("span", "1h 30min", "15 minuets"),
            ("sysctl", "net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("host-name", "web-1.example.org", "web_1"),
            ("host-name", "n1", "-n1."),
            ("time-zone", "America/Argentina/Buenos_Aires", "../../etc/passwd"),
            ("time-zone", "Etc/GMT+5", "Europe/"),
            ("sysctl", "net.ipv4.conf.eth0/1.forwarding", "net..x"),
            ("image", "localhost:5000/a/b_c:1.4", "Easypay:"),
            ("image", "postgres", "a b"),
            (
                "image",
                "h.example/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "x@sha256:aaaa",
            ),
            ("comment", "//", "rem"),
            ("comment", "\"", "# x"),
            ("taint", "example.org/a:NoExecute", "a b=c:NoSchedule"),
            ("label-name", "example.org/disk", "a b"),
            ("label", "", "x y"),
        ] {
            assert_eq!(format(name, good), Ok(()), "{name} {good}");
            assert!(format(name, bad).is_err(), "{name} {bad}");
        }
    }
}
