"""Turns the name of an architecture into a model: the default and the published ones."""

from collections.abc import Mapping

from gnnrec.config import suggest
from gnnrec.errors import ConfigError
from gnnrec.nn.bm3 import BM3
from gnnrec.nn.clcrec import CLCRec
from gnnrec.nn.dropoutnet import DropoutNet
from gnnrec.nn.freedom import FREEDOM
from gnnrec.nn.generative import Generative
from gnnrec.nn.lightgcn import LightGCN
from gnnrec.nn.message_graph import GraphShape
from gnnrec.nn.mgcn import MGCN
from gnnrec.nn.model import GraphModel
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.nn.pgl import PGL
from gnnrec.nn.vbpr import VBPR

__all__ = ["ARCHITECTURES", "architecture", "build_model"]

# Name → a GraphModel, built as Model(shape, config).
ARCHITECTURES: Mapping[str, type[GraphModel]] = {
    "multimodal": MultimodalGraphModel,
    "lightgcn": LightGCN,
    "vbpr": VBPR,
    "freedom": FREEDOM,
    "bm3": BM3,
    "mgcn": MGCN,
    "pgl": PGL,
    "dropoutnet": DropoutNet,
    "clcrec": CLCRec,
    "generative": Generative,
}


def architecture(name: str) -> type[GraphModel]:
    """Returns the class of a model.

    Raises:
        ConfigError: There is no such architecture.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"option 'architecture' cannot be {name!r}{suggest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def build_model(shape: GraphShape, config: ModelConfig) -> GraphModel:
    """Builds the model that ``config.architecture`` names.

    Raises:
        ConfigError: There is no such architecture, or it needs media or relations that the graph lacks.
    """
    return architecture(config.architecture)(shape, config)
