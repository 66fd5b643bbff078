"""Solves ridge regression in closed form, its strength chosen by leaving out each example in turn."""

from dataclasses import dataclass

from torch import Tensor

from gnnrec.eigenvectors import eigenvectors

__all__ = ["RidgeRegression"]

_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # for inputs of about length 1


@dataclass(frozen=True, eq=False)
class RidgeRegression:
    """A linear map from inputs to targets.

    Attributes:
        weight: ``[width, dim]``.
        mean_input: ``[width]`` of the examples.
        mean_target: ``[dim]`` of the examples.
    """

    weight: Tensor
    mean_input: Tensor
    mean_target: Tensor

    @classmethod
    def fit(cls, inputs: Tensor, targets: Tensor) -> tuple["RidgeRegression", Tensor]:
        """Minimises ``|targets - inputs @ weight|² + strength × |weight|²``, both centred.

        The error of an example that is left out needs no second fit: it is the residual divided by one minus the
        example's leverage (Golub, Heath & Wahba 1979). Cost: ``O(num_examples × width² + width³)``.

        Args:
            inputs: ``[num_examples, width]``.
            targets: ``[num_examples, dim]``.

        Returns:
            The map, and ``[num_examples, dim]`` what it would say of each example that it had not seen.
        """
        inputs, targets = inputs.double(), targets.double()
        mean_input, mean_target = inputs.mean(dim=0), targets.mean(dim=0)
        x, y = inputs - mean_input, targets - mean_target
        eigenvalue, basis = eigenvectors(x.T @ x)
        rotated = x @ basis
        products = rotated.T @ y

        def solve(strength: float) -> tuple[Tensor, Tensor]:
            inverse = 1 / (eigenvalue.clamp(min=0) + strength)
            weight = inverse[:, None] * products
            leverage = rotated.square() @ inverse + 1 / len(x)
            return weight, (y - rotated @ weight) / (1 - leverage).clamp(min=1e-6)[:, None]

        weight, error = solve(min(_STRENGTHS, key=lambda strength: float(solve(strength)[1].square().sum())))
        fitted = cls((basis @ weight).float(), mean_input.float(), mean_target.float())
        return fitted, (targets - error).float()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Predicts ``[num_examples, dim]`` from ``[num_examples, width]``."""
        return (inputs - self.mean_input) @ self.weight + self.mean_target
