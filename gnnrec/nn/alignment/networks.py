"""Objectives with a network of their own between projection and space, which works on one modality alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.nn.alignment.contrast import contrast
from gnnrec.nn.alignment.distance import mean_alignment
from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective, mean_over_pairs

__all__ = ["Concatenation", "CrossAttention", "Generative", "perceptron"]


class Concatenation(AlignmentObjective):
    """One network over the modalities side by side, which must say the same from every part (Ngiam et al. 2011).

    ``f(z, present) = mean of the present z + MLP([z_1; …; z_M; present])``, absent modalities being 0. As in the
    bimodal network of Ngiam et al., section 3, the network learns from inputs with modalities left out; where they
    reconstruct the inputs, here what each modality gives alone is told, by contrast, from what the *other* modalities
    of other owners give together. Others, since all together would contain the modality itself and be recognised by
    it without any alignment; by contrast, since a network that always says the same would agree with itself.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the common space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__(num_modalities, dim)
        self.network = perceptron(num_modalities * dim + num_modalities, dim)

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the modalities."""
        losses = []
        for modality in range(self.num_modalities):
            alone = torch.zeros_like(rows.present)
            alone[:, modality] = rows.present[:, modality]
            others = rows.present & ~alone
            both = torch.nonzero(alone.any(dim=1) & others.any(dim=1)).flatten()
            if len(both) >= 2:
                z = rows.z[both]
                losses.append(contrast(self._together(z, alone[both]), self._together(z, others[both])))
        return torch.stack(losses).mean() if losses else rows.z.sum() * 0

    def transform(self, z: Tensor, modality: int) -> Tensor:
        """Returns what the network says of one modality alone, ``[num_rows, dim]``."""
        present = torch.zeros(len(z), self.num_modalities, dtype=torch.bool, device=z.device)
        present[:, modality] = True
        return self._together(z[:, None].expand(-1, self.num_modalities, -1), present)

    def _together(self, z: Tensor, given: Tensor) -> Tensor:
        side_by_side = (z * given[:, :, None]).flatten(1)
        correction: Tensor = self.network(torch.cat([side_by_side, given.to(z.dtype)], dim=1))
        return mean_alignment(z, given) + correction


class CrossAttention(AlignmentObjective):
    """Every modality attends to prototypes that all modalities share (Chen et al. 2021, cross-modal memory, eq. 5–8).

    ``f_m(z) = z + W_o · attention(W_m z, K, V)`` with learned prototypes ``K = V``: scaled dot-product attention
    (Vaswani et al. 2017, eq. 1) with several heads. Attention to the other modality of the same item would need that
    modality at hand; a query has one only. The prototypes stand for it: whatever reads the same prototypes says the
    same. Trained by contrast of what is read.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the common space.
    """

    num_prototypes = 64

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__(num_modalities, dim)
        self.num_heads = 4 if dim % 4 == 0 else 1
        self.prototypes = nn.Parameter(torch.randn(self.num_prototypes, dim))
        self.queries = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(num_modalities))
        self.out = nn.Linear(dim, dim)
        _start_as_nothing(self.out)

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the pairs of modalities."""
        read = torch.stack([self.transform(rows.z[:, m], m) for m in range(self.num_modalities)], dim=1)
        return mean_over_pairs(AlignedRows(read, rows.present), contrast)

    def transform(self, z: Tensor, modality: int) -> Tensor:
        """Returns the vectors with what they read from the prototypes, ``[num_rows, dim]``."""
        query, memory = self._heads(self.queries[modality](z)), self._heads(self.prototypes)
        read = F.scaled_dot_product_attention(query, memory, memory)
        correction: Tensor = self.out(read.transpose(0, 1).flatten(1))
        return z + correction

    def _heads(self, x: Tensor) -> Tensor:
        """Cuts ``[rows, dim]`` into ``[heads, rows, dim / heads]``."""
        return x.view(len(x), self.num_heads, -1).transpose(0, 1)


class Generative(AlignmentObjective):
    """Predicts one modality's vector from another's (DeViSE, Frome et al. 2013; imagination, Collell et al. 2017).

    ``ẑ_t = g(z_s; s, t)`` shall point where ``z_t`` does: ``mean 1 − cos(ẑ_t, z_t)`` over all ordered pairs of
    modalities. No gradient reaches the target, since vectors that are all equal would be predicted best; a predictor
    and a target at rest keep them apart (SimSiam, Chen & He 2021). A vector alone is then joined by those that are
    imagined beside it,
    ``f_s(z) = z / ‖z‖ + Σ_{t≠s} ẑ_t / ‖ẑ_t‖``, which has something to compare with every modality.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the common space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__(num_modalities, dim)
        self.generators = nn.ModuleList(
            nn.ModuleList(perceptron(dim, dim) for _ in range(num_modalities)) for _ in range(num_modalities)
        )

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the ordered pairs of modalities."""
        losses = [
            1
            - F.cosine_similarity(
                self.predict(rows.z[both, source], source, target), rows.z[both, target].detach()
            ).mean()
            for source in range(self.num_modalities)
            for target in range(self.num_modalities)
            if source != target and len(both := _owners_of_both(rows, source, target))
        ]
        return torch.stack(losses).mean() if losses else rows.z.sum() * 0

    def predict(self, z: Tensor, source: int, target: int) -> Tensor:
        """Returns the vectors ``[num_rows, dim]`` of modality ``target`` expected beside those of ``source``."""
        generators = self.generators[source]
        correction: Tensor = generators[target](z)  # type: ignore[index]
        return z + correction

    def transform(self, z: Tensor, modality: int) -> Tensor:
        """Returns the sum of the vectors' directions and those imagined beside them, ``[num_rows, dim]``."""
        imagined = [
            F.normalize(self.predict(z, modality, target))
            for target in range(self.num_modalities)
            if target != modality
        ]
        return torch.stack([F.normalize(z), *imagined]).sum(dim=0)


def perceptron(width: int, dim: int) -> nn.Sequential:
    """Returns ``[rows, width] → [rows, dim]`` with one hidden layer; before training it answers 0."""
    network = nn.Sequential(nn.Linear(width, 2 * dim), nn.GELU(), nn.Dropout(0.2), nn.Linear(2 * dim, dim))
    _start_as_nothing(network[-1])
    return network


def _start_as_nothing(layer: nn.Module) -> None:
    """Sets a layer to 0: what is added to the projection must earn its place."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _owners_of_both(rows: AlignedRows, first: int, second: int) -> Tensor:
    return torch.nonzero(rows.present[:, first] & rows.present[:, second]).flatten()
