//! `[[apt_source]]`: two files, and the index of this source alone.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use muster_catalog::kinds::apt_source::AptSourceSpec;
use muster_ids::Digest;
use muster_plan::kinds::apt_source::{Change, Key, Observed};

use crate::{
    Context, Done, StepError,
    ports::Invocation,
    temporary::{self, SCRATCH},
};

const LISTS: &str = "/var/lib/apt/lists";

pub async fn observe(ctx: &Context, spec: &AptSourceSpec) -> Result<Observed, StepError> {
    let text = |path: &str| {
        let content = ctx.files.read(path)?;
        Ok::<_, StepError>(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
    };
    let lists = if spec.absent { Vec::new() } else { ctx.files.list(LISTS)?.unwrap_or_default() };
    Ok(Observed {
        source: text(&spec.source_path())?,
        key: text(&spec.key_path())?,
        indexed: spec.suites.iter().all(|suite| indexed(&lists, &spec.url, suite)),
    })
}

fn indexed(lists: &[String], url: &str, suite: &str) -> bool {
    releases(lists, url, suite).next().is_some()
}

/// The names under which apt keeps what a suite's repository signed, of those in `lists`:
/// of `http://host/path dists/suite` it is `host_path_dists_suite_InRelease`, and of a flat one the same without `dists`.
fn releases<'a>(lists: &'a [String], url: &str, suite: &str) -> impl Iterator<Item = &'a String> {
    let place = url.split_once("://").map_or(url, |(_, place)| place).trim_end_matches('/');
    let (host, path) = place.split_once('/').map_or((place, String::new()), |(host, path)| (host, format!("/{path}")));
    // Who asks is not in the name.
    let host = host.rsplit_once('@').map_or(host, |(_who, host)| host);
    let place = listed(&format!("{host}{path}"));
    let suite = listed(suite.trim_matches('/'));
    let begins = match suite.as_str() {
        "" | "." => format!("{place}_"),
        suite => format!("{place}_dists_{suite}_"),
    };
    lists.iter().filter(move |name| {
        name.strip_prefix(&begins)
            .is_some_and(|rest| matches!(rest, "InRelease" | "Release" | "._InRelease" | "._Release"))
    })
}

/// A part of a URL in apt's names of files: slashes as `_`, and what would be taken for these or is no plain character in hexadecimal.
/// The characters are those of apt's `URItoFileName`.
fn listed(part: &str) -> String {
    let mut name = String::new();
    for byte in part.bytes() {
        match byte {
            b'/' => name.push('_'),
            b if !b.is_ascii_graphic() || b"\\|{}[]<>\"^~_=!@#$%&*".contains(&b) => name.push_str(&format!("%{b:02x}")),
            b => name.push(char::from(b)),
        }
    }
    name
}

/// Makes apt forget that it ever read this source. It keeps what it holds when a new one is refused, and then a source whose
/// new key failed, or that was written just before a kill, would look as if it had been read.
fn forget(ctx: &Context, spec: &AptSourceSpec) -> Result<(), StepError> {
    let lists = ctx.files.list(LISTS)?.unwrap_or_default();
    for name in spec.suites.iter().flat_map(|suite| releases(&lists, &spec.url, suite)) {
        ctx.files.remove(&format!("{LISTS}/{name}"), false)?;
    }
    Ok(())
}

pub async fn apply(ctx: &Context, spec: &AptSourceSpec, change: &Change) -> Result<Done, StepError> {
    if change.remove {
        ctx.files.remove(&spec.source_path(), false)?;
        ctx.files.remove(&spec.key_path(), false)?;
        return Ok(Done::default());
    }
    let key = match &change.key {
        Some(Key::Text(text)) => Some(text.clone().into_bytes()),
        Some(Key::Url(url)) => Some(fetch(ctx, &spec.name, url, spec.key_sha256.as_deref()).await?),
        None => None,
    };
    if key.is_some() || change.source.is_some() {
        forget(ctx, spec)?;
    }
    if let Some(key) = key {
        ctx.files.write(&spec.key_path(), &key, 0o644, 0, 0)?;
    }
    if let Some(text) = &change.source {
        ctx.files.write(&spec.source_path(), text.as_bytes(), 0o644, 0, 0)?;
    }
    if change.update {
        ctx.packages.update(Some(&spec.name)).await?;
    }
    Ok(Done::default())
}

/// Downloads of this process so far.
static DOWNLOADS: AtomicU64 = AtomicU64::new(0);

