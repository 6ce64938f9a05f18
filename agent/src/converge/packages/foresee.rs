//! What apt would do for the packages of one transaction, looked at before anything is done: who is refused, and what comes
//! along. The same for a plan and for an apply.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use muster_catalog::{Catalog, Spec, kinds::package::PackageSpec};
use muster_plan::kinds::package::{
    Change,
    transaction::{Asked, Deed, Move, Offence, company, offences},
};

use crate::{
    Context,
    kinds::package::transaction,
    ports::{Known, PackageError, Transaction},
};

/// One package that differs.
pub struct Wish<'a> {
    pub spec: &'a PackageSpec,
    pub change: Change,
}

/// What came out, by positions in the wishes.
#[derive(Debug, Default)]
pub struct Foreseen {
    pub refused: Vec<(usize, PackageError)>,
    pub accepted: Vec<usize>,
    /// Of all that is accepted.
    pub transaction: Transaction,
    pub moves: Vec<Move>,
    /// What nobody asked for by name: lines for people.
    pub company: Vec<String>,
}

/// Looks at all wishes as one transaction, and leaves out those that cannot be or may not be had.
pub async fn foresee(ctx: &Context, catalog: &Catalog, known: &Known, wishes: &[Wish<'_>]) -> Foreseen {
    let judge = Judge::new(ctx, catalog, known, wishes);
    let (mut left, mut refused) = (Vec::new(), Vec::new());
    for (at, wish) in wishes.iter().enumerate() {
        match judge.other_name(wish.spec) {
            Some(other) => {
                let (name, other) = (wish.spec.name.clone(), other.to_owned());
                refused.push((at, PackageError::Twice { name, other }));
            }
            None => left.push(at),
        }
    }
    loop {
        let error = match judge.look(&left).await {
            Ok(moves) => {
                let mut transaction = judge.merge(&left);
                let gone = moves.iter().filter(|step| step.deed == Deed::Remove);
                transaction.goes.extend(gone.map(|step| step.name.clone()));
                let company = company(&moves, &judge.asked(&left));
                return Foreseen { refused, accepted: left, transaction, moves, company };
            }
            Err(error) => error,
        };
        let changing: Vec<usize> = left.iter().copied().filter(|&at| judge.changes(at)).collect();
        let guilty = match judge.named(&error, &changing) {
            Some(at) => vec![(at, error)],
            None if says_no(&error) => judge.guilty(changing, error).await,
            None => changing.into_iter().map(|at| (at, error.clone())).collect(),
        };
        left.retain(|at| guilty.iter().all(|(bad, _)| bad != at));
        refused.extend(guilty);
    }
}

/// apt can do some of it, and not all together: the rest is worth another look.
pub fn says_no(error: &PackageError) -> bool {
    match error {
        PackageError::NotFound { .. }
        | PackageError::NoSuchVersion { .. }
        | PackageError::Twice { .. }
        | PackageError::Virtual { .. }
        | PackageError::WouldRemove { .. }
        | PackageError::WouldChangeHeld { .. }
        | PackageError::Unmet { .. }
        | PackageError::Essential { .. }
        | PackageError::Altered { .. }
        | PackageError::Untrusted { .. }
        | PackageError::Broken { .. }
        | PackageError::Failed { .. } => true,
        PackageError::HalfDone
        | PackageError::Changed { .. }
        | PackageError::Lost { .. }
        | PackageError::Sources { .. }
        | PackageError::Unsigned { .. }
        | PackageError::NoSignature { .. }
        | PackageError::Unreachable { .. }
        | PackageError::DiskFull
        | PackageError::Locked { .. }
        | PackageError::NoApt => false,
    }
}

/// The package that an error is about, where it is about one.
fn name(error: &PackageError) -> Option<&str> {
    match error {
        PackageError::NotFound { name, .. }
        | PackageError::NoSuchVersion { name, .. }
        | PackageError::Twice { name, .. }
        | PackageError::Virtual { name, .. }
        | PackageError::Untrusted { name }
        | PackageError::Altered { name, .. } => Some(name),
        PackageError::WouldRemove { .. }
        | PackageError::WouldChangeHeld { .. }
        | PackageError::Unmet { .. }
        | PackageError::Essential { .. }
        | PackageError::HalfDone
        | PackageError::Broken { .. }
        | PackageError::Changed { .. }
        | PackageError::Lost { .. }
        | PackageError::Sources { .. }
        | PackageError::Unsigned { .. }
        | PackageError::NoSignature { .. }
        | PackageError::Unreachable { .. }
        | PackageError::DiskFull
        | PackageError::Locked { .. }
        | PackageError::Failed { .. }
        | PackageError::NoApt => None,
    }
}

/// The indexes do not have it, or not any more: old ones may be to blame.
pub fn is_unknown(error: &PackageError) -> bool {
    matches!(error, PackageError::NotFound { .. } | PackageError::NoSuchVersion { .. } | PackageError::Virtual { .. })
}

/// A removal that others stand on: what is still to come may be there for them instead.
pub fn takes_others_along(error: &PackageError) -> bool {
    matches!(error, PackageError::WouldRemove { .. })
}

/// What an error says of this package alone.
pub fn of(error: &PackageError, package: &str) -> Option<PackageError> {
    let bare = |name: &str| name.split(':').next().unwrap_or(name).to_owned();
    if let PackageError::Broken { packages } = error {
        let (name, said) = packages.iter().find(|(name, _)| bare(name) == bare(package))?;
        // Where it only waits for others, these are the reason.
        let of_others = said.starts_with("dependency problems");
        let packages = if of_others { packages.clone() } else { [(name.clone(), said.clone())].into() };
        return Some(PackageError::Broken { packages });
    }
    (bare(name(error)?) == bare(package)).then(|| error.clone())
}

struct Judge<'a> {
    ctx: &'a Context,
    known: &'a Known,
    wishes: &'a [Wish<'a>],
    /// All packages of the catalog.
    written: Vec<(String, &'a PackageSpec)>,
}

