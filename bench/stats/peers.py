"""Figures of peers beside ours, on the same inputs, where the peers are right.

Called with the path of the tidegate program by a Python that has scipy, statsmodels, gbstats and
spotify-confidence.
`crates/tidegate/tests/stats_peers.rs` does so when TIDEGATE_STATS_PEERS_PYTHON names such a Python.
Prints one line per figure; exits 1 when one disagrees. A package that is missing is an error: the
caller decides whether to call.
"""

import json
import math
import subprocess
import sys
import warnings

import numpy
import pandas
import spotify_confidence
from gbstats.frequentist.tests import FrequentistConfig, TwoSidedTTest
from gbstats.models.statistics import ProportionStatistic
from scipy import optimize, stats
from spotify_confidence.analysis.frequentist.sequential_bound_solver import bounds
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep


def tidegate(program, *arguments):
    output = subprocess.run([program, "stats", *arguments, "-o", "json"], check=True, capture_output=True)
    return json.loads(output.stdout)


def compare_counts(program, control, treatment, *more):
    report = tidegate(
        program, "compare", "--method", "fixed",
        "--control-counts", f"{control[0]},{control[1]}",
        "--treatment-counts", f"{treatment[0]},{treatment[1]}", *more,
    )
    return report["rows"][0]


def score_z(difference, treatment, control):
    """Miettinen and Nurminen's z at `difference`, the nuisance rate by direct maximisation."""
    (x1, n1), (x0, n0) = treatment, control

    def minus_log_likelihood(rate):
        other = rate + difference
        return -(
            x1 * math.log(other) + (n1 - x1) * math.log(1 - other)
            + x0 * math.log(rate) + (n0 - x0) * math.log(1 - rate)
        )

    bounds = (max(0.0, -difference) + 1e-12, min(1.0, 1.0 - difference) - 1e-12)
    rate = optimize.minimize_scalar(
        minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-14}
    ).x
    other = rate + difference
    variance = (other * (1 - other) / n1 + rate * (1 - rate) / n0) * (n1 + n0) / (n1 + n0 - 1)
    return (x1 / n1 - x0 / n0 - difference) / math.sqrt(variance)


# Units, sum and sum of squares of control and treatment: revenue, sample S1 of docs/statistics.md.
REVENUE = ((3407, 1396.87, 52377.9767), (3461, 2422.7, 134698.29))


def spotify_t_test():
    """Difference, interval and p-value of spotify-confidence's t-test on the revenue sample."""
    frame = frame_of(REVENUE)
    test = spotify_confidence.StudentsTTest(
        frame, numerator_column="sum", numerator_sum_squares_column="squares",
        denominator_column="units", categorical_group_columns="arm", interval_size=0.95,
    )
    return test.difference("control", "treatment").iloc[0]


def frame_of(arms):
    rows = [dict(arm=arm, units=n, sum=s, squares=q) for arm, (n, s, q) in zip(("control", "treatment"), arms)]
    return pandas.DataFrame(rows)


def compare_means(program, *more):
    def summary(units, total, squares):
        variance = (squares - total * total / units) / (units - 1)
        return f"{units},{total / units!r},{math.sqrt(variance)!r}"

    control, treatment = (summary(*arm) for arm in REVENUE)
    report = tidegate(
        program, "compare", "--method", "fixed", "--control-summary", control,
        "--treatment-summary", treatment, *more,
    )
    return report["rows"][0]


def figures(program):
    control, treatment = (87, 1529), (62, 1471)
    row = compare_counts(program, control, treatment)

    config = FrequentistConfig(alpha=0.05, difference_type="absolute")
    arms = [ProportionStatistic(n=n, sum=s) for s, n in (control, treatment)]
    peer = TwoSidedTTest(*arms, config).compute_result()
    yield "gbstats absolute t-test, p", row["p_value"], peer.p_value, 1e-9
    yield "gbstats absolute t-test, lower", row["absolute"]["lower"], peer.ci[0], 1e-9
    yield "gbstats absolute t-test, upper", row["absolute"]["upper"], peer.ci[1], 1e-9

    score = compare_counts(program, control, treatment, "--interval", "score")
    _, upper = confint_proportions_2indep(
        treatment[0], treatment[1], control[0], control[1], compare="diff", method="score"
    )
    yield "statsmodels score interval, upper", score["absolute"]["upper"], upper, 1e-6
    # The lower end of statsmodels 0.15 (-.030420) departs: its restricted estimate there is not the
    # maximum of the likelihood. Held against a direct maximisation instead.
    lower = score["absolute"]["lower"]
    yield "scipy maximised score at our lower end", score_z(lower, treatment, control), stats.norm.ppf(0.975), 1e-6

    row, peer = compare_means(program), spotify_t_test()
    yield "spotify-confidence t-test, p", row["p_value"], peer["p-value"], 1e-9
    yield "spotify-confidence t-test, lower", row["absolute"]["lower"], peer["ci_lower"], 1e-9
    yield "spotify-confidence t-test, upper", row["absolute"]["upper"], peer["ci_upper"], 1e-9

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = bounds(numpy.array([0.2, 0.4, 0.6, 0.8, 1.0]), alpha=0.05, rho=2, ztrun=8, sides=2)
    plan = tidegate(program, "boundaries", "--looks", "5", "--spending", "power=2", "--alpha", "0.05")
    # Their integration grid is good to about four decimals.
    for ours, limit in zip(plan["rows"], theirs.df["zb"]):
        yield f"spotify-confidence boundary, look {ours['look']}", ours["z"], limit, 5e-4

    exact = compare_counts(program, (3, 15), (7, 12), "--interval", "exact")
    barnard = stats.barnard_exact([[7, 3], [5, 12]], alternative="greater", pooled=True)
    yield "scipy Barnard, doubled", exact["p_value"], 2.0 * barnard.pvalue, 1e-3

    split = tidegate(program, "srm", "--counts", "821588,815482", "--weights", "1,1")
    yield "scipy chi-square", split["chi_square"]["p_value"], stats.chisquare([821588, 815482]).pvalue, 1e-12
    exact = stats.binomtest(821588, 821588 + 815482, 0.5).pvalue
    yield "scipy exact binomial", split["exact"]["p_value"], exact, 1e-12

    plan = tidegate(program, "plan", "--mean", "10", "--sd", "5", "--effect", "0.1", "--method", "fixed")
    per_arm = NormalIndPower().solve_power(0.1 / 5.0, alpha=0.05, power=0.8, ratio=1.0)
    yield "statsmodels units per arm", plan["units_fixed"] / 2.0, per_arm, 1.0


def main():
    failed = False
    for name, ours, theirs, tolerance in figures(sys.argv[1]):
        agrees = abs(ours - theirs) <= tolerance
        failed |= not agrees
        print(f"{'agrees' if agrees else 'DIFFERS'}  {name}: ours {ours!r}, theirs {float(theirs)!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
