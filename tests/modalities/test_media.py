from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gnnrec.data.schema import Image, Text
from gnnrec.errors import DataError, MediaError
from gnnrec.modalities.media import collect_media, media_digest

TABLE = pd.DataFrame(
    {
        "title": ["Alien", None, "  ", "Heat"],
        "genres": [["Horror", "Space"], float("nan"), [], np.array(["Crime"], dtype=object)],
        "year": [1979, 1980, 1981, 1995],
        "poster": ["a.jpg", ["b.jpg", "c.jpg"], "", None],
    }
)


def test_columns_are_joined_into_one_text():
    found = collect_media("plot", Text(["title", "genres"]), TABLE, 4)
    assert found.media == ["Alien Horror, Space", "Heat Crime"]
    assert found.owner_index.tolist() == [0, 3]
    assert found.missing == 2


def test_each_part_is_a_row():
    found = collect_media("plot", Text(["title", "genres"], parts=True), TABLE, 4)
    assert found.media == ["Alien", "Horror, Space", "Heat", "Crime"]
    assert found.owner_index.tolist() == [0, 0, 3, 3]


def test_numbers_read_as_text():
    assert collect_media("year", Text("year"), TABLE, 4).media == ["1979", "1980", "1981", "1995"]


def test_several_pictures_and_the_media_root():
    found = collect_media("poster", Image("poster", media_root="root"), TABLE, 4)
    assert found.media == [Path("root/a.jpg"), Path("root/b.jpg"), Path("root/c.jpg")]
    assert found.owner_index.tolist() == [0, 1, 1]
    assert found.missing == 2
    absolute = pd.DataFrame({"poster": ["/p/a.jpg"]})
    assert collect_media("poster", Image("poster", media_root="root"), absolute, 1).media == [Path("/p/a.jpg")]


@pytest.mark.parametrize(
    ("spec", "table", "message"),
    [
        (Text("plot"), TABLE, "no column 'plot'; it has title"),
        (Text("title"), None, "reads 'title' of the item table; there is none"),
        (Text("title"), TABLE.head(3), "3 rows for 4 items"),
        (Image("year"), TABLE, "row 0: expected a path or a list of paths, got 1979"),
    ],
)
def test_tables_that_do_not_fit(spec, table, message):
    with pytest.raises(DataError, match=message):
        collect_media("m", spec, table, 4)


def test_digest_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    assert media_digest(tmp_path / "a") == media_digest(tmp_path / "b") == media_digest("same")
    assert media_digest("other") != media_digest("same")
    assert media_digest("\ud800")  # half a surrogate pair, as broken exports hold
    with pytest.raises(MediaError, match="No such file"):
        media_digest(tmp_path / "absent")


def test_a_path_that_cannot_be_one_is_unreadable():
    with pytest.raises(MediaError, match="null"):
        media_digest(Path("x\0y.png"))
