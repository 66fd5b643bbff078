"""Measures how fast, and in how much memory, a log of any size becomes a data set.

    python benchmarks/ingestion.py [--rows 1000000 10000000] [--folder DIR] [--memory-limit 2GB] [--threads 1]

For each size it writes Parquet files with skewed popularity, 2 % repeated and 0.1 % invalid rows, and reads them in a
process of its own by each contender, whose imports are not timed: ``Dataset.from_files``; up to 10 million rows
``Dataset.from_frames``, which holds all in memory; and polars' streaming engine, which only drops duplicates. A
contender is stopped when its memory exceeds ``--most-memory`` GiB. The result goes to
``benchmarks/results/ingestion.json``, beside that of other sizes, and into the table of ``docs/ingestion.md``.
Needs ``gnnrec[stream]`` and polars. A size needs about 120 bytes of disk per row.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness import markdown
from harness.machine import machine
from harness.results import read_results, write_results

RESULT = Path(__file__).parent / "results" / "ingestion.json"
PAGE = Path(__file__).parents[1] / "docs" / "ingestion.md"

_CHUNK = 1_000_000
_FILE_ROWS = 10_000_000
_REPEATED, _INVALID = 0.02, 0.001
_SECONDS_OF_A_YEAR = 31_536_000
_IN_MEMORY_UP_TO = 10_000_000
_LOOK_EVERY = 0.2  # seconds between two looks at a contender

# What each process imports, and what of it is timed; {files}, {out}, {memory_limit} and {threads} are filled in.
CONTENDERS = {
    "gnnrec from_files": (
        "import gnnrec.data.streaming, duckdb; from gnnrec import Dataset",
        "Dataset.from_files({files!r}, {out!r}, memory_limit={memory_limit!r}, threads={threads})",
    ),
    "gnnrec from_frames, saved": (
        "import gnnrec.data.build, gnnrec.data.storage; from gnnrec import Dataset",
        "Dataset.from_frames({files!r}).save({out!r})",
    ),
    "polars, duplicates only": (
        "import polars",
        "polars.scan_parquet({files!r}).unique().sink_parquet({out!r}, engine='streaming')",
    ),
}
_START = "wall, cpu = time.perf_counter(), time.process_time()"
_STOP = "print(time.perf_counter() - wall, time.process_time() - cpu)"


def write_log(folder: Path, num_rows: int) -> None:
    """Writes a log in chunks; a hundredth as many people as rows, and a five-hundredth as many items."""
    rng = np.random.default_rng(0)
    num_users, num_items = max(num_rows // 100, 10), max(num_rows // 500, 10)
    writer, written = None, 0
    while written < num_rows:
        count = min(_CHUNK, num_rows - written)
        chunk = _chunk(rng, count, num_users, num_items)
        if written % _FILE_ROWS == 0:
            if writer is not None:
                writer.close()
            writer = pq.ParquetWriter(folder / f"log-{written // _FILE_ROWS:04d}.parquet", chunk.schema)
        assert writer is not None
        writer.write_table(chunk)
        written += count
    assert writer is not None
    writer.close()


def _chunk(rng: np.random.Generator, count: int, num_users: int, num_items: int) -> pa.Table:
    """Draws events; the share of the most popular entities grows with the cube of a uniform number."""
    user = (num_users * rng.random(count) ** 3).astype(np.int64)
    item = (num_items * rng.random(count) ** 3).astype(np.int64)
    rating = rng.integers(1, 6, count).astype(np.float32)
    timestamp = 1_600_000_000 + rng.integers(0, _SECONDS_OF_A_YEAR, count)
    repeated = rng.random(count) < _REPEATED
    source = np.where(repeated, rng.integers(0, count, count), np.arange(count))
    invalid = rng.random(count) < _INVALID
    return pa.table(
        {
            "user_id": user[source],
            "item_id": pa.array(item[source], mask=invalid),
            "rating": rating[source],
            "timestamp": timestamp[source],
        }
    )


def measured(name: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Runs a contender in a process of its own and watches its memory and what it writes beside the log."""
    before = _size(folder)
    options = {"memory_limit": asked.memory_limit, "threads": asked.threads}
    imports, task = CONTENDERS[name]
    task = task.format(files=str(folder / "log-*.parquet"), out=str(folder / "out"), **options)
    code = f"import time; {imports}; {_START}; {task}; {_STOP}"
    environment = {**os.environ, "OMP_NUM_THREADS": str(asked.threads), "POLARS_MAX_THREADS": str(asked.threads)}
    environment["POLARS_TEMP_DIR"] = str(folder)
    most_written, stopped = 0, False
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        most_written = max(most_written, _size(folder) - before)
        if _resident(process.pid) > asked.most_memory * 2**30:
            process.kill()
            stopped = True
        time.sleep(_LOOK_EVERY)
    process.returncode = os.waitstatus_to_exitcode(status)
    row: dict[str, Any] = {
        "peak_memory": usage.ru_maxrss * 1024,
        "most_written": most_written,
        "load": os.getloadavg()[0],
    }
    if stopped:
        row["failed"] = f"stopped above {asked.most_memory:g} GiB"
    elif process.returncode != 0:
        row["failed"] = process.stderr.read().strip().splitlines()[-1][:200]
    else:
        row["seconds"], row["cpu_seconds"] = map(float, process.stdout.read().split())
    for left in folder.iterdir():
        if not left.name.startswith("log-"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return row


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:  # removed between the two calls
                continue
    return total


def _resident(process: int) -> int:
    """Returns the resident memory of a process in bytes; the contenders start no others."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def table(result: dict[str, Any]) -> str:
    """Returns the measurements as a table in Markdown."""
    lines = []
    for size in result["sizes"]:
        for name, row in size["contenders"].items():
            memory, disk = (f"{row[what] / 2**30:.2f}" for what in ("peak_memory", "most_written"))
            times = [f"{row[of]:,.1f}" if of in row else "" for of in ("seconds", "cpu_seconds")]
            speed = f"{size['rows'] / row['cpu_seconds']:,.0f}" if "cpu_seconds" in row else row["failed"]
            lines.append([f"{size['rows']:,}", name, speed, *times, f"{row['load']:.1f}", memory, disk])
    header = ["rows", "what", "rows per second of CPU", "seconds", "seconds of CPU", "load"]
    return markdown.table([*header, "peak memory, GiB", "disk beside the log, GiB"], lines)


def earlier() -> dict[int, dict[str, Any]]:
    """Returns what was measured before, by the number of rows."""
    return {size["rows"]: size for size in read_results(RESULT).get("sizes", [])}


def write_result(result: dict[str, Any]) -> None:
    write_results(RESULT, result)
    markdown.put_between(PAGE, "benchmarks/ingestion.py", "table", table(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, default=None, help="where the files go; a temporary folder if not given")
    parser.add_argument("--memory-limit", default="2GB", help="of DuckDB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most-memory", type=float, default=8.0, help="GiB at which a contender is stopped")
    asked = parser.parse_args()
    sizes = earlier()
    for num_rows in asked.rows:
        folder = Path(tempfile.mkdtemp(prefix="gnnrec-ingestion-", dir=asked.folder))
        try:
            write_log(folder, num_rows)
            sizes[num_rows] = {
                "rows": num_rows,
                "log_bytes": _size(folder),
                "machine": machine(),
                "versions": {name: version(name) for name in ("gnnrec", "duckdb", "polars", "pandas", "pyarrow")},
                "memory_limit": asked.memory_limit,
                "threads": asked.threads,
                "contenders": {},
            }
            for name in CONTENDERS:
                if name == "gnnrec from_frames, saved" and num_rows > _IN_MEMORY_UP_TO:
                    continue
                sizes[num_rows]["contenders"][name] = row = measured(name, folder, asked)
                print(f"{num_rows:,} rows, {name}: {row}", flush=True)
                write_result({"sizes": [sizes[rows] for rows in sorted(sizes)]})
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
