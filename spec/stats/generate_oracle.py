"""Oracle vectors of the statistics crate, computed with 60 digits.

    pip install mpmath
    python generate_oracle.py special > special_functions.json
    python generate_oracle.py comparisons > comparisons.json
    python generate_oracle.py tables       # the constants pasted into the source

Every number is written with 17 significant digits; `args` are exact doubles.
"""

import json
import sys

from mpmath import cos, erfc, euler, exp, findroot, fsum, gammainc, inf, lambertw, log, loggamma
from mpmath import expm1, log1p, mp, mpf, nstr, pi, polyroots, re, im, sqrt, zeta

mp.dps = 60


def text(x):
    return float(nstr(x, 20))


def sf(z):
    return erfc(mpf(z) / sqrt(2)) / 2


def t_sf(t, df):
    t, df = mpf(t), mpf(df)
    if t < 0:
        return 1 - t_sf(-t, df)
    x = df / (df + t * t)
    if x < 0.8:
        return beta_series(df / 2, mpf(1) / 2, x) / 2
    with mp.workdps(400):
        t, df = mpf(t), mpf(df)
        return (1 - beta_series(mpf(1) / 2, df / 2, t * t / (df + t * t))) / 2


def incomplete_beta(a, b, x):
    """Regularised, by the power series on the side where it converges fast."""
    a, b, x = mpf(a), mpf(b), mpf(x)
    if x < 0.8:
        return beta_series(a, b, x)
    with mp.workdps(320):
        return 1 - beta_series(b, a, 1 - x)


def beta_series(a, b, x):
    """The power series after Euler's transform, all of whose terms are positive."""
    term = mpf(1) / a
    total = term
    n = 0
    while term > total * mpf(10) ** (5 - mp.dps):
        term *= (a + b + n) / (a + n + 1) * x
        total += term
        n += 1
    prefactor = exp(a * log(x) + b * log(1 - x) + loggamma(a + b) - loggamma(a) - loggamma(b))
    return prefactor * total


def upper_gamma(a, x):
    return gammainc(mpf(a), mpf(x), inf, regularized=True)


def rows(function, cases):
    return [{"args": list(args), "value": text(function(*args))} for args in cases]


def normal_upper_quantile(ln_p):
    p = exp(mpf(ln_p))
    start = sqrt(-2 * log(p)) if p < 0.3 else mpf(0.1)
    return findroot(lambda z: log(sf(z)) - mpf(ln_p), start)


def t_quantile(p, df):
    p = mpf(p)
    if p > 0.5:
        return -t_quantile_lower(1 - p, df)
    return t_quantile_lower(p, df)


def t_quantile_lower(p, df):
    low, high = mpf(0), mpf(1)
    while t_sf(high, df) > p:
        low, high = high, high * 2
    for _ in range(75):
        middle = (low + high) / 2
        if t_sf(middle, df) > p:
            low = middle
        else:
            high = middle
    return -(low + high) / 2


def beta_inverse(a, b, p):
    low, high = mpf(0), mpf(1)
    p = mpf(p)
    for _ in range(250):
        middle = (low + high) / 2 if low > 0 else high / 16
        if incomplete_beta(a, b, middle) < p:
            low = middle
        else:
            high = middle
        if low > 0 and (high - low) / low < mpf(10) ** -22:
            break
    return (low + high) / 2


