//! What apt and dpkg say, as errors that lead on.

use std::collections::BTreeMap;

use crate::ports::{Output, PackageError};

/// What apt says, in words that lead on.
pub fn explain(program: &str, output: &Output) -> PackageError {
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stderr), output.stdout());
    let line = |needle: &str| text.lines().find(|line| line.contains(needle)).map(str::trim);
    let quoted = |line: &str| line.split('\'').nth(1).map(str::to_owned);
    if line("No space left on device").is_some() || line("You don't have enough free space").is_some() {
        return PackageError::DiskFull;
    }
    if let Some(line) = line("Could not get lock")
        .or_else(|| line("is another process using it"))
        .or_else(|| line("frontend lock was locked by another process"))
        .or_else(|| line("frontend lock is locked by another process"))
        .or_else(|| line("status database is locked by another process"))
    {
        let holder = line.trim_start_matches("E: ").trim_start_matches("dpkg: error: ").to_owned();
        return PackageError::Locked { holder };
    }
    let broken = broken(&text);
    if !broken.is_empty() {
        return PackageError::Broken { packages: broken };
    }
    // E: Repository 'http://h/debian s InRelease' changed its 'Codename' value from 'x' to 'y'
    if let Some(line) =
        text.lines().find(|line| line.starts_with("E: Repository '") && line.contains("' changed its '"))
    {
        return PackageError::Changed { said: line.trim_start_matches("E: Repository ").to_owned() };
    }
    if let Some(line) = line("needs to be reinstalled, but I can't find an archive for it") {
        let name = line.trim_start_matches("E: The package ").split(' ').next().unwrap_or_default().to_owned();
        return PackageError::Lost { name };
    }
    if let Some(line) = line("Conflicting values set for option Signed-By") {
        return PackageError::Sources { said: line.trim_start_matches("E: ").to_owned() };
    }
    if let Some(error) = virtual_name(&text) {
        return error;
    }
    if line("--fix-broken install").is_some() {
        return PackageError::HalfDone;
    }
    if line("E: Essential packages were removed").is_some() {
        return PackageError::Essential { name: String::new() };
    }
    if let Some(said) = unmet(&text) {
        return PackageError::Unmet { names: Vec::new(), said };
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

/// What dpkg could not process, by name, and what was said of it.
fn broken(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        // dpkg: error processing package NAME (--configure):
        // dpkg: error processing archive /var/cache/apt/archives/NAME_1_all.deb (--unpack):
        let Some(rest) = line.strip_prefix("dpkg: error processing ") else { continue };
        let Some((what, rest)) = rest.split_once(' ') else { continue };
        let subject = rest.split(' ').next().unwrap_or_default();
        let file = subject.rsplit('/').next().unwrap_or(subject);
        let name = if what == "archive" { file.split('_').next().unwrap_or(file) } else { subject };
        let mut said = lines.get(at + 1).map_or("", |next| next.trim()).to_owned();
        // The last words of its own script.
        let own = at.checked_sub(1).and_then(|before| lines.get(before)).map(|before| before.trim());
        if let Some(own) = own.filter(|own| !own.is_empty() && is_a_scripts(own)) {
            said = format!("{said}; it said: {own}");
        }
        all.entry(name.to_owned()).or_insert(said);
    }
    all
}

fn is_a_scripts(line: &str) -> bool {
    let of_dpkg = [
        "dpkg",
        "debconf:",
        "E:",
        "W:",
        "N:",
        "Errors were",
        "Setting up",
        "Processing triggers",
        "Unpacking",
        "Selecting",
    ];
    !of_dpkg.iter().any(|begins| line.starts_with(begins))
}

/// Package x is a virtual package provided by: …
fn virtual_name(text: &str) -> Option<PackageError> {
    let mut lines = text.lines().skip_while(|line| !line.ends_with(" is a virtual package provided by:"));
    let name = lines.next()?.strip_prefix("Package ")?.split(' ').next()?.to_owned();
    let mut providers: Vec<String> = lines
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    providers.sort();
    (!providers.is_empty()).then_some(PackageError::Virtual { name, providers })
}

