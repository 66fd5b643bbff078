"""CLCRec: holds an item's content encoding against its identity, and users against either (Wei et al. 2021)."""

from gnnrec.nn.identity_or_content import IdentityOrContent

__all__ = ["CLCRec"]


class CLCRec(IdentityOrContent):
    """Wei et al. 2021, "Contrastive Learning for Cold-Start Recommendation".

    1. *Two representations*: an identity by matrix factorisation, and a perceptron's encoding of the content.
    2. *R-E contrast*: InfoNCE of an item's identity against the encodings of the items: the auxiliary loss
       ``identity-contrast``.
    3. *U-I contrast*: InfoNCE of a user against the items: the ranking loss ``softmax``. In training every item is, at
       random, its encoding instead of its identity, with probability ``identity_dropout``.

    A known item is its identity, a new one its encoding.

    Ours: both contrasts by cosine, U-I over all items instead of sampled ones; the draw of 3 is made once a step and
    item.
    """

    reads = IdentityOrContent.reads | {"identity_dropout"}

    @property
    def hides_items(self) -> bool:
        """A hidden item is its encoding."""
        return True
