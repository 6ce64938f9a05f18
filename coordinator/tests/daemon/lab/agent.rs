//! Agents that are nothing but gRPC clients with real certificates.

use std::time::Duration;

use muster_catalog::{Catalog, Facts, Spec, kinds::cluster_member::Start};
use muster_ids::Generation;
use muster_plan::{
    Outcome, Report, Row, StepReport,
    cluster::{ClusterReport, Dns, Member, MemberState, NodeCondition},
};
use muster_proto::{
    Clock as _, SystemClock,
    signed::CatalogKey,
    tls::Credentials,
    v1::{self, agent_client::AgentClient, push},
};
use tonic::{Status as GrpcStatus, Streaming, transport::Channel};

use super::node;

/// A client that plays an agent.
#[derive(Clone)]
pub struct Agent {
    pub name: String,
    pub client: AgentClient<Channel>,
    pub catalog_key: CatalogKey,
    pub credentials: Credentials,
    pub kernel: String,
}

/// How an agent that runs by itself answers.
#[derive(Clone, Default)]
pub struct Behaviour {
    /// Its catalogs fail from this generation's content on.
    pub fails_on: Option<String>,
    /// It plans nothing: drafts stay unanswered.
    pub mute: bool,
    /// It does not tell how the cluster is.
    pub quiet: bool,
    /// Asked to leave the cluster it falls silent for good.
    pub dies: bool,
}

impl Agent {
    pub fn facts(&self) -> Facts {
        Facts {
            hostname: self.name.clone(),
            os: "debian".to_owned(),
            os_version: "12".to_owned(),
            arch: "amd64".to_owned(),
            kernel: self.kernel.clone(),
            virtualization: "container".to_owned(),
            cgroup: 1,
            cpus: 2,
            ..Facts::default()
        }
    }

    /// Pulls; absent where the etag is still right. The signature, the node and `draft` are checked.
    pub async fn pull(&self, etag: &str) -> Result<Option<(Catalog, String)>, GrpcStatus> {
        let facts_json = serde_json::to_string(&self.facts()).unwrap();
        let request = v1::PullRequest { facts_json, etag: etag.to_owned() };
        let reply = self.client.clone().pull(request).await?.into_inner();
        Ok(reply.catalog.map(|signed| {
            let catalog = Catalog::from_toml(self.catalog_key.verify(&signed).unwrap()).unwrap();
            assert_eq!(catalog.node, node(&self.name));
            assert!(!catalog.draft, "a draft must never be given to be applied");
            (catalog, signed.etag)
        }))
    }

    pub async fn report(&self, generation: Generation, report: &Report) {
        self.try_report(generation, report).await.unwrap();
    }

    async fn try_report(&self, generation: Generation, report: &Report) -> Result<(), GrpcStatus> {
        let request = v1::ReportRequest {
            generation: Some(generation.into()),
            report_json: serde_json::to_string(report).unwrap(),
            ..v1::ReportRequest::default()
        };
        self.client.clone().report(request).await.map(drop)
    }

    pub async fn watch(&self) -> Streaming<v1::Push> {
        self.client.clone().watch(v1::WatchRequest { session: "1".to_owned() }).await.unwrap().into_inner()
    }

