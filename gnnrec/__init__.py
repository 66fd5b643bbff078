"""Multimodal graph recommendations: from interaction logs and raw item media to ranked lists, cold items included.

``import gnnrec as gr`` is all that is needed; names are imported when first used, so the import itself is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name → the module that holds it; a module stands for itself.
_NAMES = {
    "Audio": "gnnrec.data.schema",
    "Cleaning": "gnnrec.data.cleaning",
    "Dataset": "gnnrec.data.dataset",
    "Image": "gnnrec.data.schema",
    "Recommender": "gnnrec.recommender",
    "RecommenderConfig": "gnnrec.presets",
    "Relation": "gnnrec.data.schema",
    "Text": "gnnrec.data.schema",
    "Vectors": "gnnrec.data.schema",
    "Video": "gnnrec.data.schema",
    "load": "gnnrec.recommender",
    "tune": "gnnrec.tuning.search",
}
_MODULES = {
    "datasets": "gnnrec.data.catalogue",
    "errors": "gnnrec.errors",
    "evaluation": "gnnrec.evaluation",
    "graph": "gnnrec.graph",
    "metrics": "gnnrec.evaluation.metrics",
    "nn": "gnnrec.nn",
    "retrieval": "gnnrec.retrieval",
    "split": "gnnrec.data.split",
    "synthetic": "gnnrec.data.synthetic",
    "testing": "gnnrec.testing",
}

__all__ = [
    "Audio",
    "Cleaning",
    "Dataset",
    "Image",
    "Recommender",
    "RecommenderConfig",
    "Relation",
    "Text",
    "Vectors",
    "Video",
    "__version__",
    "datasets",
    "errors",
    "evaluation",
    "graph",
    "load",
    "metrics",
    "nn",
    "retrieval",
    "split",
    "synthetic",
    "testing",
    "tune",
]

if TYPE_CHECKING:
    import gnnrec.data.catalogue as datasets
    import gnnrec.data.split as split
    import gnnrec.data.synthetic as synthetic
    import gnnrec.errors as errors
    import gnnrec.evaluation as evaluation
    import gnnrec.evaluation.metrics as metrics
    import gnnrec.graph as graph
    import gnnrec.nn as nn
    import gnnrec.retrieval as retrieval
    import gnnrec.testing as testing
    from gnnrec.data.cleaning import Cleaning
    from gnnrec.data.dataset import Dataset
    from gnnrec.data.schema import Audio, Image, Relation, Text, Vectors, Video
    from gnnrec.presets import RecommenderConfig
    from gnnrec.recommender import Recommender, load
    from gnnrec.tuning.search import tune


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'gnnrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
