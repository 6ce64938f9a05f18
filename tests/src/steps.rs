//! Which steps of the live proof run: a name that no step has must not look like a proof.

use anyhow::ensure;

/// The steps whose name contains `only`, in their order; all without it. None at all is an error.
pub fn chosen<'a, T>(steps: &'a [(&'static str, T)], only: Option<&str>) -> anyhow::Result<Vec<&'a (&'static str, T)>> {
    let only = only.unwrap_or_default();
    let chosen: Vec<_> = steps.iter().filter(|(name, _)| name.contains(only)).collect();
    ensure!(!chosen.is_empty(), "no step's name contains `{only}`, and nothing ran");
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_step_has_is_an_error() {
        let steps = [("up", 1), ("up_again", 2), ("down", 3)];
        let numbers = |only| chosen(&steps, only).map(|steps| steps.iter().map(|step| step.1).collect::<Vec<_>>());
        assert_eq!(numbers(None).unwrap(), [1, 2, 3]);
        assert_eq!(numbers(Some("up")).unwrap(), [1, 2]);
        assert!(numbers(Some("renamed")).unwrap_err().to_string().contains("`renamed`"));
    }
}
