"""Oracle vectors of the statistics crate, computed with 60 digits.

    pip install mpmath
    python generate_oracle.py special > special_functions.json
    python generate_oracle.py tables       # the constants pasted into the source

Every number is written with 17 significant digits; `args` are exact doubles.
"""

import json
import sys

from mpmath import cos, erfc, euler, exp, findroot, fsum, gammainc, inf, lambertw, log, loggamma
from mpmath import mp, mpf, nstr, pi, sqrt, zeta

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
    {"special": special, "tables": tables}[sys.argv[1]]()
