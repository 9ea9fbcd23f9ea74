"""The same questions asked of DuckDB and, where installed, of ClickHouse's engine (chdb), over the
same events. Answers are compared first; a time of a different answer is never printed.

Printed beside each time: what is asked of the lake at full scale (`must`), which is a goal for two
cores and 118.5 million events and says nothing at another scale."""

import json
import os
import resource
import subprocess
import sys
import time

import duckdb
import numpy as np

WEEK = 7 * 86_400_000_000
DAY = 86_400_000_000

# Seconds asked at full scale.
MUST = {"q1": 0.22, "q2": 0.60, "q3": 0.34, "q4": 1.0, "q5": 0.5, "q7": 0.06}


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
    for table in ["exposures", "every_exposure"]:
        con.execute(f"copy {table} to '{data}/{table}.parquet' (compression zstd)")


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

DUCKDB = {
    "q1": """select treated, count(*), sum(y), sum(y * y) from (
        select x.unit, x.treated, coalesce(sum(e.value), 0) y from exposures x
        left join events e on e.unit = x.unit and e.ts >= x.ts group by all)
        group by 1 order by 1""",
    "q2": FUNNEL,
    "q3": """with v as (select unit, min(ts) first from events where name = 0 group by 1),
        t as (select e.unit, min(e.ts) - any_value(v.first) took from events e join v using (unit)
            where e.name = 3 and e.ts > v.first group by 1)
        select count(*), quantile_cont(took / 1e6, 0.5), quantile_cont(took / 1e6, 0.9),
            quantile_cont(took / 1e6, 0.99) from t""",
    "q4": f"""select count(*), sum(u) from (select ts // {DAY} d, name,
        count(distinct unit) u from events group by all)""",
    "q5": f"""with w as (select distinct unit, ts // {WEEK} w from
            (select unit, ts from events union all select unit, ts from every_exposure)),
        f as (select unit, min(w) w0 from w group by 1)
        select w0, w - w0, count(*) from w join f using (unit) group by all order by all""",
    "q7": f"""select count(*), count(distinct unit) from events
        where name = 0 and ts // {DAY} = 28""",
}

CHDB = {
    "q1": """select treated, count(), sum(y), sum(y * y) from (
        select x.unit u, any(x.treated) treated,
            sum(if(e.name = 3 and e.ts >= x.ts, e.value, 0)) y
        from exposures x left join (select unit, ts, name, value from events where name = 3) e
            on e.unit = x.unit group by u) group by treated order by treated""",
    "q2": f"""select level, count() from (select unit, windowFunnel({WEEK})(toUInt64(ts),
            name = 0, name = 1, name = 2, name = 3) level
        from events where name < 4 group by unit) group by level order by level""",
    "q3": """select count(), quantileExactInclusive(0.5)(took / 1e6),
            quantileExactInclusive(0.9)(took / 1e6), quantileExactInclusive(0.99)(took / 1e6)
        from (select unit, minIf(ts, name = 0) viewed,
                arrayMin(arrayFilter(x -> x > viewed, groupArrayIf(ts, name = 3))) - viewed took
            from events where name in (0, 3) group by unit
            having countIf(name = 0) > 0 and maxIf(ts, name = 3) > viewed)""",
    "q4": f"""select count(), sum(u) from (select intDiv(ts, {DAY}) d, name,
        uniqExact(unit) u from events group by d, name)""",
    "q5": f"""with w as (select distinct unit, intDiv(ts, {WEEK}) w from
            (select unit, ts from events union all select unit, ts from every_exposure)),
        f as (select unit, min(w) w0 from w group by unit)
        select w0, w - w0 k, count() from w inner join f using (unit) group by w0, k
        order by w0, k""",
    "q7": f"""select count(), uniqExact(unit) from events
        where name = 0 and intDiv(ts, {DAY}) = 28""",
}


def chdb_session(data):
    try:
        from chdb import session
    except ImportError:
        print("chdb is not installed: asked of DuckDB alone")
        return None
    opened = session.Session(f"{data}/chdb")
    opened.query("set max_threads = 2")
    opened.query("create database if not exists b engine = Atomic")
    columns = "unit Int64, ts Int64, name UInt16, value Float64"
    key = f"(intDiv(ts, {DAY}), name, cityHash64(unit))"
    opened.query(f"create table if not exists b.events ({columns}) engine = MergeTree order by {key}")
    opened.query(
        "create table if not exists b.exposures (unit Int64, treated UInt8, ts Int64) "
        "engine = MergeTree order by unit"
    )
    opened.query(
        "create table if not exists b.every_exposure (unit Int64, ts Int64) "
        "engine = MergeTree order by unit"
    )
    for table in ["events", "exposures", "every_exposure"]:
        held = opened.query(f"select count() from b.{table}", "CSV").data().strip()
        if held == "0":
            path = os.path.abspath(f"{data}/{table}.parquet")
            opened.query(f"insert into b.{table} select * from file('{path}', Parquet)")
    opened.query("use b")
    return opened


