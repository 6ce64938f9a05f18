//! Membership of the cluster: looks at kubeadm's files and the Node object, and walks the way in.

use std::{collections::BTreeSet, time::Duration};

use muster_catalog::kinds::cluster_member::{ClusterMemberSpec, MemberRole, Start};
use muster_plan::kinds::cluster_member::{
    Change, Files, Known, Membership, Observed, Obstacle, STATIC_PODS, Stage, Way, may_vote, obstacle, wanted_labels,
};

use crate::{
    Context, Done, StepError,
    cluster::{
        KUBERNETES, birth, burial, dns, etcd, join, kubeadm,
        lease::{self, Holder},
        leave, lost, membership, node, reach, refuse, settings,
    },
};

pub async fn observe(ctx: &Context, spec: &ClusterMemberSpec) -> Result<Observed, StepError> {
    let membership = membership::read(&*ctx.files)?;
    if let Some(note) = &membership
        && note.name != spec.name
    {
        return Err(StepError::failed(format!("this machine is the member {}, not {}", note.name, spec.name))
            .help("a node's name is never given to another machine: replace the node instead"));
    }
    let files = files(ctx)?;
    // Someone else's data is not for us to clear away.
    if membership.is_none() && spec.start == Start::Init && files.etcd_data {
        return Err(StepError::failed("a cluster was to begin here, and /var/lib/etcd holds another's data")
            .help("restore that cluster, or move /var/lib/etcd away; then the agent goes on"));
    }
    let asks = files.kubelet_conf || !files.manifests.is_empty() || files.etcd_data;
    let node = if asks { reach::known(ctx, spec, membership.as_ref()).await } else { Known::NoCredentials };
    let seen = Observed { membership, files, node, ..Observed::default() };
    match obstacle(spec, &seen) {
        Some(Obstacle::Waits(what)) => return Err(StepError::waits(what)),
        Some(Obstacle::Stuck { message, help }) => return Err(StepError::failed(message).help(help)),
        None => {}
    }
    let Observed { membership, files, node, .. } = seen;
    // Who is no member, or not whole, does not speak for the cluster.
    let member = membership.as_ref().is_some_and(|note| note.stage == Stage::Member) && spec.start != Start::Leave;
    let whole = files.kubelet_conf && STATIC_PODS.iter().all(|pod| files.manifests.contains(*pod));
    let remains = if member && whole { burial::remains(ctx, spec).await? } else { BTreeSet::new() };
    let kubelet = if member && files.kubelet_conf { Some(settings::kubelet(ctx, spec)?) } else { None };
    let mut observed = Observed { membership, files, node, remains, kubelet, ..Observed::default() };
    if member && whole && spec.role == MemberRole::ControlPlane && birth::does_without_data(ctx)? {
        observed.loose_etcd = votes(ctx).await;
    }
    if member
        && whole
        && spec.role == MemberRole::ControlPlane
        && !spec.tries
        && let Some(client) = leading(ctx).await
    {
        observed.proxy = settings::proxy(ctx, &client, spec).await?;
        observed.dns = Some(dns::seen(&client, spec).await?);
        if !spec.refused.is_empty() {
            observed.refused = Some(refuse::seen(&client, &spec.refused).await?);
        }
        observed.workers = node::workers(&client, &spec.workers).await?;
    }
    Ok(observed)
}

/// A client where this node leads. An API that does not answer is others' to report.
async fn leading(ctx: &Context) -> Option<kube::Client> {
    let client = ctx.kube.client().await.ok()?;
    let asked = lease::holder(&client, ctx.scope.node.as_str());
    let holder = tokio::time::timeout(Duration::from_secs(5), asked).await.ok()?.ok()?;
    (holder == Holder::This).then_some(client)
}

/// How many members of etcd vote; none where this node's own does not say.
async fn votes(ctx: &Context) -> Option<u32> {
    let own = etcd::Etcd::at(&*ctx.files, &etcd::client_url("127.0.0.1")).ok()?;
    let members = tokio::time::timeout(Duration::from_secs(2), own.members()).await.ok()?.ok()?;
    u32::try_from(members.iter().filter(|member| !member.learner && !member.name.is_empty()).count()).ok()
}

