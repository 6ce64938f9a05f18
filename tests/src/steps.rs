//! Which steps of the live proof run: a name that no step has must not look like a proof.

use anyhow::ensure;

/// The steps whose name contains one of `only`, in their order; all without any. One of `only` that no step's name contains is
/// an error.
pub fn chosen<'a, T>(steps: &'a [(&'static str, T)], only: &[String]) -> anyhow::Result<Vec<&'a (&'static str, T)>> {
    for only in only {
        ensure!(steps.iter().any(|(name, _)| name.contains(only)), "no step's name contains `{only}`, and nothing ran");
    }
    Ok(steps.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|only| name.contains(only))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_step_has_is_an_error() {
        let steps = [("up", 1), ("up_again", 2), ("down", 3)];
        let numbers = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|only| (*only).to_owned()).collect();
            chosen(&steps, &only).map(|steps| steps.iter().map(|step| step.1).collect::<Vec<_>>())
        };
        assert_eq!(numbers(&[]).unwrap(), [1, 2, 3]);
        assert_eq!(numbers(&["up"]).unwrap(), [1, 2]);
        assert_eq!(numbers(&["down", "again"]).unwrap(), [2, 3]);
        assert!(numbers(&["down", "renamed"]).unwrap_err().to_string().contains("`renamed`"));
    }
}
