"""What the README and the quick start say works as it stands there."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import gnnrec as gr
from gnnrec.cli import app
from gnnrec.data.synthetic import Shop

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory: pytest.TempPathFactory, small_shop: Shop) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("readme")
    items = small_shop.write_media(folder).rename(columns={"description": "overview", "picture": "poster_path"})
    items.to_csv(folder / "items.csv", index=False)
    items[:2].assign(item_id=["new-1", "new-2"]).to_csv(folder / "new_items.csv", index=False)
    small_shop.interactions.to_csv(folder / "log.csv", index=False)
    return folder


def test_the_python_of_the_readme_runs(
    shop_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop_folder)
    code = "\n".join(blocks(ROOT / "README.md", "python"))
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    said = capsys.readouterr().out
    assert "recall@20" in said
    assert "u42" in said
    assert "new-1" in said
    assert (shop_folder / "model" / "manifest.json").is_file()
    recommender, data = names["rec"], names["data"]  # of the second block: fitted on everything
    assert isinstance(recommender, gr.Recommender)
    assert isinstance(data, gr.Dataset)
    assert recommender.state.train.nnz == data.interaction_matrix().nnz


def test_the_commands_of_the_readme_run(shop_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop_folder)
    lines = [line for block in blocks(ROOT / "README.md", "sh") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("gnnrec ")]
    assert [words[0] for words in commands] == ["fit", "evaluate", "recommend", "search", "export"]
    for words in commands:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output


def test_each_way_to_set_up_is_one_line_with_known_extras() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    set_up = [block.strip() for block in blocks(ROOT / "README.md", "sh") if "venv" in block]
    assert len(set_up) == 2
    assert all("\n" not in line for line in set_up)
    assert [re.findall(r"\.\[(\w+)\]", line) for line in set_up] == [["demo"], ["dev"]]
    assert {"demo", "dev"} <= set(extras)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http", "mailto:")):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
            assert heading in slugs, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_is_python(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    required = [
        *project["dependencies"],
        *(name for names in project["optional-dependencies"].values() for name in names),
    ]
    packages = {re.split(r"[<>=\[]", requirement)[0] for requirement in required} - {"gnnrec"}
    assert {name for name in packages if f"`{name}`" not in page} == set()
    assert {extra for extra in project["optional-dependencies"] if f"`{extra}`" not in page} == set()


def test_every_option_of_the_command_line_is_documented() -> None:
    from typer.main import get_command

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = get_command(app).commands
    missing = {
        f"{name} {option}"
        for name, command in commands.items()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help" and not re.search(rf"{option}\b", page)
    }
    assert missing == set()


def test_every_error_is_documented() -> None:
    from gnnrec import errors

    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert {name for name in errors.__all__ if f"`{name}`" not in page} == set()
