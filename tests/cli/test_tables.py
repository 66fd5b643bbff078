import pandas as pd
import pytest

from gnnrec.cli.tables import print_frame


def test_brackets_in_ids_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_frame("[/b] heist", pd.DataFrame({"user_id": ["[/b]x", "[i03]", ":smile:"], "[red]": [1.0, 2.0, 3.0]}))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[/b] heist", "[/b]x", "[i03]", ":smile:", "[red]"))
