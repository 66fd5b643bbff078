"""Computes the loss of one step, from its graph to the terms that are added up."""

import torch
from torch import Tensor, nn

from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model import GraphModel
from gnnrec.training.config import TrainingConfig
from gnnrec.training.objective import Objective
from gnnrec.training.steps import Step

__all__ = ["StepLoss"]


class StepLoss(nn.Module):
    """The forward pass of a step as that of a module, which is what ``DistributedDataParallel`` wraps.

    Args:
        model: The model.
        graph: The whole graph.
        config: Options.
        objective: What is minimised.
    """

    def __init__(self, model: GraphModel, graph: MessageGraph, config: TrainingConfig, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.graph = graph
        self.config = config
        self.objective = objective

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Returns the weighted terms of the loss, float32 scalars: means over the pairs of the step."""
        model, histories = self.model, self.graph.histories
        device = step.user_index.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            embeddings = step.embed(model)
            users = None
            if model.reads_order and histories is not None:
                events = histories.before(step.user_index, step.edge, model.config.sequence_length)
                users = model.after_events(embeddings.of_users(step.user_index), embeddings.item, events)
            terms = self.objective(embeddings, step, users)
            aligned = model.alignment_loss(embeddings, step.graph, step.user_index, step.item_index)
            if aligned is not None:
                terms["modalities"] = aligned
        return {name: term.float() for name, term in terms.items()}