    /// Runs by itself, as a real agent would: pulls what is pushed, reports, answers drafts; dials again when cut off.
    pub fn run(self, behaviour: Behaviour) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            // Ends with this task.
            let mut leads = tokio::task::JoinSet::new();
            if self.name.starts_with("control-plane") && !behaviour.quiet {
                leads.spawn(self.clone().leads());
            }
            loop {
                let mut client = self.client.clone();
                if let Ok(stream) = client.watch(v1::WatchRequest { session: "1".to_owned() }).await {
                    self.follow(stream.into_inner(), &behaviour).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }

    /// Tells now and then what the cluster is: every node of its catalog serves, every control plane votes.
    async fn leads(self) {
        loop {
            if let Ok(Some((catalog, _))) = self.pull("").await {
                let _ = self.report_cluster(&self.cluster(&catalog)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The cluster as this node's catalog wants it.
    pub fn cluster(&self, catalog: &Catalog) -> ClusterReport {
        let peers = catalog.resource.iter().flat_map(|resource| match &resource.spec {
            Spec::PodNetwork(network) => network.peers.iter().map(|peer| peer.name.clone()).collect(),
            _other => vec![],
        });
        let names: Vec<String> = peers.chain([self.name.clone()]).collect();
        let members = names.iter().filter(|name| name.starts_with("control-plane"));
        let member = |name: &String| Member { node: name.clone(), state: MemberState::Voter };
        let members = members.map(member).collect();
        let well = NodeCondition { ready: true, why: None, cordoned: false };
        let wanted = u32::try_from(names.len()).unwrap();
        let nodes = names.into_iter().map(|name| (name, well.clone())).collect();
        ClusterReport { nodes, members: Some(members), dns: Some(Dns { wanted, ready: wanted }) }
    }

    pub async fn report_cluster(&self, report: &ClusterReport) -> Result<(), GrpcStatus> {
        let report_json = serde_json::to_string(report).unwrap();
        self.client.clone().report_cluster(v1::ClusterSeen { report_json }).await.map(drop)
    }

    async fn follow(&self, mut stream: Streaming<v1::Push>, behaviour: &Behaviour) {
        while let Ok(Some(v1::Push { push: Some(push) })) = stream.message().await {
            match push {
                push::Push::Generation(_) | push::Push::Converge(_) => {
                    let Ok(Some((catalog, _))) = self.pull("").await else { continue };
                    let fails = behaviour.fails_on.as_ref().is_some_and(|text| catalog.to_toml().contains(text));
                    let leaves = catalog.resource.iter().any(|resource| {
                        matches!(&resource.spec, Spec::ClusterMember(member) if member.start == Start::Leave)
                    });
                    let mut report = if fails { failed() } else { converged() };
                    if leaves && behaviour.dies {
                        std::future::pending::<()>().await;
                    }
                    if leaves {
                        // It has left: its kubelet knows of no cluster any more.
                        report.node_ready = None;
                    }
                    if self.try_report(catalog.generation, &report).await.is_err() {
                        return;
                    }
                }
                push::Push::Draft(draft) if !behaviour.mute => {
                    let signed = draft.catalog.unwrap();
                    let catalog = Catalog::from_toml(self.catalog_key.verify(&signed).unwrap()).unwrap();
                    assert!(catalog.draft, "what is to be planned alone says so");
                    let rows = self.planned(&catalog).await;
                    let rows_json = serde_json::to_string(&rows).unwrap();
                    let answer = v1::DraftAnswer { id: draft.id, rows_json, error: String::new() };
                    let _ = self.client.clone().answer_draft(answer).await;
                }
                push::Push::Mint(mint) => {
                    let ticket = v1::JoinTicket {
                        token: format!("token-for-{}", mint.node),
                        ca_hash: "sha256:00".to_owned(),
                        certificate_key: if mint.control_plane { "key".to_owned() } else { String::new() },
                        expires: SystemClock.now() + 600,
                    };
                    let offer = v1::JoinOffer { id: mint.id, ticket: Some(ticket), error: String::new() };
                    let _ = self.client.clone().offer_join(offer).await;
                }
                push @ (push::Push::Sign(_) | push::Push::SignViewer(_)) => {
                    let (sign, may) = match push {
                        push::Push::SignViewer(sign) => (sign, ", who may look"),
                        push::Push::Sign(sign) => (sign, ""),
                        _ => return,
                    };
                    let offer = v1::SignedOffer {
                        id: sign.id,
                        certificate_pem: format!("certificate of {}{may}", sign.user),
                        ca_pem: "ca".to_owned(),
                        error: String::new(),
                    };
                    let _ = self.client.clone().offer_signed(offer).await;
                }
                push::Push::Draft(_) | push::Push::Alive(_) | push::Push::PauseUntil(_) => {}
            }
        }
    }

    /// A row for each file whose content differs from the catalog that the node would get now.
    async fn planned(&self, draft: &Catalog) -> Vec<Row> {
        let Ok(Some((now, _))) = self.pull("").await else { return vec![] };
        let differs = draft.resource.iter().filter(|resource| !now.resource.contains(resource));
        differs
            .map(|resource| Row {
                resource: resource.id(),
                action: muster_plan::row::Action::Change,
                certainty: muster_plan::Certainty::Certain,
                detail: vec![format!("{:?}", muster_ids::Digest::of(format!("{resource:?}")))],
                reason: "the catalog changed".to_owned(),
                disrupts: Default::default(),
            })
            .collect()
    }
}

/// All is right, and the node serves.
pub fn converged() -> Report {
    Report { converged: true, already_right: 3, node_ready: Some(true), ..Report::default() }
}

/// A failure that will not pass.
pub fn failed() -> Report {
    let outcome = Outcome::Failed { error: "no such user".to_owned(), help: None, retry: false };
    let step =
        StepReport { resource: "file./etc/motd".parse().unwrap(), outcome, detail: vec![], notes: vec![], took: 1 };
    Report { steps: vec![step], node_ready: Some(true), ..Report::default() }
}
