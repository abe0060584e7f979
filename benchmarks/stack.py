"""A set of PostgreSQL and Redis against its components one after the other: pg_dump by hand, the redis component alone.

make bench                                              this and the others
python -m benchmarks.stack --mib 1024 --rounds 3        this, larger
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.backup import fill
from benchmarks.measured import Run, understudy
from understudy import lab
from understudy.lab.servers.postgres import ScratchPostgres, scratch_postgres
from understudy.valkey.router import Router

_ROW_BYTES = 400
# texts of a size and a variety that compress to about a third, as those of applications do
_ROWS = """
    CREATE TABLE items AS
    SELECT n AS id, now() AS at,
        (SELECT string_agg(md5((n * k % 5000)::text), ' ') FROM generate_series(1, 10) k) AS body
    FROM generate_series(1, {rows}) n
"""


def fill_postgres(server: ScratchPostgres, mib: int) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench")
    with psycopg.connect(server.url("bench"), autocommit=True) as connection:
        connection.execute(_ROWS.format(rows=(mib << 20) // _ROW_BYTES).encode())
        connection.execute("ALTER TABLE items ADD PRIMARY KEY (id)")
        connection.execute("VACUUM ANALYZE items")


def pg_dump_s(server: ScratchPostgres, folder: Path, *options: str) -> float:
    """Run pg_dump as one types it."""
    begun = time.perf_counter()
    subprocess.run(
        [server.bin / "pg_dump", "-Fc", *options, "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres",
         "-f", folder / "bench.dump", "bench"],
        env={**os.environ, "PGPASSWORD": server.password}, check=True,
    )  # fmt: skip
    return time.perf_counter() - begun


def backup(env: dict[str, str], *components: str) -> Run:
    shutil.rmtree(env["BACKUP_DIR"], ignore_errors=True)
    return understudy("backup", *(word for name in components for word in ("--component", name)), env=env)


def measure(mib: int, keys: int, rounds: int) -> dict[str, object]:
    """Measure one size; what is compared takes turns."""
    bare: list[float] = []
    bare_fast: list[float] = []
    postgres: list[Run] = []
    redis: list[Run] = []
    both: list[Run] = []
    restores: list[Run] = []
    with tempfile.TemporaryDirectory() as folder, scratch_postgres() as server, lab.cluster(replicas=0) as cluster:
        fill_postgres(server, mib)
        with Router(cluster.target()) as router:
            fill(router, keys)
        env = {**cluster.env(), "BACKUP_DIR": f"{folder}/sets", "POSTGRES_URL": server.url("bench")}
        for _ in range(rounds):
            bare.append(pg_dump_s(server, Path(folder)))
            bare_fast.append(pg_dump_s(server, Path(folder), "-Z1"))
            (Path(folder) / "bench.dump").unlink()
            postgres.append(backup(env, "postgres"))
            redis.append(backup(env, "redis"))
            both.append(backup(env, "postgres", "redis"))
            restores.append(
                understudy("restore", "latest", "--component", "postgres", "--force", "--no-safety-set", env=env)
            )
    slowest = [max(one.seconds, two.seconds) for one, two in zip(postgres, redis, strict=True)]
    return {
        "mib": mib,
        "keys": keys,
        "pg_dump_s": statistics.median(bare),
        "pg_dump_z1_s": statistics.median(bare_fast),
        "postgres_s": statistics.median(run.seconds for run in postgres),
        "postgres_peak_mib": max(run.peak_mib for run in postgres),
        "redis_s": statistics.median(run.seconds for run in redis),
        "redis_peak_mib": max(run.peak_mib for run in redis),
        "set_s": statistics.median(run.seconds for run in both),
        "set_peak_mib": max(run.peak_mib for run in both),
        "to_slowest": statistics.median(run.seconds / slow for run, slow in zip(both, slowest, strict=True)),
        "to_sequence": statistics.median(
            run.seconds / (dump + alone.seconds) for run, dump, alone in zip(both, bare, redis, strict=True)
        ),
        "restore_s": statistics.median(run.seconds for run in restores),
        "restore_peak_mib": max(run.peak_mib for run in restores),
    }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stack", description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, nargs="+", default=[100, 1024])
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(words)
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"median of {asked.rounds} rounds; {asked.keys:,} keys in three shards\n"
    )
    print("| table | pg_dump -Fc | -Z1 | postgres | redis | the set | to slowest | to sequence | peak memory |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    results = []
    for mib in asked.mib:
        row = measure(mib, asked.keys, asked.rounds)
        results.append(row)
        text = "| {mib} MiB | {pg_dump_s:.1f} s | {pg_dump_z1_s:.1f} s | {postgres_s:.1f} s | {redis_s:.1f} s |"
        ratios = " {set_s:.1f} s | **{to_slowest:.2f}** | **{to_sequence:.2f}** | {set_peak_mib:.0f} MiB |"
        print((text + ratios).format(**row), flush=True)
    print("\n| table | postgres alone, peak memory | restore of it | peak memory |\n|---:|---:|---:|---:|")
    for row in results:
        print(
            "| {mib} MiB | {postgres_peak_mib:.0f} MiB | {restore_s:.1f} s | {restore_peak_mib:.0f} MiB |".format(**row)
        )
    place = Path("bench-results")
    place.mkdir(exist_ok=True)
    (place / "stack.json").write_text(json.dumps(results, indent=2))
    print(f"\nFigures: {place / 'stack.json'}", file=sys.stderr)


if __name__ == "__main__":
    main()
