"""``gnnrec datasets``: the public data sets that load by name."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from gnnrec.cli.tables import print_rows

__all__ = ["datasets"]

datasets = typer.Typer(no_args_is_help=True, help="List, describe and download public data sets.")

_Name = Annotated[str, typer.Argument(help="A name from `gnnrec datasets list`.", show_default=False)]


@datasets.command("list")
def list_names() -> None:
    """List the data sets that load by name."""
    from gnnrec.data import catalogue

    cards = [catalogue.card(name) for name in catalogue.names()]
    print_rows("Data sets", [(card.name, card.title, card.size) for card in cards], ("name", "what", "size"))


@datasets.command()
def show(name: _Name) -> None:
    """Show source, licence, size, media and split of a data set."""
    from gnnrec.data import catalogue

    Console().print(Markdown(catalogue.card(name).markdown()))


@datasets.command()
def get(
    name: _Name, output: Annotated[Path, typer.Option("--output", "-o", help="Folder to download into.")] = Path()
) -> None:
    """Download a data set, going on where an earlier try stopped; then set GNNREC_DATA_DIR to the folder."""
    from gnnrec.data import catalogue

    typer.echo(str(catalogue.get(name, output)))
