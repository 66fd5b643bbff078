"""Makes encoded vectors ready for learning: missing ones are filled by the chosen policy, then all are scaled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.data.pairs import items_with_pairs
from gnnrec.modalities.features import Features
from gnnrec.modalities.imputation import ImputationPolicy, impute
from gnnrec.modalities.scaling import FeatureScaler, ScalingKind, fit_scaler, scale_features

__all__ = ["FeatureConfig", "Preparation", "prepare"]


@dataclass(frozen=True)
class FeatureConfig:
    """How modality vectors are made ready.

    Attributes:
        scaling: ``standard`` (mean 0, deviation 1), ``robust`` (median and quartiles), ``whiten`` (uncorrelated),
            ``l2`` (unit length) or ``none``; fitted on the vectors of users and items with training interactions. Of
            more than 1,024 columns the first three keep as many main directions, if there are more rows than columns.
        missing: What stands for a missing modality: nothing (``absent``), the ``mean`` or ``median`` vector, that of
            the ``nearest`` owners in the other modalities, or one ``predict``-ed from them.
    """

    scaling: ScalingKind = "standard"
    missing: ImputationPolicy = "absent"


@dataclass(frozen=True, eq=False)
class Preparation:
    """The fitted scaling of every modality and the policy for missing ones, to be repeated for new items and people.

    Attributes:
        scalers: Modality → fitted scaler.
        missing: As in :class:`FeatureConfig`.
    """

    scalers: Mapping[str, FeatureScaler]
    missing: ImputationPolicy = "absent"

    def scale(self, features: Features) -> Features:
        """Scales raw vectors of a modality that was there in training."""
        return scale_features(features, self.scalers[features.name])

    def raw_dim(self, prepared: Features) -> int:
        """Returns how wide the vectors of a modality were before they were scaled."""
        return self.scalers[prepared.name].width or prepared.dim

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the fitted numbers, to be saved."""
        return {
            f"{name}.{part}": array for name, scaler in self.scalers.items() for part, array in scaler.arrays.items()
        }

    def facts(self) -> dict[str, Any]:
        """Returns the kind of each scaling and the policy, to be saved."""
        return {"scaling": {name: scaler.kind for name, scaler in self.scalers.items()}, "missing": self.missing}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> "Preparation":
        """Rebuilds what :meth:`arrays` and :meth:`facts` describe."""
        fitted: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in facts["scaling"]}
        for key, array in arrays.items():
            name, part = key.rsplit(".", 1)
            fitted[name][part] = array
        scalers = {name: FeatureScaler(kind, fitted[name]) for name, kind in facts["scaling"].items()}
        return cls(scalers, facts["missing"])


def prepare(
    features: Mapping[str, Features],
    config: FeatureConfig,
    interactions: sp.csr_matrix,
    earlier: Preparation | None = None,
) -> tuple[dict[str, Features], Preparation]:
    """Fills and scales the vectors of all modalities.

    Only owners with interactions shape the statistics; an item that is new in the catalogue changes nothing.

    Args:
        features: Modality → raw vectors.
        config: Options.
        interactions: ``[num_users, num_items]`` training pairs.
        earlier: What weights that are trained on were fitted with: a modality that it scaled in the same way goes on
            being scaled by the same numbers.

    Returns:
        The prepared vectors, and the fitted preparation for later items.
    """
    warm = {"user": np.diff(interactions.indptr) > 0, "item": items_with_pairs(interactions)}
    prepared: dict[str, Features] = {}
    scalers = {}
    for kind, known in warm.items():
        of_kind = {name: feature for name, feature in features.items() if feature.of == kind}
        for name, feature in impute(of_kind, len(known), config.missing, known).items():
            fitted_on = feature.values[known[feature.owner_index]]
            scaling = config.scaling if len(fitted_on) else "none"
            scaler = None if earlier is None else earlier.scalers.get(name)
            if scaler is None or scaler.kind != scaling or scaler.width not in (None, feature.dim):
                scaler = fit_scaler(fitted_on, scaling)
            scalers[name], prepared[name] = scaler, scale_features(feature, scaler)
    return {name: prepared[name] for name in features}, Preparation(scalers, config.missing)
