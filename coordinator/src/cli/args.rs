//! The command line's shape: every command with its help and an example.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCandidates;
use muster_proto::OperatorRole;

use super::complete;

/// Highly available Kubernetes from TOML: one plan across cloud, nodes and cluster.
#[derive(Debug, Parser)]
#[command(name = "muster", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  muster init my-site               a site to start from
  muster plan --site my-site        what would change, and why
  muster apply 41-9c02de            do exactly what that plan showed
  muster status --watch             follow a converge live

Exit codes: 0 done or nothing to do, 1 error (a wrong command line, too), 2 changes (plan), 3 the plan is stale (apply),
130 interrupted: what was applied goes on.";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The site's folder
    #[arg(long, global = true, env = "MUSTER_SITE", default_value = "catalogs", value_name = "DIR")]
    pub site: PathBuf,
    /// The environment, a file of the site's `environments/`: `local` where none is named, and for `validate` all of them
    #[arg(short, long, global = true, env = "MUSTER_ENVIRONMENT", value_name = "NAME")]
    #[arg(add = ArgValueCandidates::new(complete::environments))]
    pub environment: Option<String>,
    /// Print JSON to standard output: one value, or one a line while following; an error as {"error": …, "help": […]}
    #[arg(long, global = true)]
    pub json: bool,
    /// Do not ask
    #[arg(long, short, global = true)]
    pub yes: bool,
    /// The operator's role to act with, where a certificate is issued: read, apply or admin; unsaid, the one that you have,
    /// else admin
    #[arg(long, global = true, env = "MUSTER_ROLE", value_name = "ROLE")]
    pub role: Option<OperatorRole>,
}

