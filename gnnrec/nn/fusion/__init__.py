"""Fuses the aligned vectors of each node's modalities into one vector per node; one file per fusion."""

from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows
from gnnrec.nn.fusion.modality_fusion import ModalityFusion
from gnnrec.nn.fusion.registry import FUSIONS, build_fusion

__all__ = ["FUSIONS", "Fused", "Fusion", "ModalityFusion", "ModalityRows", "build_fusion"]
