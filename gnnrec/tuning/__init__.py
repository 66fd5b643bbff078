"""The search for the options that fit a data set best (``gnnrec.tune``)."""

from gnnrec.tuning.report import TuningReport
from gnnrec.tuning.search import tune
from gnnrec.tuning.space import search_space

__all__ = ["TuningReport", "search_space", "tune"]
