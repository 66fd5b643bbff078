import logging
import sqlite3

import pandas as pd
import polars as pl
import pytest
import torch

from gnnrec.errors import ConfigError, DataError, EncoderError
from gnnrec.modalities import item_profiles as module
from gnnrec.modalities.item_profiles import PROMPT, item_profiles

ITEMS = pd.DataFrame(
    {
        "item_id": [7, 3, 5, 9],
        "title": ["red cat", "the blue dog film", None, "red cat"],
        "plot": ["a b c", None, "  ", "a b c"],
    }
)
ASK = "the {text} film ."


@pytest.fixture(scope="module")
def save_writer(save_model, word_tokenizer):
    """Writes a causal language model of random weights, with or without a chat template."""

    def save(seed: int = 0, template: str | None = None, positions: int = 64) -> str:
        from copy import deepcopy

        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(seed)
        config = GPT2Config(
            n_embd=16, n_layer=2, n_head=2, vocab_size=len(word_tokenizer), n_positions=positions,
            initializer_range=0.8, bos_token_id=2, eos_token_id=3, pad_token_id=0,
        )  # fmt: skip
        tokenizer = deepcopy(word_tokenizer)
        tokenizer.chat_template = template
        return save_model(GPT2LMHeadModel(config), tokenizer)

    return save


@pytest.fixture(scope="module")
def writer(save_writer) -> str:
    return save_writer()


@pytest.fixture
def write(tmp_path, writer):
    def call(items=ITEMS, model=writer, **options):
        options = {"prompt": ASK, "max_new_tokens": 6, "cache_dir": tmp_path / "cache", **options}
        return item_profiles(items, ["title", "plot"], model, **options)

    return call


@pytest.fixture
def generated(monkeypatch) -> list[list[str]]:
    """Lists the batches of questions that a model was asked."""
    batches: list[list[str]] = []
    original = module._Writer.write

    def spy(self, questions):
        batches.append(questions)
        return original(self, questions)

    monkeypatch.setattr(module._Writer, "write", spy)
    return batches


def greedy(folder: str, question: str, num_tokens: int) -> str:
    """Continues a text by hand: the most probable next token, one after the other."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model, tokenizer = GPT2LMHeadModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(question, add_special_tokens=False, return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.inference_mode():
        for _ in range(num_tokens):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(dim=2)], dim=1)
            if ids[0, -1] == 3:
                break
    return tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("batch_size", [1, 8])
def test_profiles_are_the_greedy_continuation_of_the_prompt(write, writer, generated, batch_size):
    profiles = write(batch_size=batch_size)
    assert profiles["item_id"].tolist() == [7, 3, 9]  # item 5 has no text
    expected = [
        greedy(writer, f"the {text} film .\n\n", 6) for text in ("red cat a b c", "the blue dog film", "red cat a b c")
    ]
    assert profiles["profile"].tolist() == expected
    assert len(set(expected)) == 2
    assert all(expected)
    assert sum(map(len, generated)) == 2  # equal texts are written about once


def test_nothing_is_written_twice(write, writer, save_writer, generated, caplog):
    first = write()
    generated.clear()
    with caplog.at_level(logging.INFO):
        pd.testing.assert_frame_equal(write(), first)
    assert generated == []
    assert "3 profiles, 3 of them from the cache; 1 items without text" in caplog.text
    write(prompt="film {text}")
    write(max_new_tokens=5)
    write(model=save_writer(seed=1))
    assert len(generated) == 3  # each change asks anew
    changed = ITEMS.assign(title=["red dog", *ITEMS["title"][1:]])
    generated.clear()
    write(changed)
    assert [len(batch) for batch in generated] == [1]


def test_a_killed_run_keeps_its_batches(write, generated, monkeypatch):
    original = module._Writer.write

    def dies_in_second(self, questions):
        if generated:
            raise KeyboardInterrupt
        return original(self, questions)

    monkeypatch.setattr(module._Writer, "write", dies_in_second)
    with pytest.raises(KeyboardInterrupt):
        write(batch_size=1)
    monkeypatch.setattr(module._Writer, "write", original)
    generated.clear()
    write(batch_size=1)
    assert len(generated) == 1


def test_the_chat_template_of_a_model_is_used(write, save_writer, generated):
    folder = save_writer(template="{% for m in messages %}[CLS] {{ m['content'] }} [SEP] {% endfor %}")
    write(model=folder)
    assert sorted(generated[0]) == [
        "[CLS] the red cat a b c film . [SEP] ",
        "[CLS] the the blue dog film film . [SEP] ",
    ]


def test_long_texts_are_cut_and_the_prompt_is_not(write, save_writer, generated, caplog):
    items = pd.DataFrame({"item_id": [1], "title": ["red " * 200], "plot": ["end"]})
    with caplog.at_level(logging.INFO):
        write(items, max_text_tokens=4)
        write(items, model=save_writer(positions=32))
    assert generated[0] == ["the red red red red film .\n\n"]
    # 32 positions, of which 6 are for the answer, 3 for the prompt and 8 to spare.
    assert generated[1][0].count("red") == 15
    assert generated[1][0].endswith("film .\n\n")
    assert "1 of 1 texts cut to 4 tokens" in caplog.text


def test_without_a_cache_it_goes_on_with_a_warning(write, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    assert len(write(cache_dir=tmp_path / "file")) == 3
    assert caplog.text.count("item profiles are not cached") == 1


def test_a_damaged_cache_is_not_an_error(write, tmp_path, caplog):
    expected = write()
    (tmp_path / "cache" / "profiles.sqlite").write_bytes(b"not a database, but long enough to look at" * 10)
    pd.testing.assert_frame_equal(write(), expected)
    assert "item profiles are not cached" in caplog.text


def test_the_cache_holds_plain_text(write, tmp_path):
    profiles = write()
    with sqlite3.connect(tmp_path / "cache" / "profiles.sqlite") as connection:
        kept = {profile for (profile,) in connection.execute("SELECT profile FROM profiles")}
    connection.close()
    assert kept == set(profiles["profile"])


def test_frames_of_polars_give_frames_of_polars(write):
    profiles = write(pl.from_pandas(ITEMS))
    assert isinstance(profiles, pl.DataFrame)
    assert profiles.columns == ["item_id", "profile"]


def test_what_it_refuses(write, save_writer, tmp_path):
    assert PROMPT.count("{text}") == 1
    with pytest.raises(ConfigError, match=r"holds \{text\} once"):
        write(prompt="Describe the item.")
    with pytest.raises(ConfigError, match="'batch_size' is at least 1, not 0"):
        write(batch_size=0)
    with pytest.raises(ConfigError, match=r"fill the 32 tokens .* can hold; shorten them"):
        write(model=save_writer(positions=32), max_new_tokens=30)
    with pytest.raises(DataError, match="no column 'item_id'"):
        write(ITEMS.drop(columns="item_id"))
    with pytest.raises(EncoderError, match=r"no language model '.*': .*holds no \*\.safetensors weights"):
        write(model=str(tmp_path))