impl<'a> Judge<'a> {
    fn new(ctx: &'a Context, catalog: &'a Catalog, known: &'a Known, wishes: &'a [Wish<'a>]) -> Self {
        let written = catalog.resource.iter().filter_map(|resource| match &resource.spec {
            Spec::Package(package) => Some((known.name(&package.name).to_owned(), package)),
            _other => None,
        });
        Self { ctx, known, wishes, written: written.collect() }
    }

    /// Another name by which the site writes the same package: `libc6` and `libc6:amd64`.
    fn other_name(&self, spec: &PackageSpec) -> Option<&str> {
        let own = self.known.name(&spec.name);
        let other = self.written.iter().find(|(name, other)| name == own && other.name != spec.name);
        other.map(|(_, other)| other.name.as_str())
    }

    fn changes(&self, at: usize) -> bool {
        self.wishes[at].change.install || self.wishes[at].change.remove
    }

    fn merge(&self, of: &[usize]) -> Transaction {
        let mut all = Transaction::default();
        for &at in of {
            all.merge(transaction(self.wishes[at].spec, &self.wishes[at].change));
        }
        all
    }

    fn asked(&self, of: &[usize]) -> Asked {
        let names = |takes: fn(&Change) -> bool| {
            let wishes = of.iter().map(|&at| &self.wishes[at]).filter(move |wish| takes(&wish.change));
            wishes.map(|wish| self.known.name(&wish.spec.name).to_owned()).collect::<BTreeSet<_>>()
        };
        Asked { install: names(|change| change.install), remove: names(|change| change.remove) }
    }

    /// The moves for these, or why they are refused.
    async fn look(&self, of: &[usize]) -> Result<Vec<Move>, PackageError> {
        let transaction = self.merge(of);
        if !transaction.changes_packages() {
            return Ok(Vec::new());
        }
        let moves = self.ctx.packages.simulate(&transaction).await?;
        let asked = self.asked(of);
        let held = |name: &str| self.known.get(name).is_some_and(|package| package.hold);
        match refusal(offences(&moves, &asked, &self.written, held), &asked) {
            Some(error) => Err(error),
            None => Ok(moves),
        }
    }

    fn named(&self, error: &PackageError, among: &[usize]) -> Option<usize> {
        let name = self.known.name(name(error)?);
        among.iter().copied().find(|&at| self.known.name(&self.wishes[at].spec.name) == name)
    }

    /// Those of a refused set that are refused by themselves too, found by halves; where none is, all that take part.
    fn guilty(&self, of: Vec<usize>, error: PackageError) -> BoxFuture<'_, Vec<(usize, PackageError)>> {
        Box::pin(async move {
            if let [one] = of.as_slice() {
                let error = naming(error, vec![self.wishes[*one].spec.name.clone()]);
                return vec![(*one, error)];
            }
            let mut guilty = Vec::new();
            let (first, second) = of.split_at(of.len() / 2);
            for half in [first, second] {
                if let Err(error) = self.look(half).await {
                    guilty.extend(match self.named(&error, half) {
                        Some(at) => vec![(at, error)],
                        None => self.guilty(half.to_vec(), error).await,
                    });
                }
            }
            if !guilty.is_empty() {
                return guilty;
            }
            let part = |&at: &usize| takes_part(&error, &self.wishes[at].spec.name);
            let some: Vec<usize> = of.iter().copied().filter(part).collect();
            let all = if some.is_empty() { of } else { some };
            let error = naming(error, all.iter().map(|&at| self.wishes[at].spec.name.clone()).collect());
            all.into_iter().map(|at| (at, error.clone())).collect()
        })
    }
}

