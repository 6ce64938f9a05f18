//! Wrong sites and what is said of them. Each folder of `wrong/` is laid over the site in `good/`: a file replaces its
//! namesake, `NAME.append` adds to it, `NAME.absent` takes it away. `MUSTER_BLESS=1` writes the golden texts anew.

mod common;

use std::{fs, path::Path};

use muster_catalog::{Diagnostics, SiteFiles, load};

fn good() -> SiteFiles {
    common::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good"))
}

fn laid_over(folder: &Path) -> SiteFiles {
    let mut site = good();
    for (path, content) in common::read_all(folder) {
        if let Some(path) = path.strip_suffix(".append") {
            let text = String::from_utf8(content).unwrap();
            site.texts.entry(path.to_owned()).or_default().push_str(&text);
        } else if let Some(path) = path.strip_suffix(".absent") {
            site.texts.remove(path);
        } else if path != "diagnostics.txt" {
            site.insert(path, content);
        }
    }
    site
}

fn diagnostics(site: &SiteFiles) -> Diagnostics {
    match load(site, &"test".parse().unwrap()) {
        Ok(_) => panic!("this wrong site passes"),
        Err(errors) => errors,
    }
}

#[test]
fn the_good_site_is_good() {
    load(&good(), &"test".parse().unwrap()).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn every_wrong_site_gets_its_diagnostics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut folders: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 40, "{} wrong sites", folders.len());
    let bless = std::env::var_os("MUSTER_BLESS").is_some();
    let mut different = Vec::new();
    for folder in &folders {
        let errors = std::panic::catch_unwind(|| diagnostics(&laid_over(folder)));
        let text = match &errors {
            Ok(errors) => format!("{errors}\n"),
            Err(_) => "passes, or panics\n".to_owned(),
        };
        let golden = folder.join("diagnostics.txt");
        if bless {
            fs::write(&golden, &text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            different.push(format!("── {}\n{text}", folder.display()));
        }
        let Ok(errors) = errors else { panic!("{}: {text}", folder.display()) };
        for error in &errors.0 {
            for place in &error.places {
                assert!(place.line > 0 && place.column > 0 && place.width > 0, "{place:?}");
            }
        }
        // The JSON form carries the same.
        let json = serde_json::to_string(&errors).unwrap();
        assert_eq!(serde_json::from_str::<Diagnostics>(&json).unwrap(), errors);
    }
    assert!(different.is_empty(), "MUSTER_BLESS=1 accepts these:\n{}", different.join("\n"));
}

#[test]
fn twenty_errors_come_at_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let folder = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.to_string_lossy().ends_with("twenty-at-once"))
        .unwrap();
    let errors = diagnostics(&laid_over(&folder));
    assert!(errors.0.len() >= 20, "{} errors:\n{errors}", errors.0.len());
}

/// The small site with as much more in its roles as would take for ever if it took more than its length.
#[test]
fn many_mistakes_come_to_an_end() {
    let many = |count: usize, part: &dyn Fn(usize) -> String| (0..count).map(part).collect::<String>();
    let file = |number: usize, more: &str| format!("\n[[file]]\npath = \"/srv/{number}\"\n{more}\n");
    let worker = |text: String| {
        let mut site = good();
        site.texts.get_mut("roles/worker.toml").unwrap().push_str(&text);
        site
    };
    let missing = |n: usize| format!("content = \"\"\nafter = [\"file./srv/none-{n}\"]");
    let sites = [
        (worker(many(2000, &|n| file(n, &missing(n)))), 2000),
        (worker(many(2000, &|n| file(n, &format!("content = \"{{{{ node.nam{n} }}}}\"")))), 2000),
        (worker(many(2000, &|_| file(0, "content = \"\""))), 1999),
        (worker(many(2000, &|n| file(n, &format!("content = \"\"\nafter = [\"file./srv/{}\"]", (n + 1) % 2000)))), 1),
    ];
    for (site, count) in sites {
        assert_eq!(diagnostics(&site).0.len(), count);
    }
    // Roles in a long line, and in many layers with two ways through each; the last of them leads back.
    for back in [false, true] {
        let mut site = good();
        let mut add = |name: String, text: String| site.texts.insert(format!("roles/{name}.toml"), text);
        for n in 0..1000 {
            add(format!("r{n}"), format!("include = [\"r{}\"]\n", n + 1));
        }
        for n in 0..40 {
            let (one, two) = (format!("a{}", n + 1), format!("b{}", n + 1));
            for side in ["a", "b"] {
                add(format!("{side}{n}"), format!("include = [\"{one}\", \"{two}\"]\n"));
            }
        }
        let end = |name: &str| if back { format!("include = [\"{name}\"]\n") } else { String::new() };
        add("r1000".to_owned(), end("r0"));
        add("a40".to_owned(), end("a0"));
        add("b40".to_owned(), String::new());
        let base = &site.texts["roles/base.toml"];
        let base = format!("include = [\"r0\", \"a0\"]\n{base}");
        site.texts.insert("roles/base.toml".to_owned(), base);
        match load(&site, &"test".parse().unwrap()) {
            Ok(_) => assert!(!back),
            Err(errors) => {
                let circles = errors.0.iter().filter(|error| error.message.contains("in a circle")).count();
                assert!(back && circles >= 2 && circles == errors.0.len(), "{errors}");
            }
        }
    }
}
