//! Figures of several runs, and the table that they are printed as.

/// One measured thing, in one unit, over several runs.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    pub fn add(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The middle one; of an even number the mean of the two in the middle. None without runs.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _even => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// `median (lowest to highest)`.
    pub fn shown(&self, digits: usize) -> String {
        let Some(median) = self.median() else { return "absent".to_owned() };
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// `a / b` of the medians.
pub fn ratio(a: &Figures, b: &Figures) -> String {
    match (a.median(), b.median()) {
        (Some(a), Some(b)) if b > 0.0 => format!("{:.2}", a / b),
        _ => "-".to_owned(),
    }
}

/// A Markdown table with columns as wide as they must be.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].chars().count()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let mut text = line(&mut head.iter().copied());
    let rules: Vec<_> = widths.iter().map(|&width| "-".repeat(width)).collect();
    text.push_str(&line(&mut rules.iter().map(String::as_str)));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let figures = |all: &[f64]| Figures(all.to_vec());
        assert_eq!(figures(&[3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(figures(&[4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
        assert_eq!(figures(&[]).median(), None);
        assert_eq!(figures(&[2.0, 1.0, 4.0]).shown(1), "2.0 (1.0 to 4.0)");
        assert_eq!(ratio(&figures(&[1.0]), &figures(&[4.0])), "0.25");
        assert_eq!(ratio(&figures(&[1.0]), &figures(&[])), "-");
    }

    #[test]
    fn columns_are_aligned() {
        let text = table(&["what", "s"], &[vec!["muster".into(), "1".into()]]);
        assert_eq!(text, "| what   | s |\n| ------ | - |\n| muster | 1 |\n");
    }
}
