//! The coordinator's host: everything of it is real, and its folder outlives its crashes.

use std::{collections::BTreeMap, sync::Arc};

use age::secrecy::ExposeSecret as _;
use muster_coordinator::{
    app::{Parts, start},
    backup,
    ca::Authority,
    cloud::Bootstrap,
    secrets::MasterKey,
    state::{Local, Root},
    store::{Sqlite, Store as _},
};

use crate::{network::Listen, node::PORT, plants::Plant, stage::Stage};

/// Opens the folder's CA; made where it is not there.
pub fn authority(stage: &Stage) -> Authority {
    std::fs::create_dir_all(stage.state()).unwrap();
    Authority::open_or_create(&stage.state(), Stage::realm(), Arc::new(stage.clock.clone())).unwrap()
}

/// The daemon, from its start to the crash of its host.
pub async fn coordinator(stage: Arc<Stage>) -> turmoil::Result {
    stage.tell("the coordinator starts");
    let folder = stage.state();
    let parts = Parts {
        realm: Stage::realm(),
        authority: Arc::new(authority(&stage)),
        store: Arc::new(Sqlite::open(&folder.join(backup::STORE))?),
        local: Arc::new(Local::open(&folder.join(backup::LOCAL))?),
        master: MasterKey::open_or_create(&folder)?,
        cloud: Arc::new(stage.cloud.clone()),
        clock: Arc::new(stage.clock.clone()),
        node_image: "muster-node:1".to_owned(),
        provided: BTreeMap::new(),
        state_dir: folder,
        seed: stage.seed.max(1),
        boot: Arc::new(|_, _| Bootstrap { user_data: "#!/bin/sh\n".to_owned() }),
        agent: None,
    };
    let running = start(parts, Listen::on(PORT).await?, None)?;
    *stage.coordinator.lock().unwrap() = Some(running.ctx.clone());
    running.ended().await?;
    Ok(())
}

impl Stage {
    /// The coordinator's disk is lost, and a backup restored onto an empty one. It is away meanwhile.
    pub fn restores(&self, sealed: &[u8], identity: &age::x25519::Identity) {
        let folder = self.state();
        std::fs::remove_dir_all(&folder).unwrap();
        let secret = identity.to_string().expose_secret().to_owned();
        backup::restore(&folder, sealed, &secret, &Self::realm(), self.clock.seconds()).unwrap();
        if self.plant == Plant::NoEpoch {
            self.edits(|root| {
                root.highest.epoch = 1;
                if let Some(current) = &mut root.current {
                    current.generation = root.highest;
                }
            });
        }
        *self.restored.lock().unwrap() += 1;
    }

    /// The planted fault: revocations are gone after a crash.
    pub fn forgives(&self) {
        self.edits(|root| root.identities.revocations = Default::default());
    }

    /// The planted fault: which enrolment tokens were used is gone after a crash.
    pub fn renews_tokens(&self) {
        self.edits(|root| root.identities.tokens.values_mut().for_each(|token| token.used = None));
    }

    /// Somebody edits the record while no coordinator runs.
    fn edits(&self, edit: impl FnOnce(&mut Root)) {
        let store = Sqlite::open(&self.state().join(backup::STORE)).unwrap();
        let environment = Self::realm().environment;
        let Some((text, version)) = store.root(&environment).unwrap() else { return };
        let mut root = Root::from_json(&text).unwrap();
        edit(&mut root);
        store.put_root(&environment, &root.to_json(), Some(&version)).unwrap();
    }

    /// What a planted fault gives back at a crash: the store as it is now.
    pub fn keeps(&self) {
        let (store, kept) = (self.state().join(backup::STORE), self.folder.join("kept.db"));
        let _ = std::fs::remove_file(&kept);
        if let Ok(connection) = rusqlite::Connection::open(store) {
            let _ = connection.execute("VACUUM INTO ?1", [kept.to_string_lossy().as_ref()]);
        }
    }

    /// The planted fault: the disk forgets what was written last.
    pub fn forgets(&self) {
        let (store, kept) = (self.state().join(backup::STORE), self.folder.join("kept.db"));
        if kept.exists() {
            for end in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", store.display()));
            }
            std::fs::copy(kept, store).unwrap();
        }
    }
}
