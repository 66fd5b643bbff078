"""Turns the media of items into one projected vector per item and modality, and spreads vectors over item graphs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gnnrec.errors import ConfigError
from gnnrec.geometric import scatter
from gnnrec.nn.align import Alignment
from gnnrec.nn.message_graph import GraphShape, MessageGraph
from gnnrec.nn.model_config import ModelConfig

__all__ = ["ItemContent", "described_modalities", "fused_neighbours"]


class ItemContent(nn.Module):
    """Projects the media of items, ``c_i^m = W_m (x_i^m + o_i^m) + b_m``; several rows of an item are averaged.

    The offsets ``o`` start at 0 and are there with ``fine_tune_features``. The authors' code of FREEDOM, BM3, MGCN and
    PGL trains the given vectors themselves, which Adam treats in the same way.

    Args:
        shape: Which modalities items have.
        config: Projections, and whether vectors are trained.
        dim: Width of the projections.

    Raises:
        ConfigError: Items have no media.
    """

    def __init__(self, shape: GraphShape, config: ModelConfig, dim: int) -> None:
        super().__init__()
        if not shape.item_modalities:
            raise ConfigError(
                f"the architecture {config.architecture!r} learns from media of items, and the data have none; "
                "give the data set modalities, or choose 'lightgcn'"
            )
        self.names = tuple(shape.item_modalities)
        self.dim = dim
        self.alignment = Alignment(shape.item_modalities, dim, config.projections, normalise=False)
        widths = shape.item_modalities.values() if config.fine_tune_features else ()
        self.offsets = nn.ParameterList(torch.zeros(shape.num_items, width) for width in widths)

    def forward(self, graph: MessageGraph) -> dict[str, Tensor]:
        """Returns modality → ``[num_items, dim]`` for the items of the training graph; zero where one is missing."""
        x_dict = {name: graph.x_dict[name] for name in self.names}
        for name, offset in zip(self.names, self.offsets, strict=False):
            x_dict[name] = x_dict[name] + offset.index_select(0, graph.owner_dict[name])
        return self.of_items(x_dict, graph.owner_dict, graph.num_items)

    def of_items(
        self, x_dict: Mapping[str, Tensor], owner_dict: Mapping[str, Tensor], num_items: int
    ) -> dict[str, Tensor]:
        """Returns modality → ``[num_items, dim]`` for any items, with zeros for absent modalities."""
        z_dict = self.alignment({name: x_dict[name] for name in self.names if name in x_dict})
        nothing = next(self.alignment.parameters()).new_zeros(num_items, self.dim)
        return {
            name: scatter(z_dict[name], owner_dict[name], dim=0, dim_size=num_items, reduce="mean")
            if name in z_dict
            else nothing
            for name in self.names
        }


def described_modalities(shape: GraphShape, architecture: str) -> tuple[str, ...]:
    """Returns the modalities by which items are linked.

    Raises:
        ConfigError: There are none.
    """
    names = tuple(name for name in shape.item_modalities if f"similar_by_{name}" in shape.item_relations)
    if not names:
        raise ConfigError(
            f"the architecture {architecture!r} needs item–item graphs of media; give the data set modalities of items "
            "and the option 'similar_items' a positive value"
        )
    return names


def fused_neighbours(graph: MessageGraph, shares: Mapping[str, float], x: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """Propagates over the item graph of all modalities, ``S = sum_m share_m S^m`` (Zhou & Shen 2023, section 3.1).

    Args:
        graph: Has the relation ``similar_by_<modality>`` of every modality in ``shares``.
        shares: Modality → share.
        x: ``[num_items, dim]``.
        hops: How often.

    Returns:
        ``S^hops x``, and ``S^(hops - 1) x``, which is what an item sends to its neighbours last.
    """
    sent = x
    for _ in range(hops):
        sent, layers = (
            x,
            [share * (graph.relations["item"][f"similar_by_{name}"] @ x) for name, share in shares.items()],
        )
        x = torch.stack(layers).sum(dim=0)
    return x, sent
