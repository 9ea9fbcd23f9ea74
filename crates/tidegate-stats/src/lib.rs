//! What the numbers say: estimates, intervals, tests, planning.

pub mod arm;
pub mod bayes;
pub mod betting;
mod bisection;
pub mod comparison;
pub mod count_eprocess;
pub mod cuped;
pub mod delta;
pub mod effect;
pub mod error;
pub mod exact;
pub mod exact_sum;
pub mod figures;
pub mod fixed;
pub mod moments;
pub mod noninferiority;
pub mod order_statistics;
pub mod poststratify;
pub mod proportions;
pub mod quantile;
pub mod rank_sketch;
pub mod ratio;
pub mod sequential;
pub mod shrinkage;
pub mod small_arm;
pub mod small_counts;
pub mod special;
pub mod winsorise;

pub use arm::ArmSummary;
pub use comparison::{Comparison, Effect, Method, Note, Null, Relative, RelativeSet, Tail};
pub use effect::{Contrast, Estimate};
pub use error::{Side, StatsError};
pub use exact_sum::ExactSum;
pub use moments::{JointMoments, Moments};

mod brownian;
pub mod certify;
pub mod decision;
pub mod group_sequential;
pub mod multiplicity;
pub mod planner;
pub mod quality;
pub mod srm;
