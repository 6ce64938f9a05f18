//! From a case that fails to the fewest of its things that fail, too.

use super::{
    case::Case,
    run::{self, Why},
};

/// A node is made for each try, and a person waits.
const MOST: usize = 12;

pub fn shrink(case: &Case, why: Why) -> (Case, Why) {
    let (mut least, mut why, mut tries) = (case.clone(), why, 0);
    let mut at = 0;
    while at < least.things.len() && least.things.len() > 1 && tries < MOST {
        tries += 1;
        let mut fewer = least.clone();
        fewer.things.remove(at);
        match run::run(&run::prepared(), &fewer) {
            Ok(_) => at += 1,
            Err(still) => (least, why) = (fewer, still),
        }
    }
    (least, why)
}