fn naming(error: PackageError, names: Vec<String>) -> PackageError {
    match error {
        PackageError::Unmet { said, .. } => PackageError::Unmet { names, said },
        PackageError::Essential { .. } => PackageError::Essential { name: names.join(", ") },
        other => other,
    }
}

/// Whether apt names this package where it says what does not go together.
fn takes_part(error: &PackageError, name: &str) -> bool {
    match error {
        PackageError::Unmet { said, .. } => {
            let words = said.split(|c: char| !(c.is_ascii_alphanumeric() || "+.-".contains(c)));
            words.into_iter().any(|word| word == name.split(':').next().unwrap_or(name))
        }
        _other => false,
    }
}

fn refusal(offences: BTreeSet<Offence>, asked: &Asked) -> Option<PackageError> {
    let mut causes = Vec::new();
    for (verb, names) in [("installing", &asked.install), ("removing", &asked.remove)] {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match names.as_slice() {
            [] => {}
            [one] => causes.push(format!("{verb} {one}")),
            [first, second] => causes.push(format!("{verb} {first} and {second}")),
            [first, second, rest @ ..] => causes.push(format!("{verb} {first}, {second} and {} more", rest.len())),
        }
    }
    let cause = causes.join(" and ");
    let mut victims: (Vec<String>, Vec<String>) = Default::default();
    for offence in offences {
        match offence {
            Offence::Removes { name, wanted: true } => victims.0.push(name),
            Offence::Removes { name, wanted: false } => victims.1.push(name),
            Offence::ChangesHeld { name, from, to } if victims.0.is_empty() && victims.1.is_empty() => {
                return Some(PackageError::WouldChangeHeld { cause, name, from, to });
            }
            Offence::ChangesHeld { .. } => {}
        }
    }
    let (wanted, others) = victims;
    if !wanted.is_empty() {
        return Some(PackageError::WouldRemove { cause, victims: wanted, wanted: true });
    }
    (!others.is_empty()).then_some(PackageError::WouldRemove { cause, victims: others, wanted: false })
}