def special():
    zs = [0.0, 1e-9, 0.01, 0.3, 0.5, 1.0, 1.959963984540054, 2.5, 3.7, 5.0, 8.25, 14.2, 22.62023, 30.0, 37.0]
    dfs = [1.0, 1.5, 2.0, 3.0, 7.3, 15.0, 29.9, 30.0, 31.0, 99.5, 1000.0, 5841.742, 40593.69, 1e7, 1e12]
    ts = [1e-6, 0.1, 0.9, 2.0, 3.3, 6.1, 12.0, 22.62023, 33.0]
    betas = [(0.5, 0.5), (1.0, 3.0), (2.5, 9.25), (14.0, 31.0), (100.0, 250.0), (0.5, 4000.0), (3000.5, 0.5),
             (2421.0, 1396.0), (1e5, 2e5), (30.0, 1e5)]
    out = {
        "comment": "computed with 60 digits by generate_oracle.py; do not edit",
        "normal_sf": rows(sf, [(z,) for z in zs] + [(-z,) for z in zs[1:8]]),
        "normal_ln_sf": rows(lambda z: log(sf(z)), [(z,) for z in zs + [50.0, 400.0]] + [(-z,) for z in zs[1:10]]),
        "normal_upper_quantile_ln": rows(normal_upper_quantile,
                                         [(l,) for l in (-0.7, -0.8, -1.0, -2.5, -3.6888794541139363, -7.0, -23.0, -100.0, -690.0)]),
        "student_t_sf": rows(t_sf, [(t, df) for df in dfs for t in ts if t_sf(t, df) > mpf(10) ** -300]),
        "student_t_quantile": rows(t_quantile, [(p, df) for df in (1.0, 2.0, 4.5, 29.0, 31.0, 198.0, 36671.16)
                                                for p in (1e-12, 0.0005, 0.025, 0.3, 0.8, 0.975)]),
        "ln_gamma": rows(loggamma, [(x,) for x in (1e-10, 0.01, 0.3, 0.5, 0.75, 0.999, 1.001, 1.3, 1.7, 1.9999, 2.0001,
                                                   2.4, 2.6, 5.5, 9.99, 10.01, 37.25, 1234.5, 1e8)]),
        "ln_beta": rows(lambda a, b: loggamma(mpf(a)) + loggamma(mpf(b)) - loggamma(mpf(a) + mpf(b)),
                        [(0.1, 0.2), (0.5, 0.5), (3.0, 4.5), (0.5, 3000.0), (9.0, 1e6), (15.0, 22.0), (1e6, 2e6), (500.0, 500.0)]),
        "beta_inc": rows(incomplete_beta, [(a, b, x) for a, b in betas
                                           for x in (0.5 * a / (a + b), 0.9 * a / (a + b), a / (a + b), min(1.1 * a / (a + b), 0.9999))]),
        "beta_inc_inv": rows(beta_inverse, [(a, b, p) for a, b in [(0.5, 0.5), (1.0, 2000.0), (5.0, 996.0),
                                                                   (62.0, 410.0), (9.0, 0.7)]
                                            for p in (1e-12, 0.005, 0.3, 0.5, 0.995)]),
        "gamma_inc_upper": rows(upper_gamma, [(a, x) for a in (0.5, 1.0, 2.5, 13.0, 150.0)
                                              for x in (0.1 * a, 0.8 * a, a, 1.3 * a, 3.0 * a, 10.0 * a)]),
        "chi_square_sf": rows(lambda x, k: upper_gamma(mpf(k) / 2, mpf(x) / 2),
                              [(0.5, 1.0), (3.841458820694124, 1.0), (22.78, 1.0), (700.0, 1.0), (1300.0, 1.0), (9.2, 4.0), (40.0, 19.0)]),
        "lambert_w_m1": rows(lambda x: lambertw(mpf(x), -1).real,
                             [(x,) for x in (-0.3678, -0.36, -0.3, -0.1, -9.196986029286058e-4, -3.678794411714423e-7, -1e-100, -1e-300)]),
    }
    json.dump(out, sys.stdout, indent=1)
    print()


ARMS = [
    # units, mean and variance of control, then of treatment
    (3407, 0.41, 15.2, 3461, 0.70, 38.44),
    (100, 12.0, 9.0, 120, 12.5, 11.0),
    (21306, 0.005726, 0.0056935, 21307, 0.012531, 0.012374),
    (50, 1.0, 64.0, 60, 3.0, 70.0),
    (50, 0.2, 64.0, 60, 40.0, 70.0),
    (400, -5.0, 16.0, 380, -4.2, 20.0),
    (400, -0.3, 160.0, 380, 9.0, 20.0),
    (100000, 1e8, 1.0, 120000, 100000000.01, 1.0),
    (1000000, 0.05, 0.0475, 1000000, 0.062, 0.058156),
    (5, 2.0, 1.0, 4, 3.5, 0.5),
    (2, 2.0, 1.0, 2, 3.5, 0.5),
    (1000, 3.0, 2.0, 1000, 3.0, 2.5),
    (1000, 0.0, 2.0, 1000, 0.1, 2.5),
    (800, 3e-9, 1e-16, 900, 4e-9, 1e-16),
    (800, 3e150, 1e300, 900, 4e150, 1e300),
]


def welch(case):
    n_c, m_c, s_c, n_t, m_t, s_t = [mpf(x) for x in case]
    v_c, v_t = s_c / n_c, s_t / n_t
    df = (v_c + v_t) ** 2 / (v_c ** 2 / (n_c - 1) + v_t ** 2 / (n_t - 1))
    return m_c, m_t, v_c, v_t, df


