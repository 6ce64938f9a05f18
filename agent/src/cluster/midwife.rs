//! Bringing this node's etcd into the cluster: announced, started, caught up, given its vote.
//!
//! A new member's first words are its own name, sent through the leader. They come back to it inside the snapshot by which
//! it catches up, where it does not recognise them, and so it waits seven seconds before it says them again and serves
//! anybody. A new start right after the snapshot takes two. It is still a learner then: no quorum counts on it.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    client,
    etcd::{Etcd, Member, peer_url},
    processes,
};
use crate::{Context, StepError};

/// Until a static pod runs: image and sandbox are there, the machine may be slow.
const START: Duration = Duration::from_secs(120);

/// Members as etcd's option `initial-cluster` wants them, this node under its name. A member that has not said its name
/// yet goes by its number.
pub fn initial_cluster(members: &[Member], name: &str, address: Ipv4Addr) -> String {
    let all = members.iter().filter_map(|member| {
        let url = member.peer_urls.first()?;
        let name = match member.name.as_str() {
            _here if *url == peer_url(address) => name.to_owned(),
            "" => format!("{:x}", member.id),
            other => other.to_owned(),
        };
        Some(format!("{name}={url}"))
    });
    all.collect::<Vec<_>>().join(",")
}

/// What etcd says of itself on its metrics' port, where it answers from its first moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Vitals {
    has_leader: bool,
    snapshots: f64,
    applying: bool,
    revision: f64,
}

impl Vitals {
    /// It has found its cluster, and applied some of what that has written.
    pub(super) fn follows(self) -> bool {
        self.has_leader && !self.applying && self.revision > 1.0
    }
}

/// Waits until the member serves clients, with one new start where its first words were lost.
pub async fn serving(ctx: &Context) -> Result<(), StepError> {
    let own = Etcd::at(&*ctx.files, "https://127.0.0.1:2379")?;
    let (begun, mut caught_up, mut restarted) = (Instant::now(), None, false);
    while begun.elapsed() < START {
        let asked = tokio::time::timeout(Duration::from_millis(500), own.serves()).await;
        if asked == Ok(true) {
            tracing::info!(took = begun.elapsed().as_millis(), restarted, "this node's etcd serves");
            return Ok(());
        }
        let up_to_date = vitals(OWN).await.is_some_and(|v| v.snapshots > 0.0 && !v.applying && v.revision > 1.0);
        let since = caught_up.get_or_insert_with(Instant::now);
        if !up_to_date {
            caught_up = None;
        } else if !restarted && since.elapsed() > Duration::from_millis(300) {
            restarted = restart(ctx)?;
        }
        ctx.clock.sleep(Duration::from_millis(50)).await;
    }
    Err(StepError::failed("this node's etcd did not serve within two minutes").retry())
}

/// What an etcd is told that must find its own data.
const EXISTING: &str = "--initial-cluster-state=existing";
const MEMBERS: &str = "--initial-cluster=";

/// Whether an etcd that is told this starts in no cluster at all where its data is gone: it begins none, and knows of no
/// others.
pub(super) fn needs_its_data<'a>(mut words: impl Iterator<Item = &'a str>) -> bool {
    let (mut exists, mut others) = (false, false);
    for word in &mut words {
        exists |= word == EXISTING;
        others |= word.strip_prefix(MEMBERS).is_some_and(|members| members.contains(','));
    }
    exists && !others
}

/// Waits until an etcd serves that was started so that it needs its data.
pub async fn secured(ctx: &Context) -> Result<(), StepError> {
    let own = Etcd::at(&*ctx.files, "https://127.0.0.1:2379")?;
    let begun = Instant::now();
    let secure = |words: &[&[u8]]| {
        is_etcd(words) && needs_its_data(words.iter().filter_map(|word| std::str::from_utf8(word).ok()))
    };
    while begun.elapsed() < START {
        let asked = tokio::time::timeout(Duration::from_millis(500), own.serves());
        if !processes::find(&*ctx.files, secure)?.is_empty() && asked.await == Ok(true) {
            tracing::info!(took = begun.elapsed().as_millis(), "this node's etcd begins no cluster any more");
            return Ok(());
        }
        ctx.clock.sleep(Duration::from_millis(100)).await;
    }
    Err(StepError::failed("this node's etcd did not come back within two minutes of its new manifest")
        .help("`journalctl -u kubelet` on the node says why")
        .retry())
}

