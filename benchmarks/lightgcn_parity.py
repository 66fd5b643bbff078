"""Trains the preset ``lightgcn`` and PyG's LightGCN side by side, and records the validation recall of every epoch.

    python benchmarks/lightgcn_parity.py --dataset gowalla --epochs 20 --seeds 0 1 2

needs GNNREC_DATA_DIR. Both draw from N(0, .1²), take the options of the preset (BPR, one uniform negative per positive,
L2, Adam) and the same validation pairs, a tenth of the training part; each has its own training loop and random
numbers, so their curves should agree within the noise of the seed. PyG's convolution multiplies by gnnrec's operator,
which the tests compare with PyG's own: on the CPU that one takes ten minutes for an epoch of Gowalla, most of them for
gradients. All else of its side is PyG's: layers and their mean, scores, loss and regularisation. Writes
``benchmarks/results/lightgcn-parity.json`` and ``docs/benchmarks-lightgcn.md`` after each curve; curves that are there
are not trained again. The test set is not read.
"""

import argparse
import datetime
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn.models import LightGCN

import gnnrec as gr
from gnnrec.data.split import holdout
from gnnrec.evaluation.protocol import evaluate_rankings
from gnnrec.nn.operator import SparseOperator
from gnnrec.nn.propagate import bipartite_operator
from gnnrec.presets import PRESETS
from gnnrec.training.negatives import UniformNegatives
from harness import markdown
from harness.machine import machine
from harness.results import read_results, write_results

PRESET = PRESETS["lightgcn"]
METRIC = "recall@20"
RESULTS = Path(__file__).parent / "results" / "lightgcn-parity.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-lightgcn.md"


class _Convolution(torch.nn.Module):
    """Stands for PyG's ``LGConv``: one product with the normalised adjacency."""

    def __init__(self, adjacency: SparseOperator) -> None:
        super().__init__()
        self.adjacency = adjacency

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return self.adjacency @ x


def of_gnnrec(train: gr.Dataset, valid: gr.Dataset, epochs: int, seed: int) -> list[float]:
    """Returns the validation recall after each epoch of the preset."""
    recommender = gr.Recommender.preset("lightgcn", epochs=epochs, patience=epochs, seed=seed)
    recommender.fit(train, valid=valid, progress=False)
    return [record[METRIC] for record in recommender.state.history]


def of_pyg(train: gr.Dataset, valid: gr.Dataset, epochs: int, seed: int, device: str) -> list[float]:
    """Returns the validation recall after each epoch of PyG's model, trained by a plain loop."""
    known, pairs = train.interaction_matrix(), train.interaction_matrix().tocoo()
    num_users, num_items = known.shape
    edge_index = torch.from_numpy(np.stack([pairs.row, pairs.col]).astype(np.int64))
    adjacency = bipartite_operator(edge_index, num_users, num_items).to(device)
    negatives = UniformNegatives(edge_index, edge_index[1].unique(), num_items)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = LightGCN(num_users + num_items, PRESET.model.embedding_dim, PRESET.model.hops).to(device)
    model.convs = torch.nn.ModuleList(_Convolution(adjacency) for _ in model.convs)
    torch.nn.init.normal_(model.embedding.weight, std=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=PRESET.training.learning_rate)
    recall = []
    for _ in range(epochs):
        order = torch.randperm(edge_index.shape[1], generator=generator)
        for batch in order.split(PRESET.training.pairs_per_step(edge_index.shape[1])):
            user, item = edge_index[:, batch]
            negative = negatives.sample(user, 1, generator)[:, 0]
            nodes = torch.stack([user, num_users + item, num_users + negative]).to(device)
            out = model.get_embedding(edge_index)
            scores = [(out[nodes[0]] * out[other]).sum(-1) for other in nodes[1:]]
            decay = PRESET.training.auxiliary["regularisation"] / 2  # PyG squares the norm without halving it
            loss = model.recommendation_loss(*scores, node_id=nodes.flatten(), lambda_reg=decay)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            user, item = model.get_embedding(edge_index).split([num_users, num_items])
        ranking = evaluate_rankings(
            lambda index, user=user, item=item: user[index.to(device)] @ item.T,
            valid.interaction_matrix(),
            mask=known,
            metrics=(METRIC,),
        )
        recall.append(ranking.values[METRIC])
    return recall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="gowalla")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    train, _, _ = gr.datasets.load(arguments.dataset).split(gr.split.column("x_label"))
    train, valid = holdout(train, fraction=0.1, seed=0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results = read_results(RESULTS)
    result = results.setdefault(arguments.dataset, {"curves": {"gnnrec": {}, "pyg": {}}})
    curves: dict[str, dict[str, list[float]]] = result["curves"]
    for seed in arguments.seeds:
        for name, rows in curves.items():
            if len(rows.get(str(seed), [])) >= arguments.epochs:
                continue
            if name == "gnnrec":
                rows[str(seed)] = of_gnnrec(train, valid, arguments.epochs, seed)
            else:
                rows[str(seed)] = of_pyg(train, valid, arguments.epochs, seed, device)
            print(arguments.dataset, seed, name, [round(value, 4) for value in rows[str(seed)]], flush=True)
            result |= compared(curves) | {
                "metric": f"valid {METRIC} per epoch",
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": f"{machine()}, {device}",
                "versions": {name: version(name) for name in ("gnnrec", "torch", "torch-geometric")},
            }
            write_results(RESULTS, results)
            write_page(results)


def compared(curves: Mapping[str, Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Returns, per epoch, how far the means of both lie apart, and the deviation over seeds, pooled over both."""
    epochs = min((len(curve) for rows in curves.values() for curve in rows.values()), default=0)
    table = {name: np.array([curve[:epochs] for curve in rows.values()]) for name, rows in curves.items()}
    if not all(len(rows) for rows in table.values()):
        return {}
    facts = {"mean difference": (table["gnnrec"].mean(axis=0) - table["pyg"].mean(axis=0)).tolist()}
    if all(len(rows) > 1 for rows in table.values()):
        variance = np.mean([rows.var(axis=0, ddof=1) for rows in table.values()], axis=0)
        facts["deviation over seeds"] = np.sqrt(variance).tolist()
    return facts


def write_page(results: Mapping[str, Any]) -> None:
    """Writes a table for each data set that both have a curve on."""
    text = [
        "# LightGCN beside PyG's\n\n`benchmarks/lightgcn_parity.py` wrote this page from "
        "`benchmarks/results/lightgcn-parity.json`; its head says how both are trained. Means over seeds; the "
        "deviation is that of one seed, pooled over both.\n"
    ]
    for dataset, result in results.items():
        if "mean difference" not in result:
            continue
        difference, curves = result["mean difference"], result["curves"]
        deviation = result.get("deviation over seeds")
        shown = sorted({1, 2, 3, *range(5, len(difference) + 1, 5), len(difference)})
        lines = [
            [
                epoch,
                *(markdown.number(np.mean([curve[epoch - 1] for curve in rows.values()])) for rows in curves.values()),
                f"{difference[epoch - 1]:+.4f}",
                markdown.number(deviation[epoch - 1]) if deviation else "",
            ]
            for epoch in shown
        ]
        seeds = ", ".join(f"{len(rows)} of {name}" for name, rows in curves.items())
        header = ["epoch", "preset `lightgcn`", "PyG's LightGCN", "difference", "deviation over seeds"]
        versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        text += [
            f"## {dataset}\n\n{result['metric']}; seeds: {seeds}.\n",
            markdown.table(header, lines),
            f"\n{result['machine']}; {versions}; {result['date']}.\n",
        ]
    PAGE.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