def fieller(case, q, tail):
    """The set of relative effects, classified by trying points between and beyond the roots."""
    m_c, m_t, v_c, v_t, _ = welch(case)
    d, base = m_t - m_c, abs(m_c)
    sign = 1 if m_c >= 0 else -1

    def accepted(theta):
        variance = v_t + v_c + 2 * sign * theta * v_c + theta ** 2 * v_c
        z = (d - theta * base) / sqrt(variance)
        return {"two_sided": abs(z) <= q, "greater": z <= q, "less": z >= -q}[tail]

    a = base ** 2 - q ** 2 * v_c
    b = d * base + q ** 2 * sign * v_c
    g = d ** 2 - q ** 2 * (v_c + v_t)
    inner = b * b - a * g
    roots = sorted([(b - sqrt(inner)) / a, (b + sqrt(inner)) / a]) if inner > 0 else []
    if not roots:
        return {"set": "line", "lower": None, "upper": None}
    low, high = roots
    size = 1 + abs(low) + abs(high)
    before, between, after = accepted(low - size), accepted((low + high) / 2), accepted(high + size)
    ends = {
        (False, True, False): ("interval", low, high),
        (False, True, True): ("interval", low, None),
        (True, True, False): ("interval", None, high),
        (True, False, True): ("complement", low, high),
        (True, True, True): ("line", None, None),
    }[(before, between, after)]
    return {"set": ends[0], "lower": ends[1] if ends[1] is None else text(ends[1]),
            "upper": ends[2] if ends[2] is None else text(ends[2])}


def answer(case, q, ln_p, tail):
    m_c, m_t, v_c, v_t, _ = welch(case)
    se = sqrt(v_c + v_t)
    return {"arms": list(case), "tail": tail, "ln_p": text(ln_p),
            "absolute": [None if tail == "less" else text(m_t - m_c - q * se),
                         None if tail == "greater" else text(m_t - m_c + q * se)],
            "relative": fieller(case, q, tail)}


def towards(z, tail):
    return {"two_sided": abs(z), "greater": z, "less": -z}[tail]


def fixed_case(case, tail, alpha):
    m_c, m_t, v_c, v_t, df = welch(case)
    z = towards((m_t - m_c) / sqrt(v_c + v_t), tail)
    sides = 2 if tail == "two_sided" else 1
    p = min(mpf(1), sides * t_sf(z, df))
    return {"method": "fixed", "alpha": alpha, **answer(case, -t_quantile(mpf(alpha) / sides, df), log(p), tail)}


def sequential_case(case, tail, alpha, tune_at):
    m_c, m_t, v_c, v_t, _ = welch(case)
    level = mpf(alpha) if tail == "two_sided" else 2 * mpf(alpha)
    x = (-lambertw(-level ** 2 / exp(1), -1).real - 1) / tune_at * (case[0] + case[3])
    z = towards((m_t - m_c) / sqrt(v_c + v_t), tail)
    drift = x * z * z / (2 * (x + 1))
    if tail == "two_sided":
        q = sqrt(2 * (x + 1) / x * log(sqrt(x + 1) / mpf(alpha)))
        ln_p = min(mpf(0), log(x + 1) / 2 - drift)
    else:
        q = sqrt(2 * (x + 1) / x * log(1 + sqrt(x + 1) / (2 * mpf(alpha))))
        ln_p = mpf(0) if z <= 0 else min(mpf(0), log(sqrt(x + 1) / (2 * expm1(drift))))
    return {"method": "sequential", "alpha": alpha, "tune_at": tune_at, **answer(case, q, ln_p, tail)}


def restricted(x_c, n_c, x_t, n_t, delta):
    """Most likely proportions at a difference: the root of the cubic that raises the likelihood most."""
    n, x = n_c + n_t, x_c + x_t
    cubic = [n, (n_t + 2 * n_c) * delta - n - x, (n_c * delta - n - 2 * x_c) * delta + x, x_c * delta * (1 - delta)]
    low, high = max(mpf(0), -delta), min(mpf(1), 1 - delta)
    candidates = [re(r) for r in polyroots(cubic, maxsteps=500, extraprec=200) if abs(im(r)) < mpf(10) ** -25]
    candidates = [min(max(r, low), high) for r in candidates] + [low, high]

    def likelihood(q):
        total = mpf(0)
        for count, share in ((x_c, q), (n_c - x_c, 1 - q), (x_t, q + delta), (n_t - x_t, 1 - q - delta)):
            if count > 0:
                if share <= 0:
                    return -inf
                total += count * log(share)
        return total

    return max(candidates, key=likelihood)


def score_z(x_c, n_c, x_t, n_t, delta):
    q = restricted(x_c, n_c, x_t, n_t, delta)
    n = n_c + n_t
    v = ((q + delta) * (1 - q - delta) / n_t + q * (1 - q) / n_c) * n / (n - 1)
    return (x_t / n_t - x_c / n_c - delta) / sqrt(v)


def ratio_z(x_c, n_c, x_t, n_t, phi):
    n = n_c + n_t
    b = n_t * phi + x_t + n_c + x_c * phi
    q = (b - sqrt(b * b - 4 * n * phi * (x_c + x_t))) / (2 * n * phi)
    v = (phi * q * (1 - phi * q) / n_t + phi ** 2 * q * (1 - q) / n_c) * n / (n - 1)
    return (x_t / n_t - phi * x_c / n_c) / sqrt(v)


