"""Times one training step on TikTok, eager against ``torch.compile``, pair by pair in one run.

    python benchmarks/compile.py

needs GNNREC_DATA_DIR and, for the compiled side, a C++ compiler. Writes ``benchmarks/results/compile.json``.
"""

import json
import statistics
import time
import warnings
from pathlib import Path

import torch

import gnnrec as gr
from gnnrec.graph.build import build_graph
from gnnrec.modalities.encode import encode_dataset
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.model_config import ModelConfig
from gnnrec.nn.multimodal import MultimodalGraphModel
from gnnrec.training.config import TrainingConfig
from gnnrec.training.objective import Objective
from gnnrec.training.steps import Step
from harness.machine import machine
from harness.results import write_results

_STEPS, _WARM_UP, _BATCH = 20, 3, 2048


def step_function(graph: MessageGraph, *, compiled: bool):
    """Returns a function that takes one optimiser step and says how long it took."""
    torch.manual_seed(0)
    model = MultimodalGraphModel(graph.shape, ModelConfig())
    forward = torch.compile(model) if compiled else model
    objective = Objective(graph, TrainingConfig())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005, foreach=True)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(graph.num_users, generator=generator)[graph.edge_index[0]].argsort()

    def step() -> float:
        started = time.perf_counter()
        hidden = torch.rand(graph.num_items, generator=generator) < model.config.identity_dropout
        pairs = order[:_BATCH]
        embeddings = forward(graph, hidden_items=hidden)
        loss = sum(objective(embeddings, Step(graph, pairs, *graph.edge_index[:, pairs])).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def main() -> None:
    warnings.simplefilter("ignore")
    train, _, _ = gr.datasets.load("tiktok").split(gr.split.column("x_label"))
    graph = MessageGraph.from_hetero_data(build_graph(train.interaction_matrix(), encode_dataset(train)))
    eager, compiled = step_function(graph, compiled=False), step_function(graph, compiled=True)
    first = compiled()  # compiles
    for _ in range(_WARM_UP):
        eager(), compiled()
    pairs = [(eager(), compiled()) for _ in range(_STEPS)]
    result = {
        "machine": machine(torch.get_num_threads()),
        "torch": torch.__version__,
        "median_eager_step_seconds": statistics.median(eager for eager, _ in pairs),
        "median_compiled_step_seconds": statistics.median(compiled for _, compiled in pairs),
        "median_ratio_compiled_to_eager": statistics.median(compiled / eager for eager, compiled in pairs),
        "first_compiled_step_seconds": first,
    }
    write_results(Path(__file__).parent / "results" / "compile.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
