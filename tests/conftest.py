"""What all tests share: one thread, a cache of their own, a small shop, and the folder of real data."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from gnnrec.cli import app
from gnnrec.data import synthetic


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side, so each keeps to one core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Encoded media are kept for this run only, never in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNREC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """What a test draws from torch's global stream does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _logger_as_imported() -> None:
    """The command line sets level and handlers of the log, also in fixtures of modules; tests find neither."""
    logger = logging.getLogger("gnnrec")
    logger.setLevel(logging.NOTSET)
    logger.handlers = []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls the command line; arguments may be paths and numbers."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def small_shop() -> synthetic.Shop:
    """A shop of 80 users and 40 items in four tastes."""
    return synthetic.shop(num_users=80, num_items=40, seed=3)


@pytest.fixture
def data_dir() -> Path:
    """The folder with real data; tests that need it are skipped without."""
    folder = os.environ.get("GNNREC_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set GNNREC_DATA_DIR to the folder with real data")
    return Path(folder)
