//! haproxy's configuration from a load balancer's plan: a pure function with golden output.
//!
//! The first line carries the digest of the plan and the number of this template, so that a reading tells whether a
//! load balancer runs what it should without knowing the plan.

use std::{collections::BTreeSet, fmt::Write as _};

use muster_ids::NodeName;
use muster_planner::{blueprint::LoadBalancerPlan, steps::configuration};

/// Raised when the text below changes: load balancers are then configured anew.
const TEMPLATE: u32 = 3;

/// The whole configuration file.
///
/// Figures: a dead target is out after two failed checks, the second soon after the first, and one that answers is in again after one.
/// A connection that a target refuses is tried once more on another target, because nothing was sent yet; what was sent
/// is never sent again. HTTP uses a connection of its own to the target for each request for that reason.
pub fn render(plan: &LoadBalancerPlan) -> String {
    let mut text = header(&configuration(plan));
    text.push_str(
        "global
    log stdout format raw local0 notice
    user haproxy
    group haproxy
    fd-hard-limit 16384
    stats socket /run/haproxy.sock mode 600 level admin expose-fd listeners
    hard-stop-after 10m
    ssl-server-verify none

defaults
    log global
    retries 3
    option redispatch 1
    option dontlognull
    timeout connect 1s
    timeout queue 5s
    timeout check 2s
",
    );
    if plan.tls {
        pass_through(&mut text, plan)
    } else {
        http(&mut text, plan)
    }
    for (node, target) in &plan.targets {
        writeln!(text, "    server {node} {target}").expect("writing to a string");
    }
    view(&mut text, plan);
    text
}

/// Where it says which targets it sends to: beside its own port, whatever that is.
pub fn view_port(plan: &LoadBalancerPlan) -> u16 {
    if plan.listen == 8404 { 8405 } else { 8404 }
}

/// `workers-1=1 workers-2=0`: whether each target is up. No more than that is told to whoever asks.
fn view(text: &mut String, plan: &LoadBalancerPlan) {
    let targets: Vec<String> = plan.targets.keys().map(|node| format!("{node}=%[srv_is_up(nodes/{node})]")).collect();
    write!(
        text,
        "
frontend view
    mode http
    bind :{}
    timeout client 5s
    http-request return status 200 content-type text/plain lf-string \"{}\"
",
        view_port(plan),
        targets.join(" ")
    )
    .expect("writing to a string");
}

/// The targets that its view says are up.
pub fn targets_up(view: &str, plan: &LoadBalancerPlan) -> BTreeSet<NodeName> {
    let up = |node: &&NodeName| view.split_whitespace().any(|word| word.strip_suffix("=1") == Some(node.as_str()));
    plan.targets.keys().filter(up).cloned().collect()
}

fn pass_through(text: &mut String, plan: &LoadBalancerPlan) {
    let LoadBalancerPlan { listen, check, .. } = plan;
    write!(
        text,
        "    mode tcp
    timeout client 1h
    timeout server 1h
    option clitcpka
    option srvtcpka

frontend front
    bind :{listen}
    default_backend nodes

backend nodes
    balance leastconn
    option httpchk
    http-check send meth GET uri {check}
    http-check expect status 200
    default-server check check-ssl verify none inter 500ms fastinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
"
    )
    .expect("writing to a string");
}

fn http(text: &mut String, plan: &LoadBalancerPlan) {
    let LoadBalancerPlan { listen, check, .. } = plan;
    write!(
        text,
        "    mode http
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 30s
    option forwardfor
    option http-server-close
    http-reuse never
    retry-on conn-failure

frontend front
    bind :{listen}
    default_backend nodes

backend nodes
    balance roundrobin
    option httpchk
    http-check send meth GET uri {check}
    http-check expect rstatus ^[23]
    default-server check inter 500ms fastinter 200ms fall 2 rise 1
"
    )
    .expect("writing to a string");
}

fn header(digest: &str) -> String {
    format!("# muster {TEMPLATE} {digest}\n")
}

/// The digest of the plan that a configuration was rendered from; empty when it is not of this template.
pub fn plan_of(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    match first.split(' ').collect::<Vec<_>>()[..] {
        ["#", "muster", template, digest] if template == TEMPLATE.to_string() => digest.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tls: bool) -> LoadBalancerPlan {
        let target = |node: &str, address: &str| (node.parse().unwrap(), address.parse().unwrap());
        LoadBalancerPlan {
            address: "10.89.0.10".parse().unwrap(),
            listen: if tls { 6443 } else { 80 },
            targets: [target("a-1", "10.89.1.1:6443"), target("a-2", "10.89.1.2:6443")].into(),
            tls,
            check: if tls { "/readyz" } else { "/ready" }.to_owned(),
        }
    }

    #[test]
    fn a_configuration_tells_its_plan() {
        for tls in [true, false] {
            assert_eq!(plan_of(&render(&plan(tls))), configuration(&plan(tls)));
        }
        assert_eq!(plan_of("# muster 0 abc\n"), "");
        assert_eq!(plan_of(""), "");
    }

    #[test]
    fn the_api_passes_through() {
        insta::assert_snapshot!("api", render(&plan(true)));
    }

    #[test]
    fn applications_speak_http() {
        insta::assert_snapshot!("web", render(&plan(false)));
    }

    /// haproxy itself reads both.
    #[test]
    fn haproxy_accepts_it() {
        for tls in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("haproxy.cfg");
            // The user exists only where Debian's package is installed in full.
            std::fs::write(&path, render(&plan(tls))).unwrap();
            let output = std::process::Command::new("haproxy")
                .args(["-c", "-f"])
                .arg(&path)
                .output()
                .expect("haproxy is needed for this test: `cargo xtask test` installs it");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
