"""``--distributed`` in real processes: what two do equals what one does, and every failure is said once and clearly."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import gnnrec as gr
from gnnrec.cli import app
from gnnrec.cli.processes import part
from gnnrec.data.synthetic import Shop

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")


@pytest.fixture(autouse=True)
def _part_as_it_was() -> Iterator[None]:
    yield
    part.rank, part.size = 0, 1


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, small_shop: Shop) -> Path:
    path = tmp_path_factory.mktemp("shop") / "log.csv"
    small_shop.interactions.to_csv(path, index=False)
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "gnnrec", *map(str, words)]


def environment() -> dict[str, str]:
    # Wide enough that no line is folded; one thread for each process.
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"}


def run(*words: object, launcher: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    whole = command(*words) if launcher is None else [*launcher, "-m", "gnnrec", *map(str, words)]
    return subprocess.run(whole, capture_output=True, text=True, env=environment(), timeout=600, check=False)


@contextmanager
def started(*words: object) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    with subprocess.Popen(command(*words), **pipes) as process:
        try:
            yield process
        finally:
            process.terminate()  # the launcher ends its workers


def workers(parent: int) -> list[int]:
    """Processes that a launcher started, in the order of their ranks."""
    children = (Path(f"/proc/{parent}/task/{task}/children") for task in os.listdir(f"/proc/{parent}/task"))
    found = sorted(int(word) for path in children for word in path.read_text().split())
    return [child for child in found if b"gnnrec" in Path(f"/proc/{child}/cmdline").read_bytes()]


def users_of(folder: Path) -> np.ndarray:
    return gr.load(folder / "model").embeddings("user")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "log.csv", "-o", "run", "--distributed", "two"], "a number of processes, or 'torchrun', not 'two'"),
        (["fit", "log.csv", "-o", "run", "--distributed", "0"], "a number of processes, or 'torchrun', not '0'"),
        (["fit", "log.csv", "-o", "run", "--distributed", "torchrun"], "torchrun --nproc-per-node 2 -m gnnrec fit"),
        (["recommend", "run", "--distributed", "2"], "--distributed needs --output FILE"),
    ],
)
def test_what_cannot_be_started_is_said(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_another_number_than_torchrun_started_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    result = CliRunner().invoke(app, ["fit", "log.csv", "-o", "run", "--distributed", "2"])
    assert result.exit_code == 2
    assert "torchrun started 4; say --distributed torchrun" in result.stderr


def test_a_process_of_another_program_answers_for_everybody(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters set RANK for whatever they run; without ``--distributed`` that is none of our business."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    output = log.parent / "popular"
    assert CliRunner().invoke(app, ["fit", str(log), "--preset", "popularity", "-o", str(output)]).exit_code == 0
    result = CliRunner().invoke(app, ["recommend", str(output), "-k", "1", "-o", "-"])
    assert len(result.stdout.splitlines()) == 1 + 80


def test_the_parts_of_recommend_are_the_whole(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = tmp_path / "run"
    words = ["fit", str(log), "--set", "epochs=2", "--set", "embedding_dim=8", "-o", str(fitted)]
    assert CliRunner().invoke(app, words).exit_code == 0
    whole = ["recommend", str(fitted), "-k", "3", "-o", str(tmp_path / "lists.csv")]
    assert CliRunner().invoke(app, whole).exit_code == 0
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        assert CliRunner().invoke(app, [*whole, "--distributed", "torchrun"]).exit_code == 0
    expected = pd.read_csv(tmp_path / "lists.csv")
    parts = [pd.read_csv(tmp_path / f"lists-{rank}-of-3.csv") for rank in range(3)]
    assert [part["user_id"].nunique() for part in parts] == [26, 27, 27]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), expected, check_exact=False, rtol=1e-5)


@pytest.mark.slow
def test_two_processes_fit_what_one_fits_and_recommend_the_same(log: Path, tmp_path: Path) -> None:
    common = ["fit", log, "--split", "random:valid=0.1,test=0.2", "--set", "epochs=6"]
    one = run(*common, "-o", tmp_path / "one")
    two = run(*common, "-o", tmp_path / "two", "--distributed", 2)
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert two.stdout.count("written to") == 1
    assert two.stdout.count("recall@20") == one.stdout.count("recall@20") == 1
    np.testing.assert_allclose(users_of(tmp_path / "two"), users_of(tmp_path / "one"), atol=2e-3)
    histories = [gr.load(tmp_path / name / "model").history["recall@20"].to_numpy() for name in ("one", "two")]
    np.testing.assert_allclose(histories[0], histories[1], atol=0.02)

    lists = tmp_path / "lists.parquet"
    assert run("recommend", tmp_path / "two", "-k", 5, "-o", lists).returncode == 0
    parted = run("recommend", tmp_path / "two", "-k", 5, "-o", lists, "--distributed", 2)
    assert parted.returncode == 0, parted.stderr
    parts = pd.concat([pd.read_parquet(tmp_path / f"lists-{rank}-of-2.parquet") for rank in (0, 1)], ignore_index=True)
    pd.testing.assert_frame_equal(parts, pd.read_parquet(lists), check_exact=False, rtol=1e-5)


@pytest.mark.slow
def test_torchrun_starts_it_too(log: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    result = run(
        "fit", log, "--set", "epochs=1", "-o", tmp_path / "run", "--distributed", "torchrun", launcher=torchrun
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("written to") == 1
    assert len(gr.load(tmp_path / "run" / "model").history) == 1


@pytest.mark.slow
def test_a_mistake_is_said_once_with_its_own_exit_code(log: Path, tmp_path: Path) -> None:
    result = run("fit", log, "--text", "plot=title", "-o", tmp_path / "run", "--distributed", 2)
    assert result.returncode == 3
    assert result.stderr.count("error:") == 1, result.stderr
    assert "items= was not given" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_proc
def test_a_killed_worker_is_named_and_the_fit_goes_on(log: Path, tmp_path: Path) -> None:
    def words(epochs: int) -> list[object]:
        options = ["--set", f"epochs={epochs}", "--set", "patience=100000", "--distributed", 2]
        return ["fit", log, "--run-dir", tmp_path / "checkpoints", "-o", tmp_path / "run", *options]

    with started(*words(100_000)) as process:
        manifest = tmp_path / "checkpoints" / "checkpoint" / "manifest.json"
        deadline = time.monotonic() + 500
        while not manifest.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(workers(process.pid)[1], signal.SIGKILL)
        _, said = process.communicate(timeout=200)
    assert process.returncode == 1
    assert re.search(r"error: process [01] of 2 was killed by SIGKILL; .*--resume", said)
    assert not (tmp_path / "run").exists()

    done = len(json.loads(manifest.read_text())["facts"]["history"])
    resumed = run(*words(done + 2), "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert len(gr.load(tmp_path / "run" / "model").history) == done + 2
