//! What cases are made of: one file a kind or two, each thing with its judges.

mod accounts;
mod commands;
mod files;
mod folders;
mod kernel;
mod links;
mod mounts;
pub mod packages;
mod services;
mod timers;

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

use super::case::{Dice, Thing};

/// Makes one thing whose names all hold the tag.
type Maker = fn(&str, &mut Dice) -> Thing;

const MAKERS: [Maker; 11] = [
    accounts::account,
    commands::command,
    files::file,
    folders::folder,
    kernel::parameter,
    links::block,
    links::link,
    mounts::mount,
    packages::package,
    services::service,
    timers::timer,
];

/// Three to eight things.
pub fn some(seed: u64, dice: &mut Dice) -> Vec<Thing> {
    let count = dice.random_range(3..=8);
    let mut things = Vec::new();
    for number in 0..count {
        let make = pick(dice, &MAKERS);
        // Randomness of its own, so that a change in one maker leaves the others' things as they were.
        let mut own = rand::SeedableRng::seed_from_u64(dice.next_u64());
        let thing = make(&format!("s{seed}n{number}"), &mut own);
        // What has no name of its own, a package or a parameter, is there once.
        if !things.iter().any(|other: &Thing| named(other) == named(&thing)) {
            things.push(thing);
        }
    }
    things
}

/// The line that names a thing's first resource.
fn named(thing: &Thing) -> Option<&str> {
    thing.present.lines().nth(1)
}

/// One of them.
pub fn pick<T: Copy>(dice: &mut Dice, all: &[T]) -> T {
    *all.choose(dice).expect("there are some")
}
