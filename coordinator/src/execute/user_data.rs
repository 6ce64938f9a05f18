//! user-data of a new node: a stub that fetches the agent, checks it, and hands over. No secret is in it, and it is the
//! same for containers and for EC2.

use muster_ids::{ClusterName, Digest, EnvName};

/// user-data must stay below this many bytes: EC2's limit is four times as high, and a stub that grows is no stub.
pub const LIMIT: usize = 4096;

/// All that the stub says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    pub cluster: ClusterName,
    pub environment: EnvName,
    /// Address of the coordinator, without a port.
    pub coordinator: String,
    /// Port of its gRPC endpoint.
    pub grpc: u16,
    /// Port of its plain HTTP endpoint.
    pub http: u16,
    /// SHA-256 of the agent's binary: it is fetched by it and checked against it.
    pub agent: Digest,
    /// SHA-256 of the CA certificate (DER) that the coordinator must have been issued by.
    pub ca: Digest,
}

/// A shell script. Waits for the coordinator as long as it takes; installs nothing that does not have the digest.
pub fn render(stub: &Stub) -> String {
    let Stub { cluster, environment, coordinator, grpc, http, agent, ca } = stub;
    let host = if coordinator.contains(':') { format!("[{coordinator}]") } else { coordinator.clone() };
    format!(
        r#"#!/bin/sh
# Made by muster: fetches the agent of {cluster}/{environment}, checks it and hands over.
set -eu
sum={agent}
to=/usr/local/bin/muster-agent
good() {{ [ -f "$1" ] && echo "$sum  $1" | sha256sum --check --status; }}
install -d -m 0755 /etc/muster /usr/local/bin
cat > /etc/muster/agent.toml <<'END'
cluster = "{cluster}"
environment = "{environment}"
coordinator = "{host}:{grpc}"
ca_pin = "{ca}"
END
until good "$to"; do
  if curl --fail --silent --show-error --connect-timeout 2 --max-time 120 \
      --output "$to.new" "http://{host}:{http}/agent/$sum" && good "$to.new"; then
    chmod 0755 "$to.new"
    mv -f "$to.new" "$to"
  else
    rm -f "$to.new"
    echo "muster: waiting for the coordinator at {host}:{http}"
    sleep 0.5
  fi
done
exec "$to" install
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stub() -> Stub {
        Stub {
            cluster: "easypay".parse().unwrap(),
            environment: "local".parse().unwrap(),
            coordinator: "10.89.0.2".to_owned(),
            grpc: 7443,
            http: 7480,
            agent: Digest::of("agent"),
            ca: Digest::of("ca"),
        }
    }

    #[test]
    fn the_stub_is_small() {
        let text = render(&stub());
        assert!(text.len() < LIMIT, "{}", text.len());
        insta::assert_snapshot!(text);
    }

    #[test]
    fn an_address_with_colons_is_bracketed() {
        let text = render(&Stub { coordinator: "fd00::2".to_owned(), ..stub() });
        assert!(text.contains("http://[fd00::2]:7480/agent/"), "{text}");
    }
}
