import numpy as np
import pytest

from gnnrec.errors import EncoderError
from gnnrec.modalities import encoder as registry
from gnnrec.modalities.encoder import AudioEncoder, Encoder, TextEncoder, encoder_names, register_encoder, resolve
from gnnrec.modalities.features import EncoderCard


class LengthOfText:
    modality = "text"

    def __init__(self, device: str, **options) -> None:
        self.device, self.options = device, options
        self.card = EncoderCard("length", "text", 1)

    def encode(self, batch):
        return np.array([[len(text)] for text in batch], dtype=np.float32)


@pytest.fixture
def clean_registry(monkeypatch):
    copy = {modality: dict(names) for modality, names in registry._FACTORIES.items()}
    monkeypatch.setattr(registry, "_FACTORIES", copy)


def test_registered_encoder_gets_device_and_options(clean_registry):
    register_encoder("text", "length", LengthOfText)
    found = resolve("text", "length", "cpu", pooling="max")
    assert found.device == "cpu"
    assert found.options == {"pooling": "max"}
    assert found.encode(["abc"]).tolist() == [[3.0]]
    assert isinstance(found, Encoder)
    assert not isinstance(found, TextEncoder)
    assert "length" in encoder_names("text")


def test_names_are_not_taken_twice(clean_registry):
    register_encoder("smell", "nose", LengthOfText)
    assert encoder_names("smell") == ["nose"]
    with pytest.raises(EncoderError, match="already a smell encoder 'nose'"):
        register_encoder("smell", "nose", LengthOfText)
    with pytest.raises(EncoderError, match="already a text encoder 'auto'"):
        register_encoder("text", "auto", LengthOfText)


def test_auto_takes_the_packaged_encoder():
    assert resolve("text").card.name == "minilm"
    assert resolve("image").card.name == "efficientnet-lite0"


@pytest.mark.parametrize(
    ("modality", "model"),
    [
        ("text", "sentence-transformers/all-MiniLM-L6-v2"),
        ("image", "google/vit-base-patch16-224"),
        ("audio", "laion/clap-htsat-unfused"),
    ],
)
def test_auto_without_packages_goes_to_the_hub_and_says_how_to_work_offline(monkeypatch, tmp_path, modality, model):
    monkeypatch.setattr(registry, "find_spec", lambda package: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError) as caught:
        resolve(modality)
    for part in (model, "pip install 'gnnrec[offline]'", "path of a folder", "gr.Vectors"):
        assert part in str(caught.value)


def test_unknown_modality_has_no_encoders():
    with pytest.raises(EncoderError, match="no smell encoder 'nose'; registered: none"):
        resolve("smell", "nose")
    with pytest.raises(EncoderError, match='"auto" is not defined for smell'):
        resolve("smell")


def test_sound_encoders_state_their_rate():
    assert isinstance(resolve("audio", "log-mel-statistics"), AudioEncoder)
    assert resolve("audio", "log-mel-statistics").sampling_rate == 16_000
