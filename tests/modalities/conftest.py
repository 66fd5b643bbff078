"""Small randomly initialised models in the hub's format, pictures, sounds and clips, all written to disk."""

import os
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefg", "the", "red", "green", "blue", "cat", "dog", "film", "."]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes a model and its preprocessor as the hub would hold them and returns the folder."""

    def save(model: torch.nn.Module, *parts) -> str:
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = tmp_path_factory.mktemp("model")
        for part in (model, *parts):
            part.save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def word_tokenizer():
    """A tokenizer that splits at spaces, with BERT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    )  # fmt: skip


@pytest.fixture(scope="session")
def bert_folder(save_model, word_tokenizer) -> str:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=32)
    return save_model(BertModel(config), word_tokenizer)


@pytest.fixture(scope="session")
def vit_folder(save_model) -> str:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    model = ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8))
    return save_model(model, ViTImageProcessor(size={"height": 32, "width": 32}))


@pytest.fixture
def write_picture(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, colour=(255, 0, 0), size=(48, 64)) -> Path:
        from PIL import Image

        Image.new("RGB", size, colour).save(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, hertz: float = 440.0, seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> Path:
        import soundfile

        wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
        soundfile.write(tmp_path / name, np.repeat(wave[:, None], channels, axis=1), rate)
        return tmp_path / name

    return write


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Writes a clip that shows each colour for ten frames: half a second at 20 frames a second."""

    def write(name: str, colours: list[tuple[int, int, int]], rate: int = 20, start: int = 0) -> Path:
        import av

        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            stream.options = {"sc_threshold": "1000000000"}  # or each change of colour would be a key frame
            for tick, colour in enumerate(np.repeat(np.array(colours, dtype=np.uint8), 10, axis=0), start):
                frame = av.VideoFrame.from_ndarray(np.tile(colour, (64, 64, 1)), format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return tmp_path / name

    return write


@pytest.fixture
def in_child() -> Callable[[Callable[[], None]], int]:
    """Runs a function in a forked process and returns its number; a forked one need not import everything again."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")

    def start(work: Callable[[], None]) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does not use
            number = os.fork()
        if number == 0:
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        return number

    return start


@pytest.fixture
def data_dir() -> Path:
    if "GNNREC_DATA_DIR" not in os.environ:
        pytest.skip("GNNREC_DATA_DIR is not set")
    return Path(os.environ["GNNREC_DATA_DIR"])