/// The reasons why packages do not go together, in one line.
fn unmet(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.contains("have unmet dependencies:"));
    let there = lines.next().is_some();
    let mut said: Vec<String> = Vec::new();
    for line in lines.take_while(|line| line.starts_with(' ')) {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        match said.last_mut() {
            // A further reason of the same package is further to the right.
            Some(last) if line.starts_with("  ") => last.push_str(&format!(", {words}")),
            Some(_) | None => said.push(words),
        }
    }
    let refused = text.contains("E: Unable to correct problems") || text.contains("pkgProblemResolver::Resolve");
    (there || refused).then(|| if said.is_empty() { "apt finds no way".to_owned() } else { said.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stderr: &str) -> PackageError {
        explain("apt-get", &Output { status: 100, stdout: Vec::new(), stderr: stderr.into() })
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
        let PackageError::Changed { said: changed } = said(
            "E: Repository 'http://h/d s InRelease' changed its 'Codename' value from 'x' to 'y'\nN: This must be",
        ) else {
            panic!("it changed")
        };
        assert_eq!(changed, "'http://h/d s InRelease' changed its 'Codename' value from 'x' to 'y'");
        assert_eq!(
            said("E: The package re needs to be reinstalled, but I can't find an archive for it."),
            PackageError::Lost { name: "re".into() }
        );
        assert!(matches!(said("E: something new"), PackageError::Failed { .. }));
    }

    #[test]
    fn what_a_package_did_is_told_of_that_package() {
        let error = said(
            "cannot reach the database\ndpkg: error processing package bad26 (--configure):\n installed bad26 package \
             post-installation script subprocess returned error exit status 1\ndpkg: error processing archive \
             /var/cache/apt/archives/over_1%3a2_all.deb (--unpack):\n trying to overwrite '/usr/bin/x', which is also in \
             package y 1\nErrors were encountered while processing:\n bad26\n over\n",
        );
        let PackageError::Broken { packages } = error else { panic!("{error:?}") };
        assert_eq!(packages.keys().collect::<Vec<_>>(), ["bad26", "over"]);
        assert!(packages["bad26"].ends_with("exit status 1; it said: cannot reach the database"), "{packages:?}");
        assert!(packages["over"].starts_with("trying to overwrite"), "{packages:?}");
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let unmet = said(
            "The following packages have unmet dependencies:\n chrony : Conflicts: timesyncd but 1 is to be installed\n          \
             Conflicts: time-daemon\n timesyncd : Conflicts: chrony but 1 is to be installed\nE: Unable to correct problems, \
             you have held broken packages.",
        );
        let PackageError::Unmet { said: reasons, .. } = unmet else { panic!("{unmet:?}") };
        assert_eq!(
            reasons,
            "chrony : Conflicts: timesyncd but 1 is to be installed, Conflicts: time-daemon; timesyncd : Conflicts: chrony but \
             1 is to be installed"
        );
        let several = said(
            "Package mail-transport-agent is a virtual package provided by:\n  exim4-daemon-light 4.96\n  postfix 3.7\nYou \
             should explicitly select one to install.\n\nE: Package 'mail-transport-agent' has no installation candidate",
        );
        let providers = vec!["exim4-daemon-light".to_owned(), "postfix".to_owned()];
        assert_eq!(several, PackageError::Virtual { name: "mail-transport-agent".into(), providers });
        assert_eq!(
            said("E: Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution)."),
            PackageError::HalfDone
        );
        let two = "E: Conflicting values set for option Signed-By regarding source http://h/ s: /a != /b";
        assert!(matches!(said(two), PackageError::Sources { .. }));
    }

    #[test]
    fn whoever_holds_a_lock_is_named() {
        for text in [
            "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)\nE: Unable to lock directory",
            "dpkg: error: dpkg frontend lock was locked by another process with pid 7\nNote: removing the lock file is always \
             wrong",
        ] {
            let PackageError::Locked { holder } = said(text) else { panic!("{text}") };
            assert!(holder.contains('7') && !holder.starts_with("dpkg: error"), "{holder}");
        }
    }
}
