//! What `--metric` asks for.

use std::str::FromStr;

/// How a column becomes a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Mean over units.
    Mean,
    /// Share of units with a 1.
    Proportion,
    /// Sum of the column over the sum of another.
    Ratio {
        /// The other column.
        denominator: String,
    },
    /// Quantile over observations, clustered by unit.
    Quantile {
        /// Between 0 and 1.
        nu: f64,
    },
}

/// A column and what is made of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MetricSpec {
    pub(super) column: String,
    pub(super) kind: Kind,
}

/// A column, or the ratio of two, measured before the change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CovariateSpec(pub(super) MetricSpec);

impl CovariateSpec {
    /// The column it divides by, if it is a ratio.
    pub(super) fn denominator(&self) -> Option<&str> {
        match &self.0.kind {
            Kind::Ratio { denominator } => Some(denominator),
            _ => None,
        }
    }
}

impl FromStr for CovariateSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let spec: MetricSpec = text.parse()?;
        match spec.kind {
            Kind::Mean | Kind::Ratio { .. } => Ok(Self(spec)),
            Kind::Proportion | Kind::Quantile { .. } => Err(
                "a covariate is COLUMN or COLUMN:ratio=DENOMINATOR, measured before the change"
                    .to_owned(),
            ),
        }
    }
}

impl FromStr for MetricSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, kind) = text.split_once(':').unwrap_or((text, "mean"));
        if column.is_empty() {
            return Err("name a column, for example revenue:mean".to_owned());
        }
        let kind = match kind.split_once('=') {
            None if kind == "mean" => Kind::Mean,
            None if kind == "proportion" => Kind::Proportion,
            Some(("ratio", denominator)) if !denominator.is_empty() => Kind::Ratio {
                denominator: denominator.to_owned(),
            },
            Some(("quantile", nu)) => Kind::Quantile { nu: quantile(nu)? },
            _ => {
                return Err(format!(
                    "{kind:?} is no metric; write COLUMN, COLUMN:mean, COLUMN:proportion, \
                     COLUMN:ratio=DENOMINATOR or COLUMN:quantile=0.9"
                ));
            }
        };
        Ok(Self {
            column: column.to_owned(),
            kind,
        })
    }
}

fn quantile(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|nu| *nu > 0.0 && *nu < 1.0)
        .ok_or_else(|| format!("quantile {text:?} is not between 0 and 1"))
}

impl std::fmt::Display for MetricSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Kind::Mean | Kind::Proportion => formatter.write_str(&self.column),
            Kind::Ratio { denominator } => write!(formatter, "{}/{denominator}", self.column),
            Kind::Quantile { nu } => write!(formatter, "{} quantile {nu}", self.column),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_or_refused_with_the_cure() {
        let kind = |text: &str| text.parse::<MetricSpec>().map(|metric| metric.kind);
        assert_eq!(kind("spend"), Ok(Kind::Mean));
        assert_eq!(kind("visit:proportion"), Ok(Kind::Proportion));
        assert_eq!(
            kind("clicks:ratio=views"),
            Ok(Kind::Ratio {
                denominator: "views".to_owned()
            })
        );
        assert_eq!(
            kind("latency:quantile=0.99"),
            Ok(Kind::Quantile { nu: 0.99 })
        );
        assert!(
            kind("latency:quantile=99")
                .unwrap_err()
                .contains("between 0 and 1")
        );
        assert!(
            kind("spend:median")
                .unwrap_err()
                .contains("COLUMN:proportion")
        );
        assert!(kind(":mean").is_err());
    }

    #[test]
    fn a_covariate_is_a_column_or_a_ratio() {
        let read = |text: &str| text.parse::<CovariateSpec>();
        assert_eq!(read("before").unwrap().denominator(), None);
        assert_eq!(
            read("clicks_before:ratio=views_before")
                .unwrap()
                .denominator(),
            Some("views_before")
        );
        assert!(read("before:quantile=0.5").is_err());
        assert!(read("before:proportion").is_err());
    }
}
