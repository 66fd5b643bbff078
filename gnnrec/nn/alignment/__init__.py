"""What it means for modalities to be aligned: one class per objective, combinable with weights."""

from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective
from gnnrec.nn.alignment.registry import OBJECTIVES, WeightedObjectives

__all__ = ["OBJECTIVES", "AlignedRows", "AlignmentObjective", "WeightedObjectives"]