/// Gives the learner its vote, as soon as it has all that the leader has.
pub async fn vote(ctx: &Context, cluster: &Etcd, address: Ipv4Addr) -> Result<(), StepError> {
    let begun = Instant::now();
    loop {
        let members = cluster.members().await?;
        let own = members.iter().find(|member| member.peer_urls.contains(&peer_url(address)));
        let Some(own) = own else {
            return Err(StepError::failed("this node's etcd member was removed while it joined").retry());
        };
        if !own.learner {
            tracing::info!(took = begun.elapsed().as_millis(), "this node's etcd votes");
            return Ok(());
        }
        match cluster.promote(own.id).await {
            Ok(()) => {}
            Err(error) if begun.elapsed() > Duration::from_secs(60) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "the learner has not all of it yet");
                ctx.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// kubelet's etcd.
const OWN: &str = "http://127.0.0.1:2381";

pub(super) async fn vitals(at: &str) -> Option<Vitals> {
    let metrics = client::anonymous(at, None).ok()?;
    let request = http::Request::get("/metrics").body(Vec::new()).ok()?;
    let text = tokio::time::timeout(Duration::from_secs(1), metrics.request_text(request)).await.ok()?.ok()?;
    Some(read(&text))
}

fn read(metrics: &str) -> Vitals {
    let sum = |name: &str| -> f64 {
        metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    Vitals {
        has_leader: sum("etcd_server_has_leader") > 0.0,
        snapshots: sum("etcd_network_snapshot_receive_success"),
        applying: sum("etcd_server_snapshot_apply_in_progress_total") > 0.0,
        revision: sum("etcd_debugging_mvcc_current_revision"),
    }
}

/// Ends this node's etcd; kubelet starts it again. False: it was not found.
fn restart(ctx: &Context) -> Result<bool, StepError> {
    let found = processes::find(&*ctx.files, is_etcd)?;
    for pid in &found {
        rustix::process::kill_process(*pid, rustix::process::Signal::TERM)
            .map_err(|error| StepError::failed("etcd could not be started anew").because(error).retry())?;
        tracing::info!("etcd has the cluster's data and starts anew to serve");
    }
    Ok(!found.is_empty())
}

fn is_etcd(words: &[&[u8]]) -> bool {
    processes::is(words, "etcd") && words.contains(&b"--data-dir=/var/lib/etcd".as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP etcd_server_has_leader Whether\netcd_server_has_leader 1\n\
                    etcd_network_snapshot_receive_success{From=\"a\"} 1\netcd_network_snapshot_receive_success{From=\"b\"} 1\n\
                    etcd_server_snapshot_apply_in_progress_total 0\netcd_debugging_mvcc_current_revision 1809\n";
        let expected = Vitals { has_leader: true, snapshots: 2.0, applying: false, revision: 1809.0 };
        assert_eq!(read(text), expected);
        assert_eq!(read(""), Vitals::default());
    }

    #[test]
    fn an_etcd_that_knows_others_or_begins_a_cluster_does_without_its_data() {
        let own = "--initial-cluster=a=https://10.0.0.1:2380";
        let others = "--initial-cluster=a=https://10.0.0.1:2380,b=https://10.0.0.2:2380";
        for (words, good) in [
            ([own, EXISTING].as_slice(), true),
            (&[own], false),
            (&[own, "--initial-cluster-state=new"], false),
            (&[EXISTING, others], false),
        ] {
            assert_eq!(needs_its_data(words.iter().copied()), good, "{words:?}");
        }
    }

    #[test]
    fn only_this_nodes_etcd_is_ended() {
        assert!(is_etcd(&[b"etcd", b"--name=a", b"--data-dir=/var/lib/etcd"]));
        assert!(!is_etcd(&[b"etcd", b"--data-dir=/tmp/other"]));
        assert!(!is_etcd(&[b"etcdctl", b"--data-dir=/var/lib/etcd"]));
    }

    #[test]
    fn the_first_cluster_names_everybody() {
        let member = |id, name: &str, host: &str| Member {
            id,
            name: name.into(),
            peer_urls: vec![peer_url(host)],
            client_urls: vec![],
            learner: false,
        };
        let members = [member(1, "a", "10.0.0.1"), member(2, "", "10.0.0.2"), member(0xab, "", "10.0.0.3")];
        assert_eq!(
            initial_cluster(&members, "b", "10.0.0.2".parse().unwrap()),
            "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380,ab=https://10.0.0.3:2380"
        );
    }
}
