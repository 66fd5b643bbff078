"""Fuses by a transformer whose tokens are the rows of a node: its pictures, the parts of its text, its sounds."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows, shares_of

__all__ = ["TransformerFusion"]

_INITIAL_SCALE = 0.02  # of the summary token and the modality embeddings, as in BERT
_MOST_HEADS = 4


class TransformerFusion(Fusion):
    """A transformer encoder over the rows of each node (Vaswani et al. 2017, section 3.1).

    A token is a row plus the learned embedding of its modality; tokens have no position, so their order is of no
    account. A learned summary token joins them (``[CLS]`` of BERT, Devlin et al. 2019) and leaves as the node's vector.
    Layers normalise first (Xiong et al. 2020), and once more at the end, so that vectors have the scale of the rows. A
    missing modality is an absent token. There are as many heads, up to four, as divide ``dim``.

    ``Fused.attention`` is what the summary token attends to in the last layer, as a mean over the heads and without its
    attention to itself. By then tokens have heard from the others of their node: it says where the summary was read
    last, which need not be where all of it came from.

    Nodes are processed together with those of a like number of rows, padded to the next power of two.
    Cost: ``O(num_layers × (num_rows × dim² + sum_i n_i² × dim))`` with ``n_i`` rows of node ``i``, padded.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the aligned space.
        num_layers: Layers.
    """

    def __init__(self, num_modalities: int, dim: int, num_layers: int = 2) -> None:
        super().__init__()
        self.summary = nn.Parameter(torch.empty(dim))
        self.modality_embedding = nn.Parameter(torch.empty(num_modalities, dim))
        heads = max(number for number in range(1, _MOST_HEADS + 1) if dim % number == 0)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, heads, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        nn.init.normal_(self.summary, std=_INITIAL_SCALE)
        nn.init.normal_(self.modality_embedding, std=_INITIAL_SCALE)
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight)
                nn.init.zeros_(module.in_proj_bias)
            elif isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()

    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``; the identity plays no part."""
        token = rows.z + self.modality_embedding[rows.modality_index]
        x, attention = rows.z.new_zeros(rows.num_nodes, rows.z.shape[1]), rows.z.new_zeros(len(rows.z))
        for bucket in _buckets(rows):
            summary, weight = self._summarise(*bucket.pad(token))
            x = x.index_copy(0, bucket.node_index, summary.to(x.dtype))
            attention = attention.index_copy(0, bucket.row_index, weight[bucket.place].to(attention.dtype))
        return Fused(x, rows.present, attention)

    def _summarise(self, token: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
        """Reads padded tokens.

        Args:
            token: ``[num_nodes, length, dim]``.
            absent: ``[num_nodes, length]`` bool: mere padding.

        Returns:
            The vectors ``[num_nodes, dim]``, and the attention to each token ``[num_nodes, length]``.
        """
        x = torch.cat([self.summary.to(token.dtype).expand(len(token), 1, -1), token], dim=1)
        ignored = torch.cat([absent.new_zeros(len(absent), 1), absent], dim=1)
        for layer in self.layers[:-1]:
            x = layer(x, src_key_padding_mask=ignored)
        # Of the last layer only the summary is needed, and what it attends to.
        last, summary = self.layers[-1], x[:, :1]
        assert isinstance(last, nn.TransformerEncoderLayer)
        normed = last.norm1(x)
        heard, weight = last.self_attn(normed[:, :1], normed, normed, key_padding_mask=ignored)
        summary = summary + heard
        summary = summary + last.linear2(last.activation(last.linear1(last.norm2(summary))))
        return self.norm(summary).squeeze(1), shares_of(weight[:, 0, 1:], ~absent)


@dataclass(frozen=True, eq=False)
class _Bucket:
    """Nodes of a like number of rows.

    Attributes:
        node_index: ``[num_nodes]``.
        row_index: ``[num_rows]`` all rows of these nodes.
        place: For each row, its node's position in ``node_index`` and its own place within the node.
        length: Places of each node.
    """

    node_index: Tensor
    row_index: Tensor
    place: tuple[Tensor, Tensor]
    length: int

    def pad(self, token: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the tokens node by node ``[num_nodes, length, dim]``, and which places are left empty."""
        padded = token.new_zeros(len(self.node_index), self.length, token.shape[1])
        absent = torch.ones(padded.shape[:2], dtype=torch.bool, device=token.device)
        absent[self.place] = False
        return padded.index_put(self.place, token[self.row_index]), absent


def _buckets(rows: ModalityRows) -> Iterator[_Bucket]:
    """Groups the nodes that have rows by the power of two that their number of rows fits in."""
    device = rows.z.device
    count = torch.bincount(rows.owner_index, minlength=rows.num_nodes)
    order = rows.owner_index.argsort(stable=True)
    first = count.cumsum(0) - count
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=device) - first[rows.owner_index[order]]
    most = int(count.max()) if len(order) else 0
    for length in (2**exponent for exponent in range(most.bit_length() + 1)):
        node_index = torch.nonzero((count > length // 2) & (count <= length)).flatten()
        if len(node_index):
            position = torch.full((rows.num_nodes,), -1, device=device)
            position[node_index] = torch.arange(len(node_index), device=device)
            row_index = torch.nonzero(position[rows.owner_index] >= 0).flatten()
            yield _Bucket(node_index, row_index, (position[rows.owner_index[row_index]], place[row_index]), length)