fn files(ctx: &Context) -> Result<Files, StepError> {
    let there = |path: &str| -> Result<bool, StepError> { Ok(ctx.files.stat(path)?.is_some()) };
    let manifests: BTreeSet<String> = ctx
        .files
        .list(&format!("{KUBERNETES}/manifests"))?
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    Ok(Files {
        kubelet_conf: there(&format!("{KUBERNETES}/kubelet.conf"))?,
        bootstrap_conf: there(&format!("{KUBERNETES}/bootstrap-kubelet.conf"))?,
        manifests,
        etcd_data: there("/var/lib/etcd/member")?,
        etcd_log: lost::has_log(ctx)?,
    })
}

pub async fn apply(ctx: &Context, spec: &ClusterMemberSpec, change: &Change) -> Result<Done, StepError> {
    match change {
        Change::Several(changes) => {
            let mut notes = Vec::new();
            for change in changes {
                notes.extend(Box::pin(apply(ctx, spec, change)).await?.notes);
            }
            Ok(Done { notes })
        }
        Change::Configure { differences: _ } => settings::configure(ctx, spec).await,
        Change::Proxy { wanted } => settings::write_proxy(ctx, spec, wanted).await,
        Change::Dns { wanted: _ } => dns::write(ctx, spec).await,
        Change::Refuse { names } => {
            refuse::write(&ctx.kube.client().await?, names).await?;
            Ok(Done::default())
        }
        Change::Register => register(ctx, spec).await,
        Change::SecureEtcd => {
            birth::secure_etcd(ctx, spec).await?;
            Ok(Done::default())
        }
        Change::Become { role, start, way } => become_member(ctx, spec, *role, *start, *way).await,
        Change::Adopt => {
            let mut note = blank(spec, spec.start);
            note.labels = wanted_labels(spec).into_keys().collect();
            note.kubelet = Some(settings::kubelet(ctx, spec)?.now);
            membership::reach(&*ctx.files, &mut note, Stage::Member)?;
            Ok(Done::default())
        }
        Change::Credentials => {
            join::renew_credentials(ctx, spec).await?;
            Ok(Done::default())
        }
        Change::Restore { manifests } => {
            birth::restore(ctx, spec, manifests).await?;
            Ok(Done::default())
        }
        Change::MarkWorkers { nodes } => {
            let client = ctx.kube.client().await?;
            for (name, marking) in nodes {
                node::mark_worker(&client, name, marking).await?;
            }
            Ok(Done::default())
        }
        Change::Bury { nodes } => burial::bury(ctx, spec, nodes).await,
        Change::Mark { set, remove, taints } => {
            let client = ctx.kube.client().await?;
            node::mark(&client, &spec.name, set, remove, taints.as_deref()).await?;
            if let Some(mut note) = membership::read(&*ctx.files)? {
                note.labels = wanted_labels(spec).into_keys().collect();
                membership::write(&*ctx.files, &note)?;
            }
            Ok(Done::default())
        }
        Change::Leave { role: _, known } => leave::leave(ctx, spec, *known).await,
    }
}

/// kubelet makes its Node at its start, and never again while it runs.
async fn register(ctx: &Context, spec: &ClusterMemberSpec) -> Result<Done, StepError> {
    let client = ctx.kube.client().await?;
    if node::seen(&client, &spec.name).await?.is_none() {
        ctx.units.restart("kubelet.service").await?;
    }
    let Some(mut note) = membership::read(&*ctx.files)? else {
        return Err(StepError::failed("the note of this node's membership went away").retry());
    };
    node::settle(ctx, &client, spec, &mut note).await?;
    Ok(Done { notes: vec![format!("the Node {} was gone and is registered again", spec.name)] })
}

