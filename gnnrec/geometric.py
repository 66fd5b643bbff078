"""Imports what gnnrec uses of PyTorch Geometric, without the deprecation warning of its start-up.

PyG scripts a class when it is imported, which torch 2.15 advises against; users of gnnrec can do nothing about it.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r".*torch\.jit", category=FutureWarning)
    from torch_geometric.data import HeteroData
    from torch_geometric.loader import LinkLoader, NodeLoader
    from torch_geometric.sampler import (
        BaseSampler,
        EdgeSamplerInput,
        HeteroSamplerOutput,
        NegativeSampling,
        NodeSamplerInput,
    )
    from torch_geometric.utils import scatter, softmax

__all__ = [
    "BaseSampler",
    "EdgeSamplerInput",
    "HeteroData",
    "HeteroSamplerOutput",
    "LinkLoader",
    "NegativeSampling",
    "NodeLoader",
    "NodeSamplerInput",
    "scatter",
    "softmax",
]
