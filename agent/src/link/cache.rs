//! Which catalogs are believed, from the wire and from disk alike: signed by this environment's coordinator, for this node,
//! and never older than one that was believed before.
//!
//! The last one is `catalog.toml`, whose last line is its signature, so that both change together; the highest generation
//! ever believed is `generation.json`. The catalog is written first: a crash in between leaves a newer catalog than the mark,
//! which is right.

use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use muster_catalog::catalog::{Catalog, InvalidCatalog};
use muster_ids::{Digest, Generation, NodeName};
use muster_proto::{
    Realm,
    signed::{CatalogKey, SignatureError},
    v1::SignedCatalog,
};
use serde::{Deserialize, Serialize};

use super::disk::{self, DiskError};

const SIGNATURE: &str = "# signature ";

/// Why a catalog is not applied. Nothing of it is.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the catalog is not the coordinator's")]
    Signature(#[from] SignatureError),
    #[error("the catalog cannot be understood by this agent")]
    Invalid(#[from] InvalidCatalog),
    #[error("the catalog is of {found}, and this is {expected}")]
    Realm { found: Realm, expected: Realm },
    #[error("the catalog is for {found}, and this is {expected}")]
    Node { found: NodeName, expected: NodeName },
    #[error("the catalog has generation {found}, and {newest} was seen before")]
    Older { found: Generation, newest: Generation },
    #[error("the catalog has generation {0} again, with other content")]
    OtherContent(Generation),
    #[error("the catalog is a draft: it can be planned and never applied")]
    Draft,
    #[error("the catalog is none of a draft")]
    NoDraft,
    #[error("the cached catalog has no signature")]
    Unsigned,
    #[error("the catalog's files cannot be used")]
    Disk(#[from] DiskError),
    #[error("the mark of the newest generation is damaged")]
    Mark(#[source] serde_json::Error),
}

/// A catalog that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub catalog: Catalog,
    /// The digest of its text.
    pub etag: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    generation: Generation,
    etag: Digest,
}

/// The last catalog and the mark.
#[derive(Debug, Clone)]
pub struct CatalogCache {
    catalog: PathBuf,
    mark: PathBuf,
}

impl CatalogCache {
    /// In `state`.
    pub fn new(state: &Path) -> Self {
        Self { catalog: state.join("catalog.toml"), mark: state.join("generation.json") }
    }

    /// The last catalog, if there is one and it is believed.
    pub fn load(&self, key: &CatalogKey, realm: &Realm, node: &NodeName) -> Result<Option<Received>, Refused> {
        let Some(bytes) = disk::read(&self.catalog)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let (toml, line) = text.rsplit_once(SIGNATURE).ok_or(Refused::Unsigned)?;
        let signature = BASE64_STANDARD.decode(line.trim_end()).map_err(|_| Refused::Unsigned)?;
        let signed = SignedCatalog { toml: toml.to_owned(), signature, etag: Digest::of(toml).to_string() };
        let received = self.accept(&signed, key, realm, node)?;
        // After a crash between the two files the mark is behind: then catch up before anything older can be believed.
        self.raise(&received)?;
        Ok(Some(received))
    }

    /// Believes a catalog from the wire, and keeps it.
    pub fn receive(
        &self,
        signed: &SignedCatalog,
        key: &CatalogKey,
        realm: &Realm,
        node: &NodeName,
    ) -> Result<Received, Refused> {
        let received = self.accept(signed, key, realm, node)?;
        let text = format!("{}{SIGNATURE}{}\n", signed.toml, BASE64_STANDARD.encode(&signed.signature));
        // Readable by root alone: what a node runs is nobody else's business.
        disk::write(&self.catalog, text.as_bytes(), 0o600)?;
        self.raise(&received)?;
        Ok(received)
    }

    fn accept(
        &self,
        signed: &SignedCatalog,
        key: &CatalogKey,
        realm: &Realm,
        node: &NodeName,
    ) -> Result<Received, Refused> {
        let catalog = read(signed, key, realm, node)?;
        if catalog.draft {
            return Err(Refused::Draft);
        }
        let etag = Digest::of(&signed.toml);
        if let Some(Mark { generation, etag: seen }) = self.mark()? {
            if catalog.generation < generation {
                return Err(Refused::Older { found: catalog.generation, newest: generation });
            }
            if catalog.generation == generation && etag != seen {
                return Err(Refused::OtherContent(generation));
            }
        }
        Ok(Received { catalog, etag })
    }

    fn mark(&self) -> Result<Option<Mark>, Refused> {
        let Some(bytes) = disk::read(&self.mark)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(Refused::Mark)
    }

    fn raise(&self, received: &Received) -> Result<(), Refused> {
        let mark = Mark { generation: received.catalog.generation, etag: received.etag };
        if self.mark()?.as_ref() == Some(&mark) {
            return Ok(());
        }
        let text = serde_json::to_vec(&mark).map_err(Refused::Mark)?;
        Ok(disk::write(&self.mark, &text, 0o600)?)
    }
}

/// A draft, to be planned. It leaves no trace: neither cache nor mark.
pub fn read_draft(
    signed: &SignedCatalog,
    key: &CatalogKey,
    realm: &Realm,
    node: &NodeName,
) -> Result<Catalog, Refused> {
    let catalog = read(signed, key, realm, node)?;
    if catalog.draft { Ok(catalog) } else { Err(Refused::NoDraft) }
}

/// Signed, of this environment, for this node.
fn read(signed: &SignedCatalog, key: &CatalogKey, realm: &Realm, node: &NodeName) -> Result<Catalog, Refused> {
    let catalog = Catalog::from_toml(key.verify(signed)?)?;
    let found = Realm { cluster: catalog.cluster.clone(), environment: catalog.environment.clone() };
    if found != *realm {
        return Err(Refused::Realm { found, expected: realm.clone() });
    }
    if catalog.node != *node {
        return Err(Refused::Node { found: catalog.node, expected: node.clone() });
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    use muster_proto::signed::CatalogSigner;

    use super::*;

    struct Setup {
        folder: tempfile::TempDir,
        signer: CatalogSigner,
        key: CatalogKey,
        realm: Realm,
        node: NodeName,
    }

    fn setup() -> Setup {
        let signer = CatalogSigner::generate().unwrap();
        Setup {
            folder: tempfile::tempdir().unwrap(),
            key: CatalogKey::from_pem(&signer.public_pem()).unwrap(),
            signer,
            realm: Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() },
            node: "workers-1".parse().unwrap(),
        }
    }

    impl Setup {
        fn catalog(&self, counter: u64) -> Catalog {
            Catalog {
                cluster: self.realm.cluster.clone(),
                environment: self.realm.environment.clone(),
                node: self.node.clone(),
                generation: Generation { epoch: 1, counter },
                draft: false,
                resource: vec![],
            }
        }

        fn sign(&self, catalog: &Catalog) -> SignedCatalog {
            self.signer.sign(catalog.to_toml()).unwrap()
        }

        fn cache(&self) -> CatalogCache {
            CatalogCache::new(self.folder.path())
        }

        fn receive(&self, signed: &SignedCatalog) -> Result<Received, Refused> {
            self.cache().receive(signed, &self.key, &self.realm, &self.node)
        }

        fn load(&self) -> Result<Option<Received>, Refused> {
            self.cache().load(&self.key, &self.realm, &self.node)
        }
    }

    #[test]
    fn what_was_received_is_there_after_a_restart() {
        let setup = setup();
        assert!(setup.load().unwrap().is_none());
        let received = setup.receive(&setup.sign(&setup.catalog(3))).unwrap();
        assert_eq!(setup.load().unwrap(), Some(received));
    }

    #[test]
    fn tampered_foreign_older_and_draft_catalogs_are_refused_and_change_nothing() {
        let setup = setup();
        let good = setup.receive(&setup.sign(&setup.catalog(5))).unwrap();

        let mut tampered = setup.sign(&setup.catalog(6));
        tampered.toml = tampered.toml.replace("counter = 6", "counter = 7");
        tampered.etag = Digest::of(&tampered.toml).to_string();
        assert!(matches!(setup.receive(&tampered), Err(Refused::Signature(_))));

        let other_node = Catalog { node: "workers-2".parse().unwrap(), ..setup.catalog(6) };
        assert!(matches!(setup.receive(&setup.sign(&other_node)), Err(Refused::Node { .. })));
        let other_cluster = Catalog { cluster: "other".parse().unwrap(), ..setup.catalog(6) };
        assert!(matches!(setup.receive(&setup.sign(&other_cluster)), Err(Refused::Realm { .. })));
        let other_environment = Catalog { environment: "prod".parse().unwrap(), ..setup.catalog(6) };
        assert!(matches!(setup.receive(&setup.sign(&other_environment)), Err(Refused::Realm { .. })));

        assert!(matches!(setup.receive(&setup.sign(&setup.catalog(4))), Err(Refused::Older { .. })));
        let draft = Catalog { draft: true, ..setup.catalog(6) };
        assert!(matches!(setup.receive(&setup.sign(&draft)), Err(Refused::Draft)));
        let resource = muster_catalog::catalog::Resource {
            after: vec![],
            notify: vec![],
            spec: toml::from_str("[group]\nname = \"staff\"").unwrap(),
        };
        let same_generation = Catalog { resource: vec![resource], ..setup.catalog(5) };
        assert!(matches!(setup.receive(&setup.sign(&same_generation)), Err(Refused::OtherContent(_))));
        let foreign = CatalogSigner::generate().unwrap().sign(setup.catalog(6).to_toml()).unwrap();
        assert!(matches!(setup.receive(&foreign), Err(Refused::Signature(_))));

        assert_eq!(setup.load().unwrap(), Some(good), "what was believed stays");
        // A recovered coordinator publishes under a higher epoch, with a lower counter perhaps.
        let recovered = Catalog { generation: Generation { epoch: 2, counter: 1 }, ..setup.catalog(0) };
        assert!(setup.receive(&setup.sign(&recovered)).is_ok());
    }

    #[test]
    fn the_cache_is_not_believed_more_than_the_wire() {
        let setup = setup();
        setup.receive(&setup.sign(&setup.catalog(5))).unwrap();
        let path = setup.folder.path().join("catalog.toml");
        let old = std::fs::read_to_string(&path).unwrap();
        setup.receive(&setup.sign(&setup.catalog(6))).unwrap();

        std::fs::write(&path, &old).unwrap();
        assert!(matches!(setup.load(), Err(Refused::Older { .. })));
        std::fs::write(&path, old.replace("counter = 5", "counter = 9")).unwrap();
        assert!(matches!(setup.load(), Err(Refused::Signature(_))));
        std::fs::write(&path, setup.catalog(9).to_toml()).unwrap();
        assert!(matches!(setup.load(), Err(Refused::Unsigned)));
    }

    #[test]
    fn a_crash_between_catalog_and_mark_is_forgiven() {
        let setup = setup();
        setup.receive(&setup.sign(&setup.catalog(5))).unwrap();
        let mark = std::fs::read(setup.folder.path().join("generation.json")).unwrap();
        let received = setup.receive(&setup.sign(&setup.catalog(6))).unwrap();
        std::fs::write(setup.folder.path().join("generation.json"), mark).unwrap();
        assert_eq!(setup.load().unwrap(), Some(received));
    }

    #[test]
    fn a_draft_is_planned_and_leaves_no_trace() {
        let setup = setup();
        let signed = setup.sign(&Catalog { draft: true, ..setup.catalog(6) });
        assert!(read_draft(&signed, &setup.key, &setup.realm, &setup.node).is_ok());
        assert!(setup.load().unwrap().is_none());
        let applied = setup.sign(&setup.catalog(6));
        assert!(matches!(read_draft(&applied, &setup.key, &setup.realm, &setup.node), Err(Refused::NoDraft)));
    }
}
