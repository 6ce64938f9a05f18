//! What the tests share: reading a site from its folder, and made-up nodes.
#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use muster_catalog::{
    Facts, NodeInput, Site, SiteFiles,
    kinds::{cluster_member::Start, pod_network::Peer},
};
use muster_ids::NodeName;

/// The files of a site that begins at `root`: what the command line sends.
pub fn read(root: &Path) -> SiteFiles {
    let mut files = SiteFiles::default();
    for folder in ["", "environments", "roles", "roles/files", "apps"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten().filter(|e| e.path().is_file()) {
            let name = entry.file_name().into_string().unwrap();
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if !folder.is_empty() || path == "muster.toml" {
                files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

/// The shipped site.
pub fn shipped() -> SiteFiles {
    read(Path::new(env!("CARGO_MANIFEST_DIR")))
}

pub fn facts(virtualization: &str) -> Facts {
    Facts {
        hostname: "node".to_owned(),
        os: "debian".to_owned(),
        os_version: "12".to_owned(),
        arch: "amd64".to_owned(),
        kernel: "6.1.0".to_owned(),
        virtualization: virtualization.to_owned(),
        cgroup: 1,
        cpus: 2,
        memory: 24 << 30,
        machine_cpus: 2,
        machine_memory: 24 << 30,
        address: "192.168.7.11".to_owned(),
        interface: "eth0".to_owned(),
    }
}

/// The first node of a pool.
pub fn node(site: &Site, pool: &str, facts: Facts) -> NodeInput {
    let pool = pool.parse().unwrap();
    NodeInput {
        name: NodeName::of(&pool, 1),
        address: "192.168.7.11".parse().unwrap(),
        node_pods: "10.244.1.0/24".parse().unwrap(),
        peers: vec![Peer {
            name: "workers-2".to_owned(),
            address: "192.168.7.12".to_owned(),
            pods: "10.244.2.0/24".to_owned(),
        }],
        start: Start::Join,
        gone: Vec::new(),
        refused: Default::default(),
        endpoints: site
            .endpoints
            .keys()
            .map(|name| (name.clone(), IpAddr::from([192, 168, 7, if name.as_str() == "api" { 2 } else { 3 }])))
            .collect(),
        left_sets: [].into(),
        disks: site.disks.iter().filter(|(_, d)| d.pool == pool).map(|(name, _)| name.clone()).collect(),
        pool,
        facts,
    }
}

/// Every file below `root`, by path.
pub fn read_all(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, into);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                into.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut into = BTreeMap::new();
    walk(root, root, &mut into);
    into
}

/// Compares a text with its golden file; `MUSTER_BLESS=1` writes the file anew.
pub fn holds(path: &Path, text: &str) {
    if std::env::var_os("MUSTER_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    if golden == text {
        return;
    }
    let first = golden.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(0);
    panic!(
        "{} differs from line {}:\n- {}\n+ {}\nMUSTER_BLESS=1 cargo test -p muster-catalog accepts it",
        path.display(),
        first + 1,
        golden.lines().nth(first).unwrap_or_default(),
        text.lines().nth(first).unwrap_or_default(),
    );
}
