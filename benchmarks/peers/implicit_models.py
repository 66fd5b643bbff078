"""Fits the matrix factorisations of implicit (https://github.com/benfred/implicit)."""

from collections.abc import Mapping
from typing import Any

from harness.task import FitTask, FittedModel
from peers.factors import inner_products


def fit_als(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Hu, Koren & Volinsky 2008, by conjugate gradients."""
    from implicit.cpu.als import AlternatingLeastSquares

    return _fitted(AlternatingLeastSquares(random_state=task.seed, **hyperparameters), task)


def fit_bpr(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Rendle et al. 2009."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    return _fitted(BayesianPersonalizedRanking(random_state=task.seed, **hyperparameters), task)


def _fitted(model: Any, task: FitTask) -> FittedModel:
    model.fit(task.pairs, show_progress=False)
    return FittedModel(inner_products(model.user_factors, model.item_factors))