async fn become_member(
    ctx: &Context,
    spec: &ClusterMemberSpec,
    role: MemberRole,
    start: Start,
    way: Way,
) -> Result<Done, StepError> {
    // What cannot be read is told before anything is thrown away.
    kubeadm::fragments(ctx, spec)?;
    kubeadm::wait_for_others(ctx).await?;
    let mut note = match way {
        Way::Fresh => blank(spec, start),
        Way::Continue { from: _ } => {
            let mut note = membership::read(&*ctx.files)?.unwrap_or_else(|| blank(spec, start));
            note.resumed += 1;
            note
        }
        Way::StartOver => {
            let noted = membership::read(&*ctx.files)?;
            if may_vote(start, noted.as_ref(), &files(ctx)?) {
                leave::give_up_vote(ctx, spec).await?;
            }
            kubeadm::reset(ctx).await?;
            blank(spec, start)
        }
        Way::Rejoin => {
            let noted = membership::read(&*ctx.files)?.is_some_and(|note| note.stage == Stage::Member);
            if noted && role == MemberRole::ControlPlane {
                lost::for_good(ctx)?;
                leave::give_up_lost_vote(ctx, spec).await?;
                lost::still(ctx)?;
            } else {
                leave::give_up_vote(ctx, spec).await?;
            }
            kubeadm::reset(ctx).await?;
            lost::forget(ctx)?;
            blank(spec, start)
        }
    };
    membership::write(&*ctx.files, &note)?;
    // kubeadm starts it; after a reboot systemd has to.
    ctx.units.enable("kubelet.service").await?;
    let walked = match (role, start) {
        (MemberRole::ControlPlane, Start::Init) => birth::begin(ctx, spec, &mut note).await.map(|()| Vec::new()),
        (MemberRole::ControlPlane, Start::Join) | (MemberRole::Worker, Start::Join | Start::Init) => {
            join::join(ctx, spec, &mut note).await
        }
        (MemberRole::ControlPlane | MemberRole::Worker, Start::Leave) => Ok(Vec::new()),
    };
    if matches!(walked, Err(StepError::Skip(_))) && note.resumed > 0 {
        // What waits has not failed: it says nothing against going on with what is there.
        note.resumed -= 1;
        membership::write(&*ctx.files, &note)?;
    }
    Ok(Done { notes: walked? })
}

fn blank(spec: &ClusterMemberSpec, start: Start) -> Membership {
    Membership {
        version: Membership::VERSION,
        name: spec.name.clone(),
        role: spec.role,
        start,
        stage: Stage::Begun,
        resumed: 0,
        labels: BTreeSet::new(),
        kubelet: None,
    }
}

#[cfg(test)]
mod tests {
    use muster_plan::Skip;

    use super::*;
    use crate::{adapters::fake::FakeMachine, ports::Output};

    fn spec() -> ClusterMemberSpec {
        let spec = serde_json::json!({
            "name": "n-1", "role": "control-plane", "address": "10.0.0.1", "api_endpoint": "10.0.0.9:6443",
            "kubernetes": "1.34.4", "pods": "10.244.0.0/16", "services": "10.96.0.0/12",
            "image_repository": "registry.k8s.io",
        });
        serde_json::from_value(spec).unwrap()
    }

    fn fresh() -> (FakeMachine, Context) {
        let machine = FakeMachine::new();
        machine.commands.install("kubeadm", |_| Output::default());
        let ctx = machine.node("n-1");
        (machine, ctx)
    }

    fn note(stage: Stage, resumed: u32) -> Membership {
        Membership { stage, resumed, ..blank(&spec(), Start::Join) }
    }

    async fn go(ctx: &Context, way: Way) -> Result<Done, StepError> {
        apply(ctx, &spec(), &Change::Become { role: MemberRole::ControlPlane, start: Start::Join, way }).await
    }

    fn was_reset(machine: &FakeMachine) -> bool {
        machine.commands.ran().iter().any(|argv| argv.iter().any(|word| word == "reset"))
    }

