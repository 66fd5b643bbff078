"""Imports run one way, from the facade down to the errors."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gnnrec

PACKAGE = Path(gnnrec.__file__).parent

# From the bottom to the top: a module may import its own row and the rows above it in this list.
LAYERS = [
    {"errors", "config", "storage", "named_tensors", "geometric", "eigenvectors"},
    {"data", "selection"},
    {"nn", "graph", "modalities"},
    {"retrieval"},
    {"evaluation"},
    {"training"},
    {"rankers"},
    {"state", "testing"},
    {"presets", "export", "newcomers", "related"},
    {"fitting", "growth", "held_out", "cold_start_report", "answers", "matching", "training_bar"},
    {"ranking", "search"},
    {"recommender"},
    {"demo", "tuning"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> set[str]:
    """Returns every gnnrec module that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / Path(*inner.split("."))).with_suffix(".py").exists() or (
                    PACKAGE.parent / Path(*inner.split("."))
                ).is_dir()
                found.add(inner if is_module else node.module)
    return {name for name in found if name.partition(".")[0] == "gnnrec"}


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
IMPORTS = {module_name(path): imported_modules(path) for path in SOURCES}


def part(module: str) -> str:
    """Returns the package or file directly below ``gnnrec`` that a module belongs to."""
    return [*module.split("."), ""][1]


def test_every_part_has_a_layer() -> None:
    assert {part(module) for module in IMPORTS} == set(LEVEL)


@pytest.mark.parametrize("module", IMPORTS)
def test_a_module_imports_nothing_above_it(module: str) -> None:
    above = {name for name in IMPORTS[module] if part(name) and LEVEL[part(name)] > LEVEL[part(module)]}
    assert not above


def test_the_networks_know_nothing_of_data() -> None:
    used = set().union(*(IMPORTS[module] for module in IMPORTS if part(module) == "nn"))
    assert {part(module) for module in used} <= {"nn", "errors", "config", "geometric"}


def test_parts_import_each_other_in_no_circle() -> None:
    edges = {
        name: {part(used) for module, all_used in IMPORTS.items() if part(module) == name for used in all_used} - {name}
        for name in LEVEL
    }
    done: set[str] = set()
    while ready := {name for name in LEVEL if name not in done and edges[name] - {""} <= done}:
        done |= ready
    assert done == set(LEVEL), f"a circle among {set(LEVEL) - done}"


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_neural_parts_work_without_optional_libraries() -> None:
    run_python(
        """
import sys
for name in ("faiss", "polars", "duckdb", "transformers", "torchvision", "PIL", "matplotlib", "sklearn"):
    sys.modules[name] = None  # an import of it now fails
import importlib, pkgutil
for part in ("selection", "nn", "graph", "training", "evaluation", "retrieval", "rankers"):
    package = importlib.import_module(f"gnnrec.{part}")
    for module in pkgutil.walk_packages(package.__path__, f"gnnrec.{part}."):
        importlib.import_module(module.name)
import gnnrec.recommender
"""
    )


def test_importing_gnnrec_is_cheap() -> None:
    loaded = run_python("import sys, gnnrec; print(*sys.modules)").split()
    assert not {"torch", "transformers", "pandas", "numpy", "scipy"} & set(loaded)


def test_the_help_of_the_command_line_does_not_load_torch() -> None:
    loaded = run_python("import sys, gnnrec.cli; print(*sys.modules)").split()
    assert "rich" in loaded
    assert not {"torch", "transformers", "pandas", "matplotlib"} & set(loaded)