impl Global {
    /// The environment that is meant.
    pub fn environment(&self) -> &str {
        self.environment.as_deref().unwrap_or("local")
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy the shipped site into a new folder
    #[command(after_help = "Example:\n  muster init my-site && muster validate --site my-site")]
    Init {
        /// A folder that is empty or not there
        dir: PathBuf,
    },
    /// Check a site in all of its environments, or in one: every error at once, with its place and the way out
    #[command(after_help = "Examples:\n  muster validate --site my-site\n  muster validate --site my-site -e prod")]
    Validate,
    /// Bring an environment up on this machine and follow until it answers
    #[command(
        after_help = "Example:\n  muster up --site my-site\n\nRun again, it changes nothing; after a kill it goes on."
    )]
    Up(Up),
    /// Show what would change in cloud, nodes and cluster, and why
    #[command(
        after_help = "Example:\n  muster plan -e local\n\nExit codes: 0 nothing to do, 1 error, or a node that could not plan or did not answer, 2 changes."
    )]
    Plan {
        /// Seconds to wait for the nodes' answers
        #[arg(long, default_value_t = 10, value_name = "SECONDS")]
        wait: u32,
    },
    /// Do what a plan showed, or plan and apply at once
    #[command(
        after_help = "Examples:\n  muster apply 41-9c02de\n  muster apply --only workers-2\n\nExit codes: 0 done, 1 error, 3 the plan is stale, 130 interrupted while it followed."
    )]
    Apply(Apply),
    /// What runs, and what is not as written
    #[command(after_help = "Example:\n  muster status --watch")]
    Status {
        /// Follow, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// The nodes
    #[command(after_help = "Example:\n  muster nodes --json | jq '.[] | select(.ready | not)'")]
    Nodes,
    /// One node: pause, revoke, or why it is not ready
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Who may use the coordinator, and with which role
    Operator {
        #[command(subcommand)]
        command: OperatorCommand,
    },
    /// What happened: the newest hundred events, oldest first
    #[command(after_help = "Examples:\n  muster events --follow\n  muster events --after 41")]
    Events {
        /// Go on as they happen
        #[arg(long, short)]
        follow: bool,
        /// All after this number instead
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: u64,
    },
    /// Write a kubeconfig for the cluster; its private key is made here
    #[command(
        after_help = "Example:\n  muster kubeconfig --output kubeconfig && kubectl --kubeconfig kubeconfig get nodes"
    )]
    Kubeconfig {
        /// Write to this file (mode 0600) instead of standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// For a user who may look at everything but Secrets: the role apply is enough
        #[arg(long)]
        viewer: bool,
    },
    /// Take everything of a local environment down: its containers, volumes and networks, and nothing else
    #[command(after_help = "Example:\n  muster down --yes")]
    Down {
        /// Also a protected environment
        #[arg(long)]
        unprotect: bool,
    },
    /// The coordinator itself: serve, back up, restore
    Coordinator {
        #[command(subcommand)]
        command: CoordinatorCommand,
    },
    /// Print a completion script for a shell; it asks this program, also for environments, nodes and plans
    #[command(
        after_help = "Example, again after an upgrade:\n  muster completion bash > /etc/bash_completion.d/muster"
    )]
    Completion { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct Up {
    /// What the local environment is made from, as `cargo xtask artefacts` wrote it; remembered for the next time
    #[arg(long, value_name = "FILE", env = "MUSTER_ARTEFACTS")]
    pub artefacts: Option<PathBuf>,
    /// Give up after this many seconds without progress
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub patience: u64,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// A plan that `muster plan` saved; without one, plan and ask
    #[arg(add = ArgValueCandidates::new(complete::plans))]
    pub plan: Option<String>,
    /// Try this node first; the others wait for it, and so do the cluster's objects
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub only: Option<String>,
    /// Do not follow until the nodes are as written
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Stop converging a node for a while; expires by itself
    #[command(after_help = "Example:\n  muster node pause workers-2 --for 1h --reason 'looking at a disk'")]
    Pause {
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
        /// As in 30m, 1h; 0 ends a pause
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        time: String,
        /// For the others; needed for a pause, not for its end
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take a node that is not to be trusted out of service at once, for good
    ///
    /// Its agent is refused, the cluster refuses its name, its etcd member and its Node go, its machine is stopped and
    /// removed, and the pool gets another one under a new name. Pods are not drained: they end and begin elsewhere; those
    /// with a disk follow when the machine is proven gone, with their data.
    #[command(after_help = "Example:\n  muster node revoke workers-2")]
    Revoke {
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
        /// Return as soon as it is decided
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a node that was off for more than 30 days back in
    ///
    /// Its certificate can no longer be renewed: for a day it can, with its key. The provider has to show the very machine that was made for the node, running;
    /// the cluster is not asked. The agent tries again every five minutes at least.
    #[command(after_help = "Example:\n  muster node readmit workers-1")]
    Readmit {
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
    /// Say why a node is not ready
    #[command(after_help = "Example:\n  muster node why workers-2")]
    Why {
        #[arg(add = ArgValueCandidates::new(complete::nodes))]
        node: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// The certificates that were issued: name, role, serial number, until when, and which are revoked
    #[command(after_help = "Example:\n  muster operator list --json | jq '.[] | select(.role == \"admin\")'")]
    List,
    /// Refuse an operator's certificates from now on, or the one with a serial number
    ///
    /// Open connections end within two seconds. A kubeconfig that was got before is good until its day is over.
    #[command(
        after_help = "Examples:\n  muster operator revoke dana\n  muster operator revoke 4f1c…, as `list` shows it"
    )]
    Revoke {
        /// A name, for all that it holds now, or one serial number
        #[arg(value_name = "NAME|SERIAL")]
        whose: String,
        /// Also the last admin's, and what the record does not know: after a restore
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum CoordinatorCommand {
    /// Run the coordinator (its container does this)
    ///
    /// It logs to standard error; MUSTER_LOG says what, as in warn,muster_coordinator=debug.
    #[command(after_help = "Example:\n  muster coordinator serve --config coordinator.toml")]
    Serve {
        /// Configuration, TOML
        #[arg(long, value_name = "FILE", default_value = "/etc/muster/coordinator.toml")]
        config: PathBuf,
    },
    /// Sign an operator's request from standard input; the chain goes to standard output. Without --role it is an admin's
    #[command(
        after_help = "Example, in the coordinator's container:\n  muster coordinator issue-operator --name dana --role read < dana.csr > dana.pem"
    )]
    IssueOperator {
        #[arg(long, value_name = "FILE", default_value = "/etc/muster/coordinator.toml")]
        config: PathBuf,
        #[arg(long)]
        name: String,
    },
    /// Print the CA's certificate
    #[command(after_help = "Example, in the coordinator's container:\n  muster coordinator ca > ca.pem")]
    Ca {
        #[arg(long, value_name = "FILE", default_value = "/etc/muster/coordinator.toml")]
        config: PathBuf,
    },
    /// Save the coordinator's state, sealed to a recovery key
    #[command(after_help = "Example:\n  muster coordinator backup --to age1… state.backup")]
    Backup {
        file: PathBuf,
        /// Age recipient that can open it; may be given again
        #[arg(long = "to", value_name = "RECIPIENT", required = true)]
        to: Vec<String>,
    },
    /// Restore a saved state onto an empty state volume and start from it
    ///
    /// Nodes follow the site of that backup at once: apply the newest right after. Nothing is deleted for what had left that
    /// site. Nodes that were revoked since have to be revoked again.
    #[command(after_help = "Example:\n  muster coordinator restore --key recovery.txt state.backup")]
    Restore {
        file: PathBuf,
        /// The age identity that opens it
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// As `up` takes it, and by itself what `up` was given last
        #[arg(long, value_name = "FILE", env = "MUSTER_ARTEFACTS")]
        artefacts: Option<PathBuf>,
    },
    /// Make a recovery key pair: both into a file (0600), the recipient to standard output, too
    #[command(after_help = "Example:\n  muster coordinator key recovery.txt")]
    Key { file: PathBuf },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let path = format!("{path} {}", command.get_name());
        if !command.has_subcommands() {
            found.push((path, command.clone().render_long_help().to_string()));
            return;
        }
        command.get_subcommands().for_each(|inner| leaves(inner, &path, found));
    }

    #[test]
    fn every_command_has_an_example() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 15, "{found:?}");
        for (path, help) in found {
            let words = path.trim().to_owned();
            let example = help.split_once("Example").map(|(_, example)| example).unwrap_or_default();
            assert!(example.contains(&format!("  {words}")), "{words}: {help}");
        }
    }
}
