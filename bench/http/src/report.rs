//! What was asked for, beside what was measured.

/// One line of the last table.
struct Figure {
    what: String,
    asked: String,
    measured: String,
    is_met: bool,
}

/// Everything that was measured against a goal.
#[derive(Default)]
pub struct Report(Vec<Figure>);

impl Report {
    /// A figure that is to be at most `most`.
    pub fn at_most(&mut self, what: impl Into<String>, measured: f64, most: f64, unit: &str) {
        self.note(what, ("<=", most), measured, unit, measured <= most);
    }

    /// A figure that is to be at least `least`.
    pub fn at_least(&mut self, what: impl Into<String>, measured: f64, least: f64, unit: &str) {
        self.note(what, (">=", least), measured, unit, measured >= least);
    }

    fn note(
        &mut self,
        what: impl Into<String>,
        (sign, goal): (&str, f64),
        measured: f64,
        unit: &str,
        is_met: bool,
    ) {
        self.0.push(Figure {
            what: what.into(),
            asked: format!("{sign} {goal} {unit}"),
            measured: format!("{measured:.1} {unit}"),
            is_met,
        });
    }

    pub fn print(&self) {
        println!("\n{:<58} {:>12} {:>12}", "what", "asked", "measured");
        for figure in &self.0 {
            let missed = if figure.is_met { "" } else { "   MISSED" };
            let Figure {
                what,
                asked,
                measured,
                ..
            } = figure;
            println!("{what:<58} {asked:>12} {measured:>12}{missed}");
        }
    }
}
