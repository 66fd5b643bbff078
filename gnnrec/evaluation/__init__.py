"""Measures rankings: protocol, metrics, significance and pictures."""

from gnnrec.evaluation.metrics import METRICS, parse_metric
from gnnrec.evaluation.protocol import DEFAULT_METRICS, Evaluation, evaluate_rankings, find_hits

__all__ = ["DEFAULT_METRICS", "METRICS", "Evaluation", "evaluate_rankings", "find_hits", "parse_metric"]
