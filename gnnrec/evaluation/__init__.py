"""Measures rankings and aligned spaces: protocol, metrics, significance and pictures."""

from gnnrec.evaluation.alignment import AlignmentReport, alignment_report, plot_modalities
from gnnrec.evaluation.beyond_accuracy import beyond_accuracy
from gnnrec.evaluation.cold_start import expected_at_random
from gnnrec.evaluation.lists import evaluate_lists
from gnnrec.evaluation.metrics import METRICS, parse_metric
from gnnrec.evaluation.protocol import DEFAULT_METRICS, Evaluation, evaluate_rankings, find_hits
from gnnrec.evaluation.report import (
    plot_embeddings,
    plot_few_shot,
    plot_recall_by_degree,
    plot_trade_off,
    plot_training,
)
from gnnrec.evaluation.significance import PairedBootstrap, compare, paired_bootstrap
from gnnrec.evaluation.slices import harmonic_mean, sliced
from gnnrec.evaluation.trade_off import TradeOff, trade_off

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "AlignmentReport",
    "Evaluation",
    "PairedBootstrap",
    "TradeOff",
    "alignment_report",
    "beyond_accuracy",
    "compare",
    "evaluate_lists",
    "evaluate_rankings",
    "expected_at_random",
    "find_hits",
    "harmonic_mean",
    "paired_bootstrap",
    "parse_metric",
    "plot_embeddings",
    "plot_few_shot",
    "plot_modalities",
    "plot_recall_by_degree",
    "plot_trade_off",
    "plot_training",
    "sliced",
    "trade_off",
]