def bisect(f, low, high):
    for _ in range(110):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return (low + high) / 2


def score_case(x_c, n_c, x_t, n_t, alpha):
    counts = [mpf(x) for x in (x_c, n_c, x_t, n_t)]
    q = normal_upper_quantile(log(mpf(alpha) / 2))
    z = score_z(*counts, mpf(0))
    d = counts[2] / counts[3] - counts[0] / counts[1]
    edge = mpf(10) ** -30
    phi = (counts[2] / counts[3]) / (counts[0] / counts[1])
    return {"counts": [x_c, n_c, x_t, n_t], "alpha": alpha, "ln_p": text(log(2 * sf(abs(z)))),
            "absolute": [text(bisect(lambda t: score_z(*counts, t) - q, -1 + edge, d)),
                         text(bisect(lambda t: score_z(*counts, t) + q, d, 1 - edge))],
            "relative": [text(bisect(lambda t: ratio_z(*counts, t) - q, edge, phi) - 1),
                         text(bisect(lambda t: ratio_z(*counts, t) + q, phi, phi * 1000) - 1)]}


def count_case(phases, ratio, alpha, tune_at, tail):
    information = -lambertw(-mpf(alpha) ** 2 / exp(1), -1).real - 1
    total = mpf(0)
    for share, control, treatment in phases:
        w = mpf(share)
        pi_null = mpf(ratio) * w / (mpf(ratio) * w + 1 - w)
        a, b = w * tune_at / information, (1 - w) * tune_at / information
        log_beta = lambda u, v: loggamma(u) + loggamma(v) - loggamma(u + v)
        total += log_beta(a + treatment, b + control) - log_beta(a, b)
        total -= treatment * log(pi_null) + control * log1p(-pi_null)
        if tail == "greater":
            total += log(incomplete_beta(b + control, a + treatment, 1 - pi_null))
            total -= log(incomplete_beta(b, a, 1 - pi_null))
        if tail == "less":
            total += log(incomplete_beta(a + treatment, b + control, pi_null))
            total -= log(incomplete_beta(a, b, pi_null))
    return {"phases": [list(p) for p in phases], "null_ratio": ratio, "alpha": alpha, "tune_at_events": tune_at,
            "tail": tail, "ln_e": text(total)}


def comparisons():
    tails = ("two_sided", "greater", "less")
    big = [(0.5, 1000000, 1002000)]
    out = {
        "comment": "computed with 60 digits by generate_oracle.py; do not edit",
        "means": [fixed_case(case, tail, alpha) for case in ARMS for tail in tails for alpha in (0.05, 0.001)]
        + [sequential_case(case, tail, alpha, tune) for case in ARMS for tail in tails
           for alpha, tune in ((0.05, 10000.0), (0.001, 500.0))],
        "scores": [score_case(*case) for case in [(14, 28, 16, 30, 0.05), (87, 1529, 62, 1471, 0.05), (3, 40, 9, 38, 0.01),
                                                  (122, 21306, 267, 21307, 0.05), (1, 5000, 12, 5100, 0.05)]],
        "counts": [count_case(phases, ratio, 0.05, 100.0, tail)
                   for phases in ([(0.5, 3, 9)], [(0.1, 40, 3)], [(0.01, 200, 0), (0.1, 150, 31), (0.5, 90, 140)], big)
                   for ratio in (1.0, 1.2) for tail in (tails if phases is not big else ("two_sided",))],
    }
    json.dump(out, sys.stdout, indent=1)
    print()


def tables():
    centre = mpf("3.75")

    def scaled(t):
        x = centre * (1 + t) / (1 - t)
        if x > 50:
            term, value = mpf(1), mpf(0)
            for n in range(40):
                value += term
                term *= -(2 * n + 1) / (2 * x * x)
            return (1 + 2 * x) * value / (x * sqrt(pi))
        return (1 + 2 * x) * exp(x * x) * erfc(x)

    count = 80
    angles = [pi * (k + mpf(1) / 2) / count for k in range(count)]
    values = [scaled(cos(angle)) for angle in angles]
    print("error function")
    for j in range(26):
        coefficient = 2 / mpf(count) * fsum(v * cos(j * angle) for v, angle in zip(values, angles))
        print(float(coefficient / 2 if j == 0 else coefficient))
    print("zeta(k) - 1")
    for k in range(2, 32):
        print(float(zeta(k) - 1))
    print("1 - euler", float(1 - euler))


if __name__ == "__main__":
    {"special": special, "comparisons": comparisons, "tables": tables}[sys.argv[1]]()
