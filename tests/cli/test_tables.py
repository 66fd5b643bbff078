import pandas as pd
import pytest

from gnnrec.cli.tables import print_frame, print_rows


def test_brackets_in_ids_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_frame("[/b] heist", pd.DataFrame({"user_id": ["[/b]x", "[i03]", ":smile:"], "[red]": [1.0, 2.0, 3.0]}))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[/b] heist", "[/b]x", "[i03]", ":smile:", "[red]"))


def test_what_is_piped_is_not_cut_to_the_width_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "x" * 200
    print_frame("Long", pd.DataFrame({"user_id": [long], "item_id": [long]}))
    assert f"{long} │ {long}" in capsys.readouterr().out


def test_small_numbers_are_not_shown_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("Options", [("learning_rate", 0.00004321, 0.0), ("temperature", 0.15, -0.0001)])
    shown = capsys.readouterr().out
    assert all(number in shown for number in ("4.3e-05", "0.0000", "0.1500", "-0.0001"))
