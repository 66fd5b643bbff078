"""Turns the name of a fusion into a fusion."""

from collections.abc import Mapping, Sequence

from gnnrec.config import suggest
from gnnrec.errors import ConfigError
from gnnrec.nn.fusion.attention import AttentionFusion
from gnnrec.nn.fusion.base import Fusion
from gnnrec.nn.fusion.concatenation import ConcatenationFusion
from gnnrec.nn.fusion.gated import GatedFusion
from gnnrec.nn.fusion.mean import MeanFusion
from gnnrec.nn.fusion.stacking import StackingFusion
from gnnrec.nn.fusion.transformer import TransformerFusion
from gnnrec.nn.fusion.weighted import WeightedFusion, modality_shares

__all__ = ["FUSIONS", "build_fusion"]

# Name → a Fusion, built as Fusion(num_modalities, dim).
FUSIONS: Mapping[str, type[Fusion]] = {
    "attention": AttentionFusion,
    "mean": MeanFusion,
    "weighted": WeightedFusion,
    "concatenation": ConcatenationFusion,
    "stacking": StackingFusion,
    "gated": GatedFusion,
    "transformer": TransformerFusion,
}


def build_fusion(name: str, modalities: Sequence[str], dim: int, shares: Mapping[str, float] | None = None) -> Fusion:
    """Builds the fusion of that name.

    Args:
        name: A name in ``FUSIONS``.
        modalities: What it fuses, in the order of ``ModalityRows.modality_index``.
        dim: Width of the aligned space.
        shares: Modality → fixed share, for ``weighted``; what is left goes to the modalities that are not named, in
            equal parts. If none of ``modalities`` is named, their weights are learned.

    Raises:
        ConfigError: There is no such fusion, it has no fixed shares, or all shares are 0.
    """
    if name not in FUSIONS:
        raise ConfigError(f"option 'fusion' cannot be {name!r}{suggest(name, FUSIONS)}")
    if not shares:
        return FUSIONS[name](len(modalities), dim)
    if name != "weighted":
        raise ConfigError(
            f"the fusion {name!r} has no fixed shares of modalities; take fusion='weighted' or leave them out"
        )
    if not any(modality in shares for modality in modalities):
        return WeightedFusion(len(modalities), dim)
    weight_of = modality_shares(modalities, shares)
    return WeightedFusion(len(modalities), dim, [weight_of[modality] for modality in modalities])
