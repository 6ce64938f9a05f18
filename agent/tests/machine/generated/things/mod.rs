//! What cases are made of: one file a kind or two, each thing with its judges.

mod accounts;
mod archives;
mod commands;
pub mod containers;
mod files;
mod folders;
mod kernel;
mod keys;
mod links;
mod mounts;
pub mod node;
pub mod packages;
mod services;
mod timers;
mod trust;

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

use super::case::{Dice, Thing};

/// Makes one thing whose names all hold the tag.
type Maker = fn(&str, &mut Dice) -> Thing;

const MAKERS: [Maker; 19] = [
    accounts::account,
    archives::archive,
    commands::command,
    files::file,
    folders::folder,
    kernel::parameter,
    keys::keys,
    links::block,
    links::link,
    links::through,
    mounts::mount,
    mounts::nested,
    node::name,
    node::time,
    packages::package,
    services::service,
    timers::timer,
    trust::authority,
    trust::source,
];

/// These need Docker, which a node has to install first: the last few of so many seeds have them, one after the other.
const DOCKER: [Maker; 3] = [containers::container, containers::container, containers::image];
const DOCKERS: (u64, u64) = (36, 42);

/// Three to eight things.
pub fn some(seed: u64, dice: &mut Dice) -> Vec<Thing> {
    let count = dice.random_range(3..=8);
    let docker = if seed % DOCKERS.1 >= DOCKERS.0 { 2 } else { 0 };
    let mut things = Vec::new();
    for number in 0..count {
        let make = if number < docker { pick(dice, &DOCKER) } else { pick(dice, &MAKERS) };
        // Randomness of its own, so that a change in one maker leaves the others' things as they were.
        let mut own = rand::SeedableRng::seed_from_u64(dice.next_u64());
        let thing = make(&format!("s{seed}n{number}"), &mut own);
        // What has no name of its own, a package or the node's time, is there once.
        let names = named(&thing);
        if !things.iter().any(|other: &Thing| named(other).iter().any(|name| names.contains(name))) {
            things.push(thing);
        }
    }
    things
}

/// The kinds and names of its resources.
fn named(thing: &Thing) -> Vec<(&str, &str)> {
    let lines: Vec<&str> = thing.present.lines().collect();
    let once = |kind: &str| ["[[hostname]]", "[[timezone]]"].contains(&kind);
    lines
        .windows(2)
        .filter(|pair| pair[0].starts_with("[["))
        .map(|pair| (pair[0], if once(pair[0]) { "" } else { pair[1] }))
        .collect()
}

/// One of them.
pub fn pick<T: Copy>(dice: &mut Dice, all: &[T]) -> T {
    *all.choose(dice).expect("there are some")
}
