import shutil
from pathlib import Path

import pytest

from gnnrec.errors import EncoderError
from gnnrec.modalities.encode import same_encoder
from gnnrec.modalities.encoder import resolve


@pytest.fixture
def hub(bert_folder, tmp_path, monkeypatch) -> list[dict]:
    """A hub that holds one model at one commit; lists what it was asked for."""
    folder = Path(shutil.copytree(bert_folder, tmp_path / "snapshots" / "c0ffee"))
    asked: list[dict] = []

    def snapshot_download(repository, **options):
        asked.append({"repository": repository, **options})
        if repository != "owner/bert":
            raise OSError("Repository Not Found\nmore lines")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_card_of_a_hub_model_names_its_commit(hub, bert_folder):
    card = resolve("text", "owner/bert").card
    assert (card.name, card.package, card.revision) == ("owner/bert", "hub", "c0ffee")
    assert same_encoder(card, resolve("text", bert_folder).card)
    assert hub[0]["revision"] is None
    assert "*.safetensors" in hub[0]["allow_patterns"]
    assert len(hub) == 1  # no pickles are fetched where there are safetensors


def test_a_revision_can_be_pinned(hub):
    assert resolve("text", "owner/bert@c0ffee").card.name == "owner/bert"
    assert (hub[0]["repository"], hub[0]["revision"]) == ("owner/bert", "c0ffee")


def test_unknown_model(hub):
    with pytest.raises(EncoderError, match=r"no encoder 'owner/bart'.*\(Repository Not Found\).*gnnrec\[offline\]"):
        resolve("text", "owner/bart")
