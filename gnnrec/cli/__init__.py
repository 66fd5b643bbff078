"""The command line: every command does what the Python call of the same name does."""

import logging
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from gnnrec import __version__
from gnnrec.cli.answer import evaluate, export, recommend, search
from gnnrec.cli.catalogue import datasets
from gnnrec.cli.demo import demo
from gnnrec.cli.fit import fit
from gnnrec.cli.processes import first_has_said_it, part, tell_the_others
from gnnrec.cli.tune import tune
from gnnrec.errors import (
    ConfigError,
    DataError,
    GnnrecError,
    MediaError,
    StorageError,
    UnknownIdError,
    UnsupportedError,
)

__all__ = ["EXIT_CODES", "app"]

# What went wrong → exit code of the process; whatever is not listed ends with 1.
EXIT_CODES: dict[type[GnnrecError], int] = {
    ConfigError: 2,
    UnsupportedError: 2,
    DataError: 3,
    UnknownIdError: 3,
    MediaError: 3,
    StorageError: 4,
}


class _Group(typer.core.TyperGroup):
    """Turns an error of ours into one line and an exit code, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GnnrecError as error:
            if ctx.params["debug"]:
                raise
            if first_has_said_it():
                raise typer.Exit(_exit_code(error)) from None
            message = " ".join(str(error).split())
            if part.rank:
                message = f"in process {part.rank} of {part.size}: {message}"
            Console(stderr=True).print(Text(f"error: {message}", style="bold red"), soft_wrap=True)
            tell_the_others()
            raise typer.Exit(_exit_code(error)) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 anything unforeseen or a missing package, 2 wrong usage or option, "
    "3 unusable data or unknown id, 4 a file or folder that cannot be read, written or trusted.",
)
app.command()(demo)
app.command()(fit)
app.command()(tune)
app.command()(evaluate)
app.command()(recommend)
app.command()(search)
app.command()(export)
app.add_typer(datasets, name="datasets")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done, and what is left out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Multimodal graph recommendations: from interaction logs and raw item media to ranked lists."""
    if verbose and quiet:
        raise ConfigError("--verbose and --quiet exclude each other")
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False)
    logger = logging.getLogger("gnnrec")
    logger.handlers = [handler]
    logger.setLevel(level)


def _exit_code(error: GnnrecError) -> int:
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
