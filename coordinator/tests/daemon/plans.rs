//! Plans and applies: what is shown is what is done, or nothing is.

use muster_catalog::{Catalog, Spec};
use muster_coordinator::{
    plan::{NodePart, SavedPlan, render},
    state::RolloutState,
    status::{Outlook, Status, Stuck},
};
use muster_ids::Generation;

use crate::lab::{Behaviour, Lab, site};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_what_every_agent_would_change_and_changes_nothing() {
    let lab = Lab::new().await;
    let agents = lab.up(&site("hello")).await;
    let before = lab.status().await.generation;
    let plan = lab.plan(&site("good morning")).await.unwrap();
    assert_eq!(plan.counts.change, 5, "{plan:#?}");
    for section in plan.nodes.values() {
        let NodePart::Rows { rows } = &section.part else { panic!("{section:?}") };
        assert_eq!(rows[0].resource.to_string(), "file./etc/motd");
    }
    let text = render(&plan);
    assert!(text.contains("control-plane-*  (3 nodes)"), "{text}");
    assert!(text.contains(&format!("muster apply {}", plan.id)), "{text}");
    // The draft went to the agents; what they may apply is still the old one.
    let (catalog, _) = agents[3].pull("").await.unwrap().unwrap();
    assert_eq!(Some(catalog.generation), before);
    assert!(!catalog.to_toml().contains("good morning"));
    assert_eq!(lab.status().await.generation, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_binary_source_reaches_the_node() {
    let mut lab = Lab::new().await;
    let mut files = site("hello");
    let all: Vec<u8> = (0..=255).collect();
    files.insert("roles/files/all".to_owned(), all.clone());
    files
        .texts
        .entry("roles/base.toml".to_owned())
        .or_default()
        .push_str("[[file]]\npath = \"/srv/all\"\nsource = \"files/all\"\n");
    lab.publish(&files).await;
    let bytes = |catalog: &Catalog| {
        catalog.resource.iter().find_map(|resource| match &resource.spec {
            Spec::File(file) if file.path == "/srv/all" => Some(file.bytes().to_vec()),
            _other => None,
        })
    };
    let agent = lab.agent("workers-1").await;
    let (catalog, _) = agent.pull("").await.unwrap().unwrap();
    assert_eq!(bytes(&catalog), Some(all.clone()));
    // The files are in the store, too.
    lab.kill().await;
    lab.start().await;
    let (catalog, _) = lab.reconnect(&agent).pull("").await.unwrap().unwrap();
    assert_eq!(bytes(&catalog), Some(all));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_a_role_is_a_row_that_says_how_to_remove_it() {
    let lab = Lab::new().await;
    let with = |text: &str| {
        let mut files = site("hello");
        files.texts.entry("roles/worker.toml".to_owned()).or_default().push_str(text);
        files
    };
    let two = "[[file]]\npath = \"/srv/a\"\ncontent = \"a\"\n[[file]]\npath = \"/srv/gone\"\nabsent = true\n";
    let folder = "[[file]]\npath = \"/opt/x/b\"\ncontent = \"b\"\n[[directory]]\npath = \"/opt/x\"\npurge = true\n";
    lab.up(&with(&format!("{two}{folder}"))).await;
    let plan = lab.plan(&with("[[directory]]\npath = \"/opt/x\"\npurge = true\n")).await.unwrap();
    let left: Vec<String> = plan.nodes.values().flat_map(|section| &section.leaves).map(ToString::to_string).collect();
    // What is purged goes, and what was to be away is away.
    assert_eq!(left, ["file./srv/a", "file./srv/a"]);
    let text = render(&plan);
    let row = text.lines().find(|line| line.contains("/srv/a")).unwrap_or_else(|| panic!("{text}"));
    assert!(
        row.contains("= workers-*") && row.ends_with("no longer managed, stays; to remove it: absent = true"),
        "{row}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_plans_the_second_is_stale() {
    let lab = Lab::new().await;
    lab.up(&site("hello")).await;
    let first = lab.plan(&site("one")).await.unwrap();
    let second = lab.plan(&site("two")).await.unwrap();
    let applied = lab.apply(&first.id, "").await.unwrap();
    assert!(applied.stale.is_empty(), "{:?}", applied.stale);
    let refused = lab.apply(&second.id, "").await.unwrap();
    assert!(refused.generation.is_none());
    assert!(refused.stale[0].contains("another apply came between, by dana: nodes follow"), "{:?}", refused.stale);
    // Whatever else is wrong with it.
    let nowhere = lab.apply(&second.id, "workers-77").await.unwrap();
    assert_eq!(nowhere.stale, refused.stale);
    let forgotten = lab.apply("0-abcdef", "").await.unwrap();
    assert!(forgotten.stale.iter().any(|line| line.contains("not kept any more")), "{:?}", forgotten.stale);
    // What never was is no stale plan.
    assert_eq!(lab.apply("999-abcdef", "").await.unwrap_err().code(), tonic::Code::NotFound);
    lab.until("the first", Status::written).await;
    assert_eq!(lab.status().await.catalog.unwrap(), first.site.short());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_stale_when_more_would_be_done_than_was_shown() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let name = crate::lab::node("workers-2");
    let mut mute = None;
    for agent in lab.agents().await {
        let is_mute = agent.name == "workers-2";
        let task = agent.clone().run(Behaviour { mute: is_mute, ..Behaviour::default() });
        if is_mute {
            mute = Some((agent, task));
        }
    }
    let before = lab.until("everything as written", Status::written).await.generation;
    let shown = lab.plan(&site("one")).await.unwrap();
    assert!(matches!(shown.nodes[&name].part, NodePart::NotAnswering { .. }), "{shown:#?}");

    let (agent, task) = mute.unwrap();
    task.abort();
    agent.run(Behaviour::default());
    let now = loop {
        let now = lab.plan(&site("one")).await.unwrap();
        if matches!(&now.nodes[&name].part, NodePart::Rows { rows } if !rows.is_empty()) {
            break now;
        }
    };
    // The newer plan of the same site did not take the place of the one that was looked at.
    assert_ne!(shown.id, now.id);
    let reply = lab.apply(&shown.id, "").await.unwrap();
    assert!(reply.generation.is_none() && reply.stale.iter().any(|line| line.contains("workers-2")), "{reply:?}");
    assert_eq!(lab.status().await.generation, before, "nothing was applied");
    assert!(lab.apply(&now.id, "").await.unwrap().stale.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_site_again_is_nothing_to_do() {
    let lab = Lab::new().await;
    lab.up(&site("hello")).await;
    let before = lab.status().await.generation.unwrap();
    let plan = lab.plan(&site("hello")).await.unwrap();
    assert!(!plan.changes(), "{plan:#?}");
    assert!(render(&plan).contains("Nothing to do"), "{}", render(&plan));
    let reply = lab.apply(&plan.id, "").await.unwrap();
    assert_eq!(Generation::from(reply.generation.unwrap()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_shown_as_such() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let agents = lab.agents().await;
    let mut running = Vec::new();
    for agent in &agents {
        let mute = agent.name == "workers-2";
        running.push(agent.clone().run(Behaviour { mute, ..Behaviour::default() }));
    }
    lab.until("everything as written", Status::written).await;
    let plan = lab.plan(&site("one")).await.unwrap();
    let part = &plan.nodes[&crate::lab::node("workers-2")].part;
    assert!(matches!(part, NodePart::NotAnswering { last_seen } if *last_seen > 0), "{part:?}");
    assert!(render(&plan).contains("workers-2"), "{}", render(&plan));
    // Shown so, it holds nothing up: it follows when it is back.
    assert!(lab.apply(&plan.id, "").await.unwrap().stale.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_site_and_changes_of_what_is_fixed_are_diagnostics() {
    let lab = Lab::new().await;
    let mut broken = site("hello");
    broken.texts.insert("roles/base.toml".to_owned(), "[[file]]\npath = \"/x\"\ncontents = \"y\"\n".to_owned());
    let errors = lab.plan(&broken).await.unwrap_err();
    assert!(errors.contains("contents"), "{errors}");

    let mut foreign = site("hello");
    foreign.texts.insert("muster.toml".to_owned(), crate::lab::SITE.replace("easypay", "other"));
    assert!(lab.plan(&foreign).await.unwrap_err().contains("this coordinator serves easypay/local"));

    lab.up(&site("hello")).await;
    let mut newer = site("hello");
    newer.texts.insert("muster.toml".to_owned(), crate::lab::SITE.replace("1.34.4", "1.35.0"));
    let errors = lab.plan(&newer).await.unwrap_err();
    assert!(errors.contains("1.34.4 → 1.35.0") && errors.contains("muster.toml"), "{errors}");
    let mut pods = site("hello");
    pods.texts.insert("muster.toml".to_owned(), crate::lab::SITE.replace("10.244.0.0/16", "10.245.0.0/16"));
    assert!(lab.plan(&pods).await.unwrap_err().contains("pods' range"));
}

/// Templates say it, a restart and a later edit leave it as it is, and nobody else can be given it.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_an_address_gets_one_and_keeps_it() {
    let endpoint = |name: &str, port: u16, address: &str| {
        format!("[endpoint.{name}]\nto = \"workers\"\nlisten = 80\nport = {port}\n{address}\n")
    };
    let with = |more: &str| {
        let mut files = site("hello");
        *files.texts.get_mut("muster.toml").unwrap() += &(endpoint("shop", 30081, "") + more);
        *files.texts.get_mut("roles/base.toml").unwrap() +=
            "[[file]]\npath = \"/etc/shop\"\ncontent = \"{{ endpoints.shop.address }}\\n\"\n";
        files
    };
    let row =
        |plan: &SavedPlan| plan.cloud.iter().find(|row| row.what == "load balancer shop").map(ToString::to_string);
    let mut lab = Lab::new().await;
    let shown = row(&lab.plan(&with("")).await.unwrap()).unwrap();
    assert!(shown.contains("10.89.0.12:80"), "{shown}");
    lab.publish(&with("")).await;
    let agent = lab.agent("workers-1").await;
    let (catalog, _) = agent.pull("").await.unwrap().unwrap();
    assert!(catalog.to_toml().contains("\n10.89.0.12\n"), "{}", catalog.to_toml());

    lab.kill().await;
    lab.start().await;
    let admin = lab.plan(&with(&endpoint("admin", 30082, ""))).await.unwrap();
    assert!(render(&admin).contains("10.89.0.13:80"), "{}", render(&admin));
    assert_eq!(row(&admin), None);
    let taken = with(&endpoint("admin", 30082, "address = \"10.89.0.12\""));
    let errors = lab.plan(&taken).await.unwrap_err();
    for said in ["endpoint admin cannot have the address 10.89.0.12: endpoint shop has it", "muster.toml", "10.89.0.13"]
    {
        assert!(errors.contains(said), "{said}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tries_one_node_and_the_others_follow_when_it_has_converged() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let agents = lab.agents().await;
    // The tried node is held back until the others were looked at.
    for agent in agents.iter().filter(|agent| agent.name != "workers-1") {
        agent.clone().run(Behaviour::default());
    }
    let tried = &agents[3];
    let (catalog, _) = tried.pull("").await.unwrap().unwrap();
    tried.report(catalog.generation, &crate::lab::converged()).await;
    // The birth is a publication of its own, and a plan from before it goes stale.
    let first = catalog.generation;
    lab.until("born", |status| status.born && status.generation.is_some_and(|now| now > first)).await;

    let plan = lab.plan(&site("one")).await.unwrap();
    let reply = lab.apply(&plan.id, "workers-1").await.unwrap();
    assert!(reply.stale.is_empty(), "{:?}", reply.stale);
    let generation: Generation = reply.generation.unwrap().into();
    let (catalog, _) = tried.pull("").await.unwrap().unwrap();
    assert!(catalog.generation >= generation && catalog.to_toml().contains("one"));
    let (other, _) = agents[4].pull("").await.unwrap().unwrap();
    assert!(other.generation < catalog.generation && !other.to_toml().contains("one "));
    assert!(lab.status().await.rollout.is_some());

    let (catalog, _) = tried.pull("").await.unwrap().unwrap();
    tried.report(catalog.generation, &crate::lab::converged()).await;
    tried.clone().run(Behaviour::default());
    let status = lab.until("everyone follows", Status::written).await;
    assert_eq!(status.catalog.unwrap(), plan.site.short());
}

/// The control plane that leads applies the cluster's objects for all: while it tries a site, they stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_try_on_a_control_plane_leaves_the_clusters_objects_as_they_are() {
    let with = |motd: &str, data: &str| {
        let mut files = site(motd);
        let object = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shop}}, data: {{a: {data}}}}}");
        let set = format!("[[manifest]]\nname = \"shop\"\ncontent = \"{object}\"\n");
        files.texts.get_mut("roles/control-plane.toml").unwrap().push_str(&set);
        files
    };
    let lab = Lab::new().await;
    lab.publish(&with("hello", "before")).await;
    let agents = lab.agents().await;
    let tried = agents.iter().find(|agent| agent.name == "control-plane-1").unwrap();
    for agent in agents.iter().filter(|agent| agent.name != tried.name) {
        agent.clone().run(Behaviour::default());
    }
    let (catalog, _) = tried.pull("").await.unwrap().unwrap();
    tried.report(catalog.generation, &crate::lab::converged()).await;
    let first = catalog.generation;
    lab.until("born", |status| status.born && status.generation.is_some_and(|now| now > first)).await;

    let plan = lab.plan(&with("one", "behind")).await.unwrap();
    lab.apply(&plan.id, "control-plane-1").await.unwrap();
    let (catalog, _) = tried.pull("").await.unwrap().unwrap();
    let text = catalog.to_toml();
    assert!(text.contains("one") && text.contains("before") && !text.contains("behind"), "{text}");
    assert!(lab.status().await.text().contains("the cluster's objects wait"), "{}", lab.status().await.text());

    // What is wrong with the objects that were there before says nothing of what is tried.
    let mut report = crate::lab::failed();
    report.steps[0].resource = "manifest.shop".parse().unwrap();
    tried.report(catalog.generation, &report).await;
    lab.until("the try has passed", |status| status.rollout.is_none()).await;
    let (after, _) = tried.pull("").await.unwrap().unwrap();
    assert!(after.generation > catalog.generation && after.to_toml().contains("behind"), "{}", after.to_toml());
    tried.clone().run(Behaviour::default());
    lab.until("everyone follows", Status::written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_try_goes_no_further_and_the_old_site_takes_it_back() {
    let lab = Lab::new().await;
    lab.publish(&site("hello")).await;
    let agents = lab.agents().await;
    for agent in &agents {
        agent.clone().run(Behaviour { fails_on: Some("broken".to_owned()), ..Behaviour::default() });
    }
    lab.until("everything as written", Status::written).await;
    let plan = lab.plan(&site("broken")).await.unwrap();
    lab.apply(&plan.id, "workers-1").await.unwrap();
    let stopped = |status: &Status| {
        status.rollout.as_ref().is_some_and(|rollout| matches!(rollout.state, RolloutState::Stopped { .. }))
    };
    let status = lab.until("it stops", stopped).await;
    assert!(status.text().contains("goes no further"), "{}", status.text());
    let tried = status.nodes.iter().find(|node| node.name.as_str() == "workers-1").unwrap();
    assert!(tried.problems.iter().any(|problem| problem.lasting), "{tried:?}");
    let outlook = status.outlook(&Default::default());
    assert!(matches!(outlook, Outlook::Stuck(Stuck::Rollout { .. })), "{outlook:?}");
    let (other, _) = agents[4].pull("").await.unwrap().unwrap();
    assert!(!other.to_toml().contains("broken"));

    let back = lab.plan(&site("hello")).await.unwrap();
    assert_eq!(back.stopped, Some(crate::lab::node("workers-1")));
    assert!(lab.apply(&back.id, "").await.unwrap().stale.is_empty());
    lab.until("all as before", Status::written).await;
}
