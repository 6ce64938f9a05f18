//! One file without a site.

mod common;

use std::collections::BTreeMap;

use common::facts;
use muster_catalog::{Read, Spec, local};

fn texts(path: &str) -> Read {
    let all = [("files/motd.j2", "This is a {{ facts.arch }} machine.\n"), ("plain", "{{ as it is }}\n")];
    Ok(BTreeMap::from(all).get(path).map(|text| text.as_bytes().to_vec()))
}

#[test]
fn a_file_is_compiled_with_edges_and_texts() {
    let text = r#"
[[file]]
path = "/srv/page/index"
source = "plain"

[[file]]
path = "/etc/motd"
template = "files/motd.j2"
when = 'facts.os == "debian"'

[[directory]]
path = "/srv/page"
"#;
    let catalog = local("/root/try/a.toml", text.to_owned(), &mut texts, &facts("vm"))
        .unwrap_or_else(|errors| panic!("{errors}"));
    let ids: Vec<String> = catalog.resource.iter().map(|r| r.id().to_string()).collect();
    assert_eq!(ids, ["file./etc/motd", "directory./srv/page", "file./srv/page/index"]);
    let Spec::File(motd) = &catalog.resource[0].spec else { panic!("a file") };
    assert_eq!(motd.content.as_deref(), Some("This is a amd64 machine.\n"));
    let Spec::File(page) = &catalog.resource[2].spec else { panic!("a file") };
    assert_eq!(page.content.as_deref(), Some("{{ as it is }}\n"));
    assert_eq!(catalog.resource[2].after[0].to_string(), "directory./srv/page");
    assert_eq!((catalog.cluster.as_str(), catalog.node.as_str()), ("local", "node"));
}

#[test]
fn a_source_that_is_no_file_of_the_site_is_not_read() {
    let text = "[[mount]]\npath = \"/srv/m\"\nsource = \"/srv/a\"\noptions = [\"bind\"]\n";
    let mut read = |path: &str| -> Read { Err(format!("{path} was read")) };
    local("a.toml", text.to_owned(), &mut read, &facts("vm")).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn what_needs_a_cluster_is_refused() {
    let text =
        "include = [\"base\"]\n\n[[cluster_member]]\n\n[[file]]\npath = \"/etc/a\"\ncontent = \"{{ cluster.name }}\"\n";
    let errors = local("a.toml", text.to_owned(), &mut texts, &facts("vm")).unwrap_err().to_string();
    assert!(errors.contains("`include` belongs to a role of a site\n  ┌─ a.toml:1:12"), "{errors}");
    assert!(errors.contains("a cluster member needs a coordinator\n  ┌─ a.toml:3:1"), "{errors}");
    let text = "[[file]]\npath = \"/etc/a\"\ncontent = \"{{ cluster.name }}\"\n\n[[file]]\npath = \"/etc/b\"\nsource = \"nothing\"\n";
    let errors = local("a.toml", text.to_owned(), &mut texts, &facts("vm")).unwrap_err().to_string();
    assert!(errors.contains("`cluster.name` is not defined"), "{errors}");
    assert!(errors.contains("there is no file nothing"), "{errors}");
}

#[test]
fn errors_are_those_of_a_site() {
    let text = "[[file]]\npath = \"etc/a\"\ncontents = \"\"\n\n[[pakage]]\nname = \"x\"\n";
    let errors = local("a.toml", text.to_owned(), &mut texts, &facts("vm")).unwrap_err();
    assert_eq!(errors.0.len(), 3, "{errors}");
}

#[test]
fn ten_thousand_files_are_no_trouble() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for i in 0..10_000 {
        let _ = write!(text, "[[file]]\npath = \"/srv/many/{}/{i}\"\ncontent = \"file {i}\\n\"\n\n", i % 100);
    }
    let catalog = local("a.toml", text.to_owned(), &mut texts, &facts("vm")).unwrap();
    assert_eq!(catalog.resource.len(), 10_000);
    let toml = catalog.to_toml();
    assert_eq!(muster_catalog::Catalog::from_toml(&toml).unwrap(), catalog);
}
