"""Turns features that some owners lack into features that all owners have, fitted on training owners only."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gnnrec.errors import ConfigError
from gnnrec.modalities.features import Features
from gnnrec.modalities.scaling import FeatureScaler, fit_scaler

__all__ = ["ImputationPolicy", "impute"]

logger = logging.getLogger(__name__)

ImputationPolicy: TypeAlias = Literal["absent", "mean", "median", "nearest", "predict"]

_NEIGHBOURS = 10
_BLOCK = 1024  # owners compared with all training owners at once
_ROUNDING = 1e-6  # of the deviation: what single precision leaves
_RIDGE = 1e-2  # penalty beside a unit variance of each input


def impute(
    features: Mapping[str, Features],
    num_owners: int,
    policy: ImputationPolicy,
    train_owner_mask: NDArray[np.bool_],
) -> dict[str, Features]:
    """Gives owners that lack a modality one row made from what is known.

    An imputed row is a guess: the model of gnnrec does without ("absent"), since a missing modality is an absent
    edge to it. Only ``nearest`` and ``predict`` look at the owner's other modalities; an owner that has none of them
    gets the mean.

    Args:
        features: Modalities of the same kind of owner.
        num_owners: How many owners there are.
        policy: ``absent`` (nothing is imputed); ``mean`` or ``median`` over the training owners that have the
            modality; ``nearest``: the mean over the ten training owners that are most alike (cosine) in the other
            modalities; ``predict``: ridge regression from the other modalities, in closed form.
        train_owner_mask: ``[num_owners]``: all statistics come from these owners alone.

    Returns:
        The same modalities; owners stay in ascending order. A modality without any training owner stays as it is.

    Raises:
        ConfigError: An unknown policy, or owners of both kinds.
    """
    if policy not in ("absent", "mean", "median", "nearest", "predict"):
        raise ConfigError(f"imputation is absent, mean, median, nearest or predict, not {policy!r}")
    if len({feature.of for feature in features.values()}) > 1:
        raise ConfigError("impute the modalities of items and those of users apart")
    if policy == "absent":
        return dict(features)
    dense = {name: _one_row_each(feature, num_owners) for name, feature in features.items()}
    return {
        name: _complete(feature, dense[name], _inputs(name, dense, train_owner_mask), policy, train_owner_mask)
        for name, feature in features.items()
    }


def _one_row_each(feature: Features, num_owners: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns the mean row of each owner ``[num_owners, dim]`` and who has any ``[num_owners]``."""
    counts = np.bincount(feature.owner_index, minlength=num_owners)
    sums = np.zeros((num_owners, feature.dim))
    np.add.at(sums, feature.owner_index, feature.values)
    return sums / np.maximum(counts, 1)[:, None], counts > 0


def _inputs(
    name: str, dense: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]], train: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Joins the other modalities, standardised, zeros where absent: ``[num_owners, inputs]`` and who has any."""
    columns, someone = [np.empty((len(train), 0))], np.zeros(len(train), dtype=bool)
    for other, (rows, there) in dense.items():
        if other == name or not (there & train).any():
            continue
        scaled = np.zeros(rows.shape)
        scaled[there] = fit_scaler(rows[there & train], "standard").transform(rows[there])
        columns.append(scaled / np.sqrt(rows.shape[1]))  # wide modalities do not outvote narrow ones
        columns.append(there[:, None].astype(np.float64))  # says that the zeros mean "absent"
        someone |= there
    return np.concatenate(columns, axis=1), someone


def _complete(
    feature: Features,
    own: tuple[NDArray[np.float64], NDArray[np.bool_]],
    inputs: tuple[NDArray[np.float64], NDArray[np.bool_]],
    policy: ImputationPolicy,
    train: NDArray[np.bool_],
) -> Features:
    rows, there = own
    known, missing = np.flatnonzero(there & train), np.flatnonzero(~there)
    if len(known) == 0 or len(missing) == 0:
        return feature
    centre = np.median(rows[known], axis=0) if policy == "median" else rows[known].mean(axis=0)
    # Of scaled vectors the mean is 0, and what rounding leaves of it would be taken for a direction.
    centre[np.abs(centre) < _ROUNDING * rows[known].std(axis=0)] = 0
    imputed = np.tile(centre, (len(missing), 1))
    given, someone = inputs
    informed = someone[missing]
    if policy == "nearest" and informed.any():
        learners = known[someone[known]]
        if len(learners):
            imputed[informed] = _nearest(given[missing[informed]], given[learners], rows[learners])
    elif policy == "predict" and informed.any():
        imputed[informed] = centre + _ridge(given[known], rows[known] - centre, given[missing[informed]])
    logger.info(
        "modality %s: %d of %d %ss lacked it and were given a row (%s, from %d training %ss)",
        feature.name, len(missing), len(there), feature.of, policy, len(known), feature.of,
    )  # fmt: skip
    owner_index = np.concatenate([feature.owner_index, missing])
    order = np.argsort(owner_index, kind="stable")
    values = np.concatenate([feature.values, imputed.astype(np.float32)])[order]
    return replace(feature, values=values, owner_index=owner_index[order])


def _nearest(
    wanted: NDArray[np.float64], known: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Averages the targets of the most similar known rows, ``[num_wanted, dim]``; O(wanted · known) in blocks."""
    unit = FeatureScaler("l2")
    reference, queries = unit.transform(known), unit.transform(wanted)
    count = min(_NEIGHBOURS, len(known))
    blocks = []
    for start in range(0, len(queries), _BLOCK):
        similarity = queries[start : start + _BLOCK] @ reference.T
        best = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        blocks.append(targets[best].mean(axis=1))
    return np.concatenate(blocks)


def _ridge(
    inputs: NDArray[np.float64], targets: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ridge regression without penalty on the intercept; solves whichever of the two normal forms is smaller."""
    centre = inputs.mean(axis=0)
    centred = inputs - centre
    penalty = _RIDGE * max(float(np.square(centred).sum()) / max(centred.shape[1], 1), np.finfo(np.float64).tiny)
    offset = targets.mean(axis=0)
    if centred.shape[1] <= len(centred):
        weights = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(centred.shape[1]), centred.T @ (targets - offset)
        )
    else:
        weights = centred.T @ np.linalg.solve(centred @ centred.T + penalty * np.eye(len(centred)), targets - offset)
    prediction: NDArray[np.float64] = offset + (wanted - centre) @ weights
    return prediction