    /// An etcd that ran here, and the certificates to ask with.
    fn put_etcd(machine: &FakeMachine) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        machine.files.put("/var/lib/etcd/member/snap/db", "");
        machine.files.put("/etc/kubernetes/pki/etcd/ca.crt", &certificate);
        machine.files.put("/etc/kubernetes/pki/etcd/healthcheck-client.crt", &certificate);
        machine.files.put("/etc/kubernetes/pki/etcd/healthcheck-client.key", &key.serialize_pem());
    }

    #[tokio::test(start_paused = true)]
    async fn an_etcd_that_may_vote_is_not_reset_while_nobody_says_whether_it_does() {
        // Cut right after its promotion, which is noted a moment later; and a note that is lost.
        for noted in [Some(note(Stage::Prepared, 2)), None] {
            let (machine, ctx) = fresh();
            put_etcd(&machine);
            if let Some(noted) = &noted {
                membership::write(&*machine.files, noted).unwrap();
            }
            let ended = go(&ctx, Way::StartOver).await;
            assert!(matches!(ended, Err(StepError::Skip(Skip::Waits { .. }))), "{ended:?}");
            assert!(!was_reset(&machine), "{noted:?}");
            assert_eq!(membership::read(&*machine.files).unwrap(), noted);
        }
    }

    #[tokio::test]
    async fn an_etcd_whose_certificates_are_gone_is_not_reset_while_it_may_run() {
        let (machine, ctx) = fresh();
        machine.files.put("/var/lib/etcd/member/snap/db", "");
        machine.files.put("/etc/kubernetes/manifests/etcd.yaml", "");
        let ended = go(&ctx, Way::StartOver).await;
        assert!(matches!(ended, Err(StepError::Failed(_))), "{ended:?}");
        assert!(!was_reset(&machine));
    }

    #[tokio::test]
    async fn a_way_that_never_came_to_etcd_starts_over() {
        let (machine, ctx) = fresh();
        machine.units.add("kubelet.service");
        membership::write(&*machine.files, &note(Stage::Prepared, 2)).unwrap();
        // Then it waits for a ticket.
        let ended = go(&ctx, Way::StartOver).await;
        assert!(matches!(ended, Err(StepError::Skip(Skip::Waits { .. }))), "{ended:?}");
        assert!(was_reset(&machine));
        assert_eq!(membership::read(&*machine.files).unwrap(), Some(note(Stage::Begun, 0)));
    }

    /// A kubelet that a cut attempt started keeps its Node Ready, and kubeadm would wait for it to go for ever.
    #[tokio::test]
    async fn a_worker_that_goes_on_is_not_the_former_node_of_its_name() {
        let (machine, ctx) = fresh();
        machine.units.add_running("kubelet.service");
        let spec = ClusterMemberSpec { role: MemberRole::Worker, ..spec() };
        membership::write(&*machine.files, &blank(&spec, Start::Join)).unwrap();
        let way = Way::Continue { from: Stage::Begun };
        let change = Change::Become { role: MemberRole::Worker, start: Start::Join, way };
        let ended = apply(&ctx, &spec, &change).await;
        assert!(matches!(ended, Err(StepError::Skip(Skip::Waits { .. }))), "it waits for a ticket: {ended:?}");
        assert_eq!(ctx.units.state("kubelet.service").await.unwrap().active, "inactive");
    }

    #[tokio::test]
    async fn who_never_asked_for_a_vote_has_none_to_give_up() {
        let (machine, ctx) = fresh();
        put_etcd(&machine);
        ctx.files.remove("/var/lib/etcd/member", true).unwrap();
        let left = leave::give_up_vote(&ctx, &spec()).await;
        assert!(left.is_ok(), "{left:?}");
    }

    #[tokio::test]
    async fn what_waits_is_not_counted_as_an_attempt_that_failed() {
        let (machine, ctx) = fresh();
        membership::write(&*machine.files, &note(Stage::Begun, 0)).unwrap();
        let attempts = async || {
            let ended = go(&ctx, Way::Continue { from: Stage::Begun }).await;
            (ended.unwrap_err(), membership::read(&*machine.files).unwrap().unwrap().resumed)
        };
        // There is no kubelet to be enabled.
        let failed = attempts().await;
        assert!(matches!(failed, (StepError::Failed(_), 1)), "{failed:?}");
        machine.units.add("kubelet.service");
        for _ in 0..3 {
            let waits = attempts().await;
            assert!(matches!(waits, (StepError::Skip(Skip::Waits { .. }), 1)), "{waits:?}");
        }
    }
}
