"""``python -m gnnrec``: the command line, which is also how torchrun starts it."""

from gnnrec.cli import app

app()