/// The key of this source, and never that of another that is fetched at the same time: each download has a file of its own.
async fn fetch(ctx: &Context, name: &str, url: &str, sha256: Option<&str>) -> Result<Vec<u8>, StepError> {
    // apt's own downloader: there on every Debian node, before any package of ours is.
    let failed = || {
        StepError::failed(format!("the key cannot be fetched from {url}"))
            .help("can this node reach it? the key's text can stand in the site instead")
            .retry()
    };
    let number = DOWNLOADS.fetch_add(1, Ordering::Relaxed);
    let path = &format!("{SCRATCH}/{}key-{number}-{name}.asc", temporary::mark());
    temporary::make_scratch();
    ctx.files.remove(path, false)?;
    let run = Invocation::new(["/usr/lib/apt/apt-helper", "download-file", url, path]).timeout(Duration::from_secs(60));
    let output = ctx.commands.run(run).await;
    let key = ctx.files.read(path);
    ctx.files.remove(path, false)?;
    let output = output.map_err(|error| failed().because(error))?;
    if !output.success() {
        return Err(failed().because(output.tail(2)));
    }
    let key = key?.unwrap_or_default();
    if let Some(wanted) = sha256 {
        let found = Digest::of(&key).to_string();
        if found != wanted {
            return Err(StepError::failed(format!(
                "the key from {url} has the SHA-256 {found}, and {wanted} was asked for"
            ))
            .help("nothing was trusted: find out who changed it before you write the new digest"));
        }
    }
    if !key.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        return Err(StepError::failed(format!("what {url} gives is no ASCII-armoured key"))
            .help("`gpg --armor --export KEY` makes one"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_catalog::Catalog;
    use muster_ids::Generation;
    use muster_plan::kinds::apt_source::diff;

    use super::*;
    use crate::{
        Scope,
        adapters::fake::FakeMachine,
        ports::{Output, PackageError},
    };

    const RELEASE: &str = "/var/lib/apt/lists/10.89.0.3_debian_dists_muster_InRelease";

    fn spec(key: &str) -> AptSourceSpec {
        AptSourceSpec {
            name: "muster".into(),
            url: "http://10.89.0.3/debian".into(),
            suites: vec!["muster".into()],
            components: vec!["main".into()],
            key: format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n{key}\n"),
            key_sha256: None,
            absent: false,
        }
    }

    /// One step as the engine takes it; false where nothing differs.
    async fn step(machine: &FakeMachine, spec: &AptSourceSpec) -> Result<bool, StepError> {
        let nothing = Catalog {
            cluster: "c".parse().unwrap(),
            environment: "e".parse().unwrap(),
            node: "n-1".parse().unwrap(),
            generation: Generation { epoch: 0, counter: 1 },
            draft: false,
            resource: vec![],
        };
        let ctx = machine.context(Scope::of(&nothing));
        let Some(change) = diff(spec, &observe(&ctx, spec).await?) else { return Ok(false) };
        apply(&ctx, spec, &change).await.map(|_| true)
    }

    #[tokio::test]
    async fn a_failed_check_of_the_signature_is_not_forgotten() {
        let machine = FakeMachine::new();
        let files = Arc::clone(&machine.files);
        machine.packages.on_update(move || files.put(RELEASE, "signed"));
        let other = "/var/lib/apt/lists/10.89.0.3_debian_dists_other_InRelease";
        machine.files.put(other, "signed");
        assert!(step(&machine, &spec("right")).await.unwrap());
        assert!(!step(&machine, &spec("right")).await.unwrap());

        let refused = PackageError::Unsigned { source_name: "http://10.89.0.3/debian".into() };
        machine.packages.fail_updates(Some(refused));
        for _ in 0..3 {
            step(&machine, &spec("wrong")).await.unwrap_err();
        }
        // As after a kill between writing and reading: the files are right, and the index was not read since.
        step(&machine, &spec("right")).await.unwrap_err();
        machine.packages.fail_updates(None);
        assert!(step(&machine, &spec("right")).await.unwrap());
        assert!(!step(&machine, &spec("right")).await.unwrap());
        assert!(machine.files.text(other).is_some(), "another suite's index stays");
    }

    #[tokio::test]
    async fn keys_that_are_fetched_at_once_stay_with_their_sources() {
        let machine = FakeMachine::new();
        let armoured = |name: &str| format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n{name}\n");
        let files = Arc::clone(&machine.files);
        machine.commands.install("/usr/lib/apt/apt-helper", move |run| {
            let [_, _, url, path] = run.argv.as_slice() else { panic!("{run:?}") };
            files.put(path, &armoured(url));
            Output::default()
        });
        let files = Arc::clone(&machine.files);
        machine.packages.on_update(move || files.put(RELEASE, "signed"));
        let source = |name: &str| AptSourceSpec {
            name: name.into(),
            key: format!("https://{name}/key.asc"),
            suites: vec!["muster".into()],
            ..spec("")
        };
        // Names that are alike.
        let all = ["k8s", "K8s", "k8s.io", "k8s-io"].map(source);
        let ctx = machine.node("n-1");
        let changes = all.iter().map(|spec| diff(spec, &Observed::default()).unwrap()).collect::<Vec<_>>();
        let fetched = all.iter().zip(&changes).map(|(spec, change)| apply(&ctx, spec, change));
        for result in futures::future::join_all(fetched).await {
            result.unwrap();
        }
        for spec in &all {
            assert_eq!(machine.files.text(&spec.key_path()), Some(armoured(&spec.key)));
        }
        let paths: std::collections::BTreeSet<_> =
            machine.commands.ran().into_iter().map(|argv| argv[3].clone()).collect();
        assert_eq!(paths.len(), all.len(), "no two downloads have one file: {paths:?}");
        assert!(paths.iter().all(|path| machine.files.text(path).is_none()), "nothing is left behind");
    }

    #[test]
    fn lists_are_named_as_apt_names_them() {
        let lists = ["10.89.0.3_debian_dists_muster_InRelease".to_owned(), "h_flat_._InRelease".to_owned()];
        assert!(indexed(&lists, "http://10.89.0.3/debian/", "muster"));
        assert!(!indexed(&lists, "http://10.89.0.3/debian", "must"));
        assert!(indexed(&lists, "https://h/flat", "/"));
        let odd = ["h:80_a%5fb_%7ec+d.e%25f_dists_x_y%5fz_InRelease".to_owned()];
        assert!(indexed(&odd, "http://who:what@h:80/a_b/~c+d.e%f/", "x/y_z"));
    }
}
