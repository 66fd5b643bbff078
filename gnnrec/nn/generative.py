"""Predicts from content what matrix factorisation would learn of an item (van den Oord et al. 2013)."""

from gnnrec.nn.identity_or_content import IdentityOrContent

__all__ = ["Generative"]


class Generative(IdentityOrContent):
    """The idea of van den Oord, Dieleman & Schrauwen 2013, "Deep content-based music recommendation".

    Identities are trained for ranking alone. A perceptron learns to predict them from the content: the auxiliary loss
    ``identity-prediction``, from which no gradient reaches the identities. A known item is its identity, a new one the
    prediction.

    Ours: both are trained at once, where the paper factorises first (weighted, Hu et al. 2008); the prediction is
    judged by its cosine, since that is how items are ranked, where the paper takes the squared error; any media in
    place of a convolutional network over sounds.
    """
