import torch
import torch.nn.functional as F

from gnnrec.nn.decode import DECODERS


def test_inner_products_of_decoded_embeddings_are_the_scores() -> None:
    user, item = torch.randn(4, 3), torch.randn(5, 3)
    assert torch.equal(DECODERS["dot"](user) @ DECODERS["dot"](item).T, user @ item.T)
    cosine = F.cosine_similarity(user[:, None], item[None], dim=-1)
    torch.testing.assert_close(DECODERS["cosine"](user) @ DECODERS["cosine"](item).T, cosine)
