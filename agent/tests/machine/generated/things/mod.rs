//! What cases are made of: one file a kind or two, each thing with its judges.

mod accounts;
mod commands;
mod files;
mod folders;
mod kernel;
mod mounts;
pub mod packages;
mod services;

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

use super::case::{Dice, Thing};

/// Makes one thing whose names all hold the tag.
type Maker = fn(&str, &mut Dice) -> Thing;

const MAKERS: [Maker; 8] = [
    accounts::account,
    commands::command,
    files::file,
    folders::folder,
    kernel::parameter,
    mounts::mount,
    packages::package,
    services::service,
];

/// Three to eight things.
pub fn some(seed: u64, dice: &mut Dice) -> Vec<Thing> {
    let count = dice.random_range(3..=8);
    let mut things = Vec::new();
    for number in 0..count {
        let make = pick(dice, &MAKERS);
        // Randomness of its own, so that a change in one maker leaves the others' things as they were.
        let mut own = rand::SeedableRng::seed_from_u64(dice.next_u64());
        things.push(make(&format!("s{seed}n{number}"), &mut own));
    }
    things
}

/// One of them.
pub fn pick<T: Copy>(dice: &mut Dice, all: &[T]) -> T {
    *all.choose(dice).expect("there are some")
}
