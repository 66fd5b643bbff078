import sys

import numpy as np
import pandas as pd
import pytest
import torch

import gnnrec as gr
from gnnrec.errors import EncoderError, MissingPackageError
from gnnrec.modalities.sentiment import NEUTRAL, sentiment_weights

PRAISE = ["Wonderful, I loved every minute.", "great value, works as described", "Not bad at all"]
BLAME = ["Terrible. A waste of money!", "broke after two days, do not buy", "not good"]


def test_praise_weighs_more_than_half_and_blame_less():
    weights = sentiment_weights([*PRAISE, *BLAME])
    assert weights.dtype == np.float32
    assert (weights[:3] > 0.65).all()
    assert (weights[3:] < 0.35).all()
    assert ((weights >= 0) & (weights <= 1)).all()


def test_no_text_and_no_sentiment_are_neutral():
    assert sentiment_weights(pd.Series([None, " ", float("nan"), "It is a film."], dtype=object)).tolist() == [0.5] * 4
    assert sentiment_weights([]).shape == (0,)


def test_a_repeated_text_weighs_the_same_wherever_it_stands():
    texts = [*PRAISE, *BLAME]
    once, repeated = sentiment_weights(texts), sentiment_weights([*texts[::-1], "", *texts])
    np.testing.assert_array_equal(repeated, [*once[::-1], NEUTRAL, *once])


def test_weights_decide_which_events_are_positive():
    log = pd.DataFrame({"user_id": range(6), "item_id": ["a", "b"] * 3, "review": [*PRAISE, *BLAME]})
    log["weight"] = sentiment_weights(log["review"])
    data = gr.Dataset.from_frames(log, positive_from=0.5)
    assert data.users.ids[data.events.user_index].tolist() == [0, 1, 2]
    assert data.num_users == 6
    np.testing.assert_array_equal(data.events.weight, log["weight"][:3])


@pytest.fixture
def classifier(save_model, word_tokenizer):
    """Writes a classifier of random weights with the given labels."""
    from transformers import BertConfig, BertForSequenceClassification

    vocabulary = len(word_tokenizer)

    def save(*labels: str) -> str:
        torch.manual_seed(0)
        config = BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=vocabulary,
            initializer_range=0.8, id2label=dict(enumerate(labels)), max_position_embeddings=32,
        )  # fmt: skip
        return save_model(BertForSequenceClassification(config), word_tokenizer)

    return save


@pytest.mark.parametrize(
    "labels", [("NEGATIVE", "POSITIVE"), ("negative", "neutral", "positive"), tuple(f"{n} stars" for n in range(1, 6))]
)
def test_a_classifier_gives_its_expected_label(classifier, labels):
    from transformers import AutoTokenizer, pipeline
    from transformers.utils import logging

    if len(labels) == 5:
        labels = ("1 star", *labels[1:])
    folder = classifier(*labels)
    texts = ["red cat", "the blue dog film .", "", "a b c d e f g", "red cat"]
    weights = sentiment_weights(texts, folder, batch_size=2)
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    judged = pipeline("text-classification", folder, tokenizer=tokenizer, top_k=None, device="cpu")(texts)
    step = {label: place / (len(labels) - 1) for place, label in enumerate(labels)}
    expected = [sum(step[one["label"]] * one["score"] for one in scores) for scores in judged]
    expected[2] = NEUTRAL
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert len(np.unique(weights)) == 4


def test_what_it_refuses(classifier, bert_folder, monkeypatch):
    with pytest.raises(EncoderError, match=r"labels of .* are joy, anger; sentiment needs"):
        sentiment_weights(["red"], classifier("joy", "anger"))
    with pytest.raises(EncoderError, match=r"lack 2 weights, e\.g\. classifier\.bias"):
        sentiment_weights(["red"], bert_folder)
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'gnnrec\[language\]'"):
        sentiment_weights(["red"])
