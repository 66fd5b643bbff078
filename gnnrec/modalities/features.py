"""The vectors of one modality, with the owner of each row and a report of what was absent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.schema import Owner

__all__ = [
    "EncoderCard",
    "Features",
    "MediaReport",
    "appended",
    "as_tensors",
    "mean_per_owner",
    "owned_by",
    "unit_rows",
]


@dataclass(frozen=True)
class EncoderCard:
    """Which encoder made some vectors: enough to make the same ones again, or to refuse others.

    Attributes:
        name: The resolved encoder, e.g. ``"minilm"`` or a hub name.
        modality: ``text``, ``image``, ``audio`` or ``video``.
        dim: Width of its vectors.
        package: Package (or ``hub`` / ``local``) that the weights come from.
        revision: Version of the package, revision of the hub model, or an empty string.
        sha256: Digest of the weights; empty when there are none.
        preprocessing: Options that change the vectors (pooling, sizes, …), as text.
    """

    name: str
    modality: str
    dim: int
    package: str = ""
    revision: str = ""
    sha256: str = ""
    preprocessing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MediaReport:
    """How many media cells of a modality were given, empty or unreadable.

    Attributes:
        given: Cells that held text or at least one path.
        missing: Owners with an empty cell.
        unreadable: Files that could not be read.
        truncated: Texts or sounds that were cut to the allowed length.
        examples: The first few unreadable files with the reason.
        seconds: Wall time of reading and encoding.
        cached: Rows that came from the feature store.
    """

    given: int = 0
    missing: int = 0
    unreadable: int = 0
    truncated: int = 0
    examples: tuple[str, ...] = ()
    seconds: float = 0.0
    cached: int = 0


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of one modality. An owner may have several rows, or none (it lacks the modality).

    Attributes:
        name: The modality, as the user named it.
        of: Whether the owners are items or users.
        values: ``[num_rows, dim]`` float32, finite; possibly memory-mapped.
        owner_index: ``[num_rows]`` int64, ascending: the item or user of each row.
        encoder: What made them; ``None`` for vectors that the user brought.
        report: What was absent.
    """

    name: str
    of: Owner
    values: NDArray[np.float32]
    owner_index: NDArray[np.int64]
    encoder: EncoderCard | None = None
    report: MediaReport = MediaReport()

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.values.shape[1])

    def __len__(self) -> int:
        return len(self.values)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Copies ``values`` and ``owner_index`` into memory."""
        return torch.from_numpy(np.array(self.values)), torch.from_numpy(np.array(self.owner_index))


def as_tensors(features: Mapping[str, Features]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns modality → ``[num_rows, dim]`` and modality → ``[num_rows]`` owners; not those that nobody has."""
    tensors = {name: feature.tensors() for name, feature in features.items() if len(feature)}
    return {name: x for name, (x, _) in tensors.items()}, {name: owner for name, (_, owner) in tensors.items()}


def mean_per_owner(features: Features) -> tuple[Tensor, Tensor]:
    """Finds the mean direction of each owner's rows.

    Returns:
        ``[num_owners, dim]`` of any length, the sums of the unit vectors, and the owners ``[num_owners]``, ascending.
    """
    x, owner_index = features.tensors()
    owners, position = torch.unique(owner_index, return_inverse=True)
    return torch.zeros(len(owners), features.dim).index_add_(0, position, F.normalize(x)), owners


def appended(known: Features, added: Features | None, num_known: int) -> Features:
    """Returns the rows of known owners and, behind them, those of added ones, who are counted from ``num_known``."""
    if added is None:
        return known
    return replace(
        known,
        values=np.concatenate([known.values, added.values]),
        owner_index=np.concatenate([known.owner_index, added.owner_index + num_known]),
    )


def owned_by(feature: Features, owners: NDArray[np.int64]) -> Features:
    """Returns the rows of some owners ``[num_owners]``, ascending, who are counted from 0."""
    rows = np.isin(feature.owner_index, owners)
    owner_index = np.searchsorted(owners, feature.owner_index[rows])
    return replace(feature, values=feature.values[rows], owner_index=owner_index)


def unit_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales rows ``[num_rows, dim]`` to length 1, in place, and returns them; a row of zeros stays."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    np.divide(values, length, out=values, where=length > 0)
    return values
