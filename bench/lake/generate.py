"""The workload: seed 7, numpy's default generator, draws in a fixed order."""

import argparse
import os

import numpy as np

SPAN_US = 30 * 86_400_000_000
BLOCK = 250_000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--scale", type=float, default=0.1)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    rng = np.random.default_rng(7)
    units = int(5_000_000 * args.scale)
    ids = np.sort(rng.integers(0, 2**63, units, dtype=np.int64))
    weights = np.concatenate([[0.08, 0.05, 0.03, 0.015], 1 / np.arange(5, 201)])
    weights[4:] *= 0.825 / weights[4:].sum()
    edges = np.cumsum(weights)
    events, total = 0, 0.0
    names = ["unit", "time", "name", "value"]
    files = {name: open(f"{args.out}/{name}.bin", "wb") for name in names}
    for start in range(0, units, BLOCK):
        block = ids[start : start + BLOCK]
        count = np.floor(np.minimum(8 * rng.pareto(1.3, len(block)) + 2, 3000)).astype(np.int64)
        first = rng.random(len(block)) * 0.9 * SPAN_US
        rows = int(count.sum())
        owner = np.repeat(np.arange(len(block)), count)
        spread = rng.random(rows)
        active = rng.random(len(block))
        time = np.floor(first[owner] + spread * (SPAN_US - first[owner]) * active[owner])
        time = time.astype(np.int64)
        order = np.lexsort((time, owner))
        owner, time = owner[order], time[order]
        name = np.minimum(np.searchsorted(edges, rng.random(rows), side="right"), 199)
        rng.random(len(block))  # country
        rng.integers(0, 4, len(block))  # platform
        value = np.where(name == 3, np.round(rng.lognormal(3, 1, rows), 2), 0.0)
        block[owner].tofile(files["unit"])
        time.tofile(files["time"])
        name.astype(np.uint16).tofile(files["name"])
        value.tofile(files["value"])
        events += rows
        total += value.sum()
    exposed = np.sort(rng.choice(ids, int(1_000_000 * args.scale), replace=False))
    treated = rng.random(len(exposed)) < 0.5
    times = np.floor(rng.random((len(exposed), 3)) * 0.6 * SPAN_US).astype(np.int64)
    exposed.tofile(f"{args.out}/exposed.bin")
    treated.astype(np.uint8).tofile(f"{args.out}/treated.bin")
    times.tofile(f"{args.out}/exposure_time.bin")
    print(f"{events} events, sum of values {total:.2f}")
    if args.scale == 1:
        assert events == 118_516_397 and round(total, 2) == 58_952_326.00


main()
