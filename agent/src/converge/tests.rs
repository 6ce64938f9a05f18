//! The engine over a machine in memory.

mod drift;
mod order;
mod packages;
mod services;
mod told;

use std::{collections::BTreeMap, sync::Arc};

use muster_catalog::{
    Catalog, Resource, Spec,
    kinds::{
        command::CommandSpec,
        file::FileSpec,
        package::PackageSpec,
        service::{Disrupts, OnNotify, ServiceSpec},
    },
};
use muster_ids::{Generation, ResourceId};
use muster_plan::{
    Outcome, Report, Skip,
    kinds::service::{Again, Once},
};
use proptest::prelude::*;

use super::{ConvergeError, Engine, Options};
use crate::{
    Scope,
    adapters::fake::{FakeMachine, NoMember},
    ledger::LedgerFile,
    ports::{Files, Output, PackageError, Turn},
};

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

struct Builder(Resource);

impl Builder {
    fn after(mut self, ids: &[&str]) -> Self {
        self.0.after = ids.iter().map(|text| id(text)).collect();
        self
    }

    fn notify(mut self, ids: &[&str]) -> Self {
        self.0.notify = ids.iter().map(|text| id(text)).collect();
        self
    }
}

fn of(spec: Spec) -> Builder {
    Builder(Resource { after: Vec::new(), notify: Vec::new(), spec })
}

fn file(path: &str, content: &str) -> Builder {
    of(Spec::File(FileSpec {
        path: path.into(),
        content: Some(content.into()),
        content_base64: None,
        source: None,
        template: None,
        secret: None,
        mode: None,
        owner: "root".into(),
        group: "root".into(),
        absent: false,
    }))
}

fn absent(path: &str) -> Builder {
    let Spec::File(spec) = file(path, "").0.spec else { unreachable!() };
    of(Spec::File(FileSpec { absent: true, content: None, ..spec }))
}

fn package(name: &str) -> Builder {
    of(Spec::Package(PackageSpec { name: name.into(), version: None, hold: None, absent: false }))
}

fn service(name: &str, disrupts: Disrupts) -> Builder {
    let spec = ServiceSpec {
        name: name.into(),
        enabled: None,
        running: true,
        on_notify: OnNotify::Restart,
        disrupts,
        unmask: false,
    };
    of(Spec::Service(spec))
}

fn command(name: &str, creates: &str) -> Builder {
    of(Spec::Command(CommandSpec {
        name: name.into(),
        run: vec![name.into()],
        unless: None,
        only_if: None,
        creates: Some(creates.into()),
        on_notify: false,
        environment: BTreeMap::new(),
        timeout: 10,
        disrupts: Disrupts::Nothing,
    }))
}

fn shared<const N: usize>(resources: [Builder; N]) -> Arc<Catalog> {
    Arc::new(catalog(resources))
}

fn catalog<const N: usize>(resources: [Builder; N]) -> Catalog {
    Catalog {
        cluster: "c".parse().unwrap(),
        environment: "e".parse().unwrap(),
        node: "n-1".parse().unwrap(),
        generation: Generation { epoch: 0, counter: 1 },
        draft: false,
        resource: resources.into_iter().map(|builder| builder.0).collect(),
    }
}

const LEDGER: &str = "/var/lib/muster-agent/ledger.json";

/// A new process on the same machine.
fn engine(machine: &FakeMachine) -> Engine {
    let files: Arc<dyn Files> = Arc::clone(&machine.files) as _;
    let ledger = LedgerFile::open(files, LEDGER).unwrap();
    Engine::new(machine.context(Scope::of(&catalog([]))), ledger, Arc::new(NoMember))
}

async fn converge(machine: &FakeMachine, catalog: &Catalog) -> Report {
    engine(machine).converge(&Arc::new(catalog.clone()), &Options::default()).await.unwrap()
}

fn outcome<'a>(report: &'a Report, resource: &str) -> &'a Outcome {
    let resource = id(resource);
    report.steps.iter().find(|step| step.resource == resource).map_or(&Outcome::AlreadyRight, |step| &step.outcome)
}
