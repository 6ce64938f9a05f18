//! Whether a run of upstream's specs is good. A failure never is; a skip only if it was agreed to beforehand, by the
//! spec's name and for one of few reasons, in `tests/artefacts/e2e/skips.toml`.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::upstream::report::{Outcome, Spec};

/// How many of a whole run must pass, however many skips are agreed to.
pub const WANTED: usize = 40;

const SKIPS: &str = include_str!("../../../artefacts/e2e/skips.toml");

/// A skip that was agreed to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// The spec's whole name.
    spec: String,
    why: Why,
    /// A part of the reason that the spec itself gives.
    says: String,
}

/// What this environment need not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    Ipv6,
    CloudLoadBalancer,
    /// That this machine's kernel lacks.
    KernelFeature,
    /// That cannot be obtained.
    Image,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv6 => "IPv6",
            Self::CloudLoadBalancer => "a cloud load balancer",
            Self::KernelFeature => "a feature that the kernel lacks",
            Self::Image => "an image that cannot be obtained",
        })
    }
}

/// The checked-in skips. One for a spec that is not among `all` is an error: upstream renames some with a release.
pub fn agreed(all: &[String]) -> Result<Vec<Skip>> {
    parse(SKIPS, all).context("tests/artefacts/e2e/skips.toml")
}

fn parse(text: &str, all: &[String]) -> Result<Vec<Skip>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        skip: Vec<Skip>,
    }
    let File { skip: skips } = toml::from_str(text)?;
    for Skip { spec, says, .. } in &skips {
        ensure!(all.contains(spec), "`{spec}` is no conformance spec");
        ensure!(!says.trim().is_empty(), "`{spec}` has an empty `says`");
    }
    Ok(skips)
}

/// Judges a run: nothing failed, at least `wanted` passed, and each skip is agreed to. Returns a line for each such skip.
///
/// # Errors
///
/// All faults at once, a line each.
pub fn judge(specs: &[Spec], wanted: usize, agreed: &[Skip]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut notes = Vec::new();
    let mut passed = 0;
    for Spec { name, outcome, reason, .. } in specs {
        let skip = agreed.iter().find(|skip| skip.spec == *name);
        match (outcome, skip) {
            (Outcome::Passed, _) => passed += 1,
            (Outcome::Failed, _) => faults.push(format!("failed: {name}: {reason}")),
            (Outcome::Skipped, None) => faults.push(format!("skipped, which nobody agreed to: {name}: {reason}")),
            (Outcome::Skipped, Some(skip)) if !reason.contains(&skip.says) => {
                let says = &skip.says;
                faults.push(format!("skipped for another reason than `{says}`: {name}: {reason}"));
            }
            (Outcome::Skipped, Some(skip)) => notes.push(format!("skipped, for it needs {}: {name}", skip.why)),
        }
    }
    if passed < wanted {
        faults.push(format!("{passed} specs passed and {wanted} must"));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// So many passed ones, and these others.
    fn run(passed: usize, others: &[(&str, Outcome, &str)]) -> Vec<Spec> {
        let spec = |name: &str, outcome, reason: &str| Spec {
            name: name.to_owned(),
            outcome,
            took: Duration::ZERO,
            reason: reason.to_owned(),
        };
        let good = (0..passed).map(|n| spec(&format!("good {n}"), Outcome::Passed, ""));
        good.chain(others.iter().map(|(name, outcome, reason)| spec(name, *outcome, reason))).collect()
    }

    fn skips() -> Vec<Skip> {
        let text = "[[skip]]\nspec = \"six\"\nwhy = \"ipv6\"\nsays = \"no IPv6\"\n";
        parse(text, &["six".to_owned()]).unwrap()
    }

    fn faults(specs: &[Spec]) -> String {
        judge(specs, WANTED, &skips()).unwrap_err().to_string()
    }

    #[test]
    fn the_checked_in_skips_are_read() {
        let named = toml::from_str::<toml::Table>(SKIPS).unwrap();
        let named: Vec<String> = named.get("skip").and_then(toml::Value::as_array).map_or_else(Vec::new, |skips| {
            skips.iter().filter_map(|skip| skip.get("spec")?.as_str()).map(str::to_owned).collect()
        });
        assert_eq!(agreed(&named).unwrap().len(), named.len());
    }

    #[test]
    fn one_failure_is_too_many() {
        let told = faults(&run(44, &[("bad", Outcome::Failed, "no answer")]));
        assert_eq!(told, "failed: bad: no answer");
    }

    #[test]
    fn a_skip_is_agreed_to_by_name_and_reason() {
        let agreed = run(44, &[("six", Outcome::Skipped, "this cluster has no IPv6")]);
        assert_eq!(judge(&agreed, WANTED, &skips()).unwrap(), ["skipped, for it needs IPv6: six"]);
        let told = faults(&run(43, &[("six", Outcome::Skipped, "no time"), ("other", Outcome::Skipped, "no IPv6")]));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "skipped for another reason than `no IPv6`: six: no time",
                "skipped, which nobody agreed to: other: no IPv6"
            ]
        );
    }

    #[test]
    fn skips_do_not_replace_passes() {
        let told = faults(&run(39, &[("six", Outcome::Skipped, "no IPv6")]));
        assert_eq!(told, "39 specs passed and 40 must");
        assert!(judge(&run(40, &[]), WANTED, &[]).is_ok());
    }

    #[test]
    fn of_a_list_all_pass() {
        let specs = run(2, &[("six", Outcome::Skipped, "no IPv6")]);
        assert!(judge(&specs, specs.len(), &[]).unwrap_err().to_string().contains("2 specs passed and 3 must"));
    }

    #[test]
    fn a_skip_of_no_spec_or_for_no_known_reason_is_an_error() {
        let text = |why: &str| format!("[[skip]]\nspec = \"six\"\nwhy = \"{why}\"\nsays = \"x\"\n");
        assert!(parse(&text("image"), &[]).unwrap_err().to_string().contains("no conformance spec"));
        assert!(parse(&text("flaky"), &["six".to_owned()]).is_err());
    }
}
