"""DuckDB on the same events as Parquet by (unit, time); answers compared, times printed."""

import json
import os
import resource
import sys
import time

import duckdb
import numpy as np

WEEK = 7 * 86_400_000_000
DAY = 86_400_000_000


def load(con, data):
    column = lambda name, kind: np.fromfile(f"{data}/{name}.bin", dtype=kind)
    path = f"{data}/events.parquet"
    if not os.path.exists(path):
        unit, ts = column("unit", np.int64), column("time", np.int64)
        name, value = column("name", np.uint16), column("value", np.float64)
        frame = {"unit": unit, "ts": ts, "name": name, "value": value}
        con.register("frame", frame_table(frame))
        con.execute(
            f"copy (select * from frame order by unit, ts) to '{path}' (compression zstd)"
        )
    exposed, treated = column("exposed", np.int64), column("treated", np.uint8)
    times = column("exposure_time", np.int64).reshape(-1, 3)
    frame = {"unit": exposed, "treated": treated, "ts": times.min(axis=1)}
    con.register("exposure_frame", frame_table(frame))
    con.execute("create table exposures as select * from exposure_frame")
    every = {"unit": np.repeat(exposed, 3), "ts": times.reshape(-1)}
    con.register("every_frame", frame_table(every))
    con.execute("create table every_exposure as select * from every_frame")
    con.execute(f"create view events as select * from read_parquet('{path}')")


def frame_table(columns):
    import pyarrow

    return pyarrow.table(columns)


FUNNEL = f"""
with v as (select unit, ts, name from events where name < 4),
a as (select *, max(case when name = 0 then ts end)
        over (partition by unit order by ts rows unbounded preceding) c1 from v),
b as (select *, max(case when name = 1 and ts - c1 <= {WEEK} then c1 end)
        over (partition by unit order by ts rows unbounded preceding) c2 from a),
c as (select *, max(case when name = 2 and ts - c2 <= {WEEK} then c2 end)
        over (partition by unit order by ts rows unbounded preceding) c3 from b),
d as (select unit, max(case when name = 3 and ts - c3 <= {WEEK} then 4 when c3 is not null then 3
        when c2 is not null then 2 when c1 is not null then 1 else 0 end) level
      from c group by unit)
select level, count(*) from d group by 1 order by 1"""

QUERIES = {
    "q1": """select treated, count(*), sum(y), sum(y * y) from (
        select x.unit, x.treated, coalesce(sum(e.value), 0) y from exposures x
        left join events e on e.unit = x.unit and e.ts >= x.ts group by all)
        group by 1 order by 1""",
    "q2": FUNNEL,
    "q4": f"""select count(*), sum(u) from (select ts // {DAY} d, name,
        count(distinct unit) u from events where name < 64 group by all)""",
    "q5": f"""with w as (select distinct unit, ts // {WEEK} w from
            (select unit, ts from events union all select unit, ts from every_exposure)),
        f as (select unit, min(w) w0 from w group by 1)
        select w0, w - w0, count(*) from w join f using (unit) group by all order by all""",
    "q7": f"""select count(*), count(distinct unit) from events
        where name = 0 and ts // {DAY} = 28""",
}


def main():
    data, ours = sys.argv[1], json.load(open(sys.argv[2]))
    con = duckdb.connect()
    con.execute("set threads = 2")
    load(con, data)
    failed = False
    for name, query in QUERIES.items():
        best = None
        for _ in range(2):
            start, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
            answer = con.execute(query).fetchall()
            wall = time.monotonic() - start
            spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - cpu
            best = min(best or (wall, spent), (wall, spent))
        theirs = [[float(x) for x in row] for row in answer]
        mine = ours[name]["answer"]
        equal = len(theirs) == len(mine) and all(
            abs(a - b) <= 1e-9 * max(1.0, abs(a))
            for left, right in zip(theirs, mine)
            for a, b in zip(left, right)
        )
        failed |= not equal
        print(
            f"{name}: {'equal' if equal else 'DIFFERENT'}; lake {ours[name]['wall_s']:.3f} s "
            f"(first {ours[name]['first_s']:.3f}), DuckDB {best[0]:.3f} s (CPU {best[1]:.2f})"
        )
        if not equal:
            print("  DuckDB", theirs[:8], "\n  lake  ", mine[:8])
    print({key: value for key, value in ours.items() if key not in QUERIES})
    print("load average", os.getloadavg())
    sys.exit(failed)


main()
