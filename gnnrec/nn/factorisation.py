"""What models without propagation have in common: a user is a learned vector, and an item is embedded by itself."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from gnnrec.nn.model import Embeddings, GraphModel, NewItems

__all__ = ["FactorisationModel"]


class FactorisationModel(GraphModel):
    """A model without propagation that embeds items from their content, new ones too.

    New users are fitted by least squares to the item vectors.
    """

    @property
    def hears_history(self) -> bool:
        """A user is a learned vector, whatever ``hops`` says."""
        return False

    @property
    def takes_new_items(self) -> bool:
        """By their content."""
        return True

    def new_items(self, sent: Tensor, heard: Mapping[str, Tensor]) -> NewItems:
        """Takes the items as they are: neighbours play no part."""
        return NewItems(item=self.decode(sent), messages=torch.zeros_like(sent))

    def _embeddings(
        self,
        user: Tensor,
        item: Tensor,
        layer_zero: Tensor,
        views: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Embeddings:
        """Returns users ``[num_users, dim]`` and items ``[num_items, dim]`` as they are.

        Args:
            user: Vectors of users.
            item: Vectors of items.
            layer_zero: ``[num_users + num_items, dim]`` what is learned, which regularisation keeps short.
            views: What losses compare.
        """
        return Embeddings(
            user_mixed=user,
            decode=self.decode,
            item=self.decode(item),
            layer_zero=layer_zero,
            messages=torch.zeros_like(layer_zero),
            propagated=layer_zero,
            item_sent=item,
            views=views,
        )
