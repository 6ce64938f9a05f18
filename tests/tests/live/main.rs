//! The live proof: from nothing to an application that answers, then through every failure, on real containers.
//!
//! The steps share one cluster and run in this order; after the first failure the rest would prove nothing and is
//! reported as failed too. Runs only when `MUSTER_LIVE` is set, as the task runner does; else it says that it did not run.

mod change;
mod failure;
mod gone;
mod leave;
mod losses;
mod readme;
mod revoke;
mod start;
mod upstream;
mod wrong;

use std::{process::ExitCode, time::Instant};

use muster_tests::{lab::Lab, steps};

type Step = (&'static str, fn(&mut Lab) -> anyhow::Result<()>);

const STEPS: &[Step] = &[
    ("no_permission_on_docker_is_said", wrong::no_permission),
    ("addresses_in_use_are_said", wrong::addresses_in_use),
    ("from_nothing_to_the_application_answering", start::from_nothing),
    ("up_again_changes_nothing", start::again),
    ("the_two_commands_of_the_readme", readme::two_commands),
    ("commands_say_what_is", start::commands),
    ("upstream_conformance_specs_of_the_network_pass", upstream::network),
    ("a_file_reaches_every_node", change::file),
    ("a_change_by_hand_is_put_back", change::drift),
    ("a_paused_node_is_left_alone", change::pause),
    ("a_saved_plan_is_applied_and_a_stale_one_is_not", change::saved),
    ("one_node_tries_a_change_first", change::only),
    ("containerd_restarts_everywhere_and_no_payment_fails", change::containerd),
    ("the_application_rolls_and_no_payment_fails", change::application),
    ("an_image_that_is_nowhere_is_no_success", change::broken),
    ("services_stay_while_kube_proxy_writes_all_anew", change::services),
    ("settings_and_taints_reach_members", change::members),
    ("what_leaves_the_site_is_deleted", leave::sets),
    ("an_agent_is_killed_in_a_converge", failure::agent_killed),
    ("one_dead_node_is_nobodys_outage", losses::nodes_are_lost),
    ("a_node_object_that_is_deleted_is_registered_again", gone::node_object),
    ("etcds_data_lost_on_a_control_plane_is_named_and_had_anew", gone::etcd_data),
    ("a_control_plane_stops_and_starts", failure::control_plane_stops),
    ("a_front_end_is_killed", failure::front_end_killed),
    ("the_load_balancer_is_killed", failure::load_balancer_killed),
    ("workers_reboot_without_the_coordinator", failure::workers_reboot),
    ("the_coordinator_is_restored_onto_an_empty_volume", failure::coordinator_restored),
    ("the_worker_with_the_disk_is_lost", failure::disk_holder_lost),
    ("one_more_worker", change::worker),
    ("a_worker_dies_while_its_pool_shrinks", change::dead_worker),
    ("revoked_nodes_are_out_for_good", revoke::revoked),
    ("down_leaves_nothing", start::down),
    ("up_is_killed_again_and_again", failure::up_killed),
    ("the_coordinator_is_killed_in_the_middle_of_up", failure::coordinator_killed_in_up),
    ("the_first_edit_of_the_readme", readme::first_edit),
    ("down_again_leaves_nothing", start::down),
];

fn main() -> ExitCode {
    if std::env::var_os("MUSTER_LIVE").is_none() {
        println!("live: not run; `cargo xtask test` runs the live tests");
        return ExitCode::SUCCESS;
    }
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let steps = match steps::chosen(STEPS, &only) {
        Ok(steps) => steps,
        Err(error) => {
            eprintln!("live: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("live: the lab cannot be made: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("\nrunning {} tests", steps.len());
    let began = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    for (name, step) in steps {
        if failed > 0 {
            println!("test live::{name} ... FAILED (not reached)");
            failed += 1;
            continue;
        }
        let began = Instant::now();
        match step(&mut lab) {
            Ok(()) => {
                passed += 1;
                println!("test live::{name} ... ok ({:.1} s)", began.elapsed().as_secs_f64());
            }
            Err(error) => {
                failed += 1;
                println!("test live::{name} ... FAILED ({:.1} s)\n{error:?}", began.elapsed().as_secs_f64());
                lab.tell_all();
            }
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let took = began.elapsed().as_secs_f64();
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {took:.2}s\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
