//! Plain text tables: the first column left, numbers right, nothing cut.

/// Rows under a heading.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self {
            rows: vec![columns.iter().map(|name| (*name).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, one line per row.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    if column == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A figure for reading: six significant digits, scientific where tiny or huge.
pub(crate) fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.5e}");
    }
    let decimals = (0..=10)
        .find(|decimals| size >= 10.0_f64.powi(5 - decimals))
        .unwrap_or(10);
    let decimals = usize::try_from(decimals).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// A figure, or a dash where there is none.
pub(crate) fn figure_or(value: Option<f64>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_six_digits() {
        let shown: Vec<String> = [0.0, 1.5, 123_456.7, 0.000_123_456_7, 1e-12, -2.5e10]
            .map(figure)
            .into();
        assert_eq!(
            shown,
            [
                "0",
                "1.50000",
                "123457",
                "0.000123457",
                "1.00000e-12",
                "-2.50000e10"
            ]
        );
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["look", "z"]);
        table.row(vec!["1".to_owned(), "4.8769".to_owned()]);
        assert_eq!(table.render(), "look       z\n1     4.8769\n");
    }
}
