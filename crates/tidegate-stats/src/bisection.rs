//! Bisection of a monotone predicate, to the last bit or to a stated tolerance.
//!
//! Slow and certain: for roots of functions that are monotone but flat, steep or noisy in the
//! last digits, where Newton would need guarding anyway.

/// Halvings after which any bracket of finite numbers is down to neighbouring values in practice.
const HALVINGS: u32 = 200;

/// The point between `inside` and `outside` up to which `is_inside` holds.
///
/// `is_inside(inside)` is taken to be true and `is_inside(outside)` false; the ends may be given in
/// either order. Returns the two sides of the change, within `tolerance` of each other.
pub(crate) fn bisect(
    mut inside: f64,
    mut outside: f64,
    tolerance: f64,
    is_inside: impl Fn(f64) -> bool,
) -> Bracket {
    for _ in 0..HALVINGS {
        let middle = 0.5 * (inside + outside);
        if (inside - outside).abs() <= tolerance || middle == inside || middle == outside {
            break;
        }
        if is_inside(middle) {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Bracket { inside, outside }
}

/// The last point found inside and the first found outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bracket {
    pub(crate) inside: f64,
    pub(crate) outside: f64,
}

impl Bracket {
    pub(crate) fn middle(self) -> f64 {
        0.5 * (self.inside + self.outside)
    }
}

/// The root of a function that changes sign between `low` and `high`, by the Illinois method:
/// secant steps that keep the bracket, with the stagnant end's value halved.
pub(crate) fn root_between(
    (mut low, mut high): (f64, f64),
    tolerance: f64,
    function: impl Fn(f64) -> f64,
) -> f64 {
    let (mut at_low, mut at_high) = (function(low), function(high));
    for _ in 0..HALVINGS {
        let next = (low * at_high - high * at_low) / (at_high - at_low);
        let is_inside = next > low.min(high) && next < low.max(high);
        let next = if is_inside { next } else { 0.5 * (low + high) };
        let value = function(next);
        if value == 0.0 || (high - low).abs() <= tolerance || (next - high).abs() <= tolerance {
            return next;
        }
        if (value > 0.0) == (at_high > 0.0) {
            at_low *= 0.5;
        } else {
            (low, at_low) = (high, at_high);
        }
        (high, at_high) = (next, value);
    }
    high
}

#[cfg(test)]
mod tests {
    use super::{bisect, root_between};

    #[test]
    fn secant_steps_reach_the_root_of_a_curve() {
        let root = root_between((0.0, 2.0), 1e-14, |x| x.exp() - 2.0);
        assert!((root - std::f64::consts::LN_2).abs() < 1e-13);
    }

    #[test]
    fn finds_the_change_from_either_side() {
        let root = bisect(0.0, 2.0, 0.0, |x| x * x < 2.0);
        assert!((root.middle() - 2.0_f64.sqrt()).abs() < 1e-15);
        let mirrored = bisect(2.0, 0.0, 1e-6, |x| x * x >= 2.0);
        assert!((mirrored.middle() - 2.0_f64.sqrt()).abs() < 1e-6);
        assert!(mirrored.inside >= mirrored.outside);
    }
}
