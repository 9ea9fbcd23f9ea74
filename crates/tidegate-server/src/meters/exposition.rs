//! The Prometheus text format: families with their help, labels escaped.

use std::fmt::{Display, Write as _};

use super::table::Metric;

/// An answer under construction.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// Adds a family; a sample has one value per label of the metric.
    pub(crate) fn family<'a, const N: usize, V: Display>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'a str; N], V)>,
    ) {
        let Metric { name, help, .. } = metric;
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}");
        let _ = writeln!(self.0, "# TYPE {name} {}", metric.kind.as_str());
        for (values, value) in samples {
            let labels: Vec<String> = metric
                .labels
                .iter()
                .zip(values)
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let _ = match labels.as_slice() {
                [] => writeln!(self.0, "{name} {value}"),
                labels => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
            };
        }
    }

    /// Adds a family of one sample without labels.
    pub(crate) fn single(&mut self, metric: &Metric, value: impl Display) {
        self.family(metric, [([], value)]);
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::table::{PENDING_STOPS, ROLLOUTS};
    use super::*;

    #[test]
    fn families_carry_help_type_and_escaped_labels() {
        let mut page = Page::default();
        page.family(&ROLLOUTS, [(["a\"b\\c\nd", "running"], 2)]);
        page.single(&PENDING_STOPS, 0);
        let text = page.into_text();
        let sample = r#"tidegate_rollouts{project="a\"b\\c\nd",lifecycle="running"} 2"#;
        assert!(text.lines().any(|line| line == sample), "{text}");
        assert!(text.contains("# TYPE tidegate_rollouts gauge\n"), "{text}");
        assert!(text.ends_with("\ntidegate_pending_stops 0\n"), "{text}");
    }
}