def chdb_cold(data):
    """Q1 in a process of its own, after the files were dropped from memory."""
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([sys.executable, f"{here}/forget.py", f"{data}/chdb"], check=True)
    ask = f"""
import time
start = time.monotonic()
from chdb import session
opened = session.Session({f"{data}/chdb"!r})
opened.query("set max_threads = 2")
opened.query("use b")
opened.query({CHDB["q1"]!r}, "CSV").data()
print(time.monotonic() - start)
"""
    found = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    return float(found.stdout.split()[-1])


def timed(ask):
    best, answer = None, None
    for _ in range(2):
        start = time.monotonic()
        cpu = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        answer = ask()
        wall = time.monotonic() - start
        spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - cpu
        best = min(best or (wall, spent), (wall, spent))
    return [[float(x) for x in row] for row in answer], best


def csv_rows(text):
    return [line.replace('"', "").split(",") for line in text.strip().splitlines()]


def is_equal(theirs, mine):
    return len(theirs) == len(mine) and all(
        abs(a - b) <= 1e-9 * max(1.0, abs(a))
        for left, right in zip(theirs, mine)
        for a, b in zip(left, right)
    )


def bytes_per_event(con, lake):
    """Compressed bytes of each column in a row."""
    sizes = con.execute(
        f"""select path_in_schema, sum(total_compressed_size) size
        from parquet_metadata('{lake}/events/*.parquet') group by 1 order by size desc"""
    ).fetchall()
    rows = con.execute(f"select count(*) from read_parquet('{lake}/events/*.parquet')").fetchone()
    return {column: size / rows[0] for column, size in sizes}


def main():
    data, lake = sys.argv[1], sys.argv[2]
    ours, cold = {}, None
    paths = sys.argv[3:]
    if "--cold" in paths:
        cold = json.load(open(paths.pop()))
        paths.pop()
    for path in paths:
        ours |= json.load(open(path))
    con = duckdb.connect()
    con.execute("set threads = 2")
    load(con, data)
    chdb = chdb_session(data)
    failed = False
    print("question  answers  lake s (CPU; first)     must s   DuckDB s (CPU)   chdb s (CPU)")
    for name, query in DUCKDB.items():
        mine = ours[name]
        theirs, duck = timed(lambda: con.execute(query).fetchall())
        equal = is_equal(theirs, mine["answer"])
        house = None
        if chdb is not None:
            answer, house = timed(lambda: csv_rows(chdb.query(CHDB[name], "CSV").data()))
            equal &= is_equal(answer, mine["answer"])
        failed |= not equal
        if not equal:
            print(f"{name:8}  DIFFERENT\n  DuckDB {theirs[:6]}\n  lake   {mine['answer'][:6]}")
            if chdb is not None:
                print("  chdb  ", answer[:6])
            continue
        peer = f"{house[0]:8.3f} ({house[1]:.2f})" if house else "       -"
        print(
            f"{name:8}  equal  {mine['wall_s']:6.3f} ({mine['cpu_s']:.2f}; {mine['first_s']:.3f})"
            f"   {MUST[name]:8.2f}   {duck[0]:8.3f} ({duck[1]:.2f})   {peer}"
        )
    if cold is not None:
        total = cold["open_s"] + cold["q1"]["first_s"]
        print(f"cold: opened in {cold['open_s']:.2f} s, q1 in {cold['q1']['first_s']:.2f} s, {total:.2f} s")
    if chdb is not None:
        chdb.close()
        print(f"cold, chdb: q1 in {chdb_cold(data):.2f} s, opening included")
    sizes = bytes_per_event(con, lake)
    without = sum(size for column, size in sizes.items() if column != "event_id")
    print(f"bytes per event without ids {without:.2f} (must 6.5), of these:")
    print("  " + ", ".join(f"{column} {size:.2f}" for column, size in sizes.items()))
    if "q1_after_100k_s" in ours:
        print(f"q1 after 100,000 new events {ours['q1_after_100k_s']:.3f} s (target 0.020)")
    print(f"peak resident of questions {ours['peak_resident_mb']:.0f} MB (must 1500)")
    if "load_s" in ours:
        per_second = ours["loaded_events"] / ours["load_s"]
        each = ours["load_cpu_s"] / ours["loaded_events"] * 1e6
        print(f"loaded {per_second:.0f} events/s with flushes and merges, {each:.2f} us CPU each")
    rest = {key: value for key, value in ours.items() if key not in DUCKDB}
    print(rest)
    print("load average", os.getloadavg(), "cores", os.cpu_count())
    sys.exit(failed)


main()
