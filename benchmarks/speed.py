"""Times propagation, an epoch, and the way to a given quality, each beside a peer or a physical bound in the same run.

    python benchmarks/speed.py [--parts propagation epoch quality] [--threads 1]

- ``propagation``: one product with the normalised adjacency, forward and backward, 64 wide, at 1 and 10 million pairs.
  The bound is the time in which memory is copied: for every entry of the matrix a row of 64 floats and an index are
  read, and every row of the result is written. All contenders keep freed memory, as training does. Peers: PyG's
  ``LGConv`` on edges, and torch's CSR under plain autograd.
- ``epoch``: one pass over TikTok's training pairs with the preset ``lightgcn`` and with PyG's ``LightGCN`` in the loop
  of its example: three layers, 64 wide, BPR with one negative, batches of 2,048.
- ``quality``: seconds until the validation recall@20 on TikTok at which PyG's ``LightGCN`` stops, for PyG in the loop
  of its example with edges, with the normalised sparse matrix that makes it faster, for the default model, for the
  default model without media, which learns from the same as PyG's, and for that one starting from singular vectors.

In the first two, contenders take turns, so that a change of the machine's speed meets all of them, and ratios are
medians of those within a turn. The last takes minutes for each and is run once, from the graph to the last epoch; what
gnnrec settles after training is not in it. Results go to ``benchmarks/results/speed.json``, and from there into
``docs/benchmarks-speed.md``.

Needs the data set TikTok below GNNREC_DATA_DIR, but for ``propagation``.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.nn import LGConv
from torch_geometric.nn.models import LightGCN

import gnnrec as gr
from gnnrec.graph.build import build_graph
from gnnrec.nn.architectures import build_model
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.propagate import bipartite_operator
from gnnrec.presets import preset
from gnnrec.training.kept_memory import keep_freed_memory
from gnnrec.training.loop import train as train_model
from harness import markdown
from harness.machine import machine
from harness.results import read_results, write_results
from harness.task import FitTask
from peers.factors import inner_products
from peers.pyg_models import normalised_adjacency

RESULTS = Path(__file__).parent / "results" / "speed.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-speed.md"
PARTS = ("propagation", "epoch", "quality")

_DIM, _TURNS = 64, 5
_PAIRS = (1_000_000, 10_000_000)
_BATCH = 2048
_WITHOUT_MEDIA = {"content": "none", "similar_items": 0}
_OURS: Mapping[str, Mapping[str, Any]] = {
    "gnnrec": {},
    "gnnrec without media": _WITHOUT_MEDIA,
    "gnnrec without media, spectral": {**_WITHOUT_MEDIA, "initialisation": "spectral"},
}


def in_turns(contenders: Mapping[str, Callable[[], float]], turns: int = _TURNS) -> dict[str, list[float]]:
    """Calls every contender once to warm up, then all of them in turn; returns the seconds of each turn."""
    for contender in contenders.values():
        contender()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


def timed(call: Callable[[], Any], device: str = "cpu") -> float:
    """Returns the seconds until the call, and what it started on the device, has ended."""
    _wait_for(device)
    started = time.perf_counter()
    call()
    _wait_for(device)
    return time.perf_counter() - started


def _wait_for(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def propagation(num_pairs: int, device: str = "cpu") -> dict[str, Any]:
    """Times one product, forward and backward, on a log whose popularity falls with the rank."""
    rng = np.random.default_rng(0)
    num_users, num_items = num_pairs // 20, num_pairs // 40
    pairs = np.stack([rng.integers(num_users, size=num_pairs), (num_items * rng.random(num_pairs) ** 2).astype(int)])
    edge_index = torch.from_numpy(np.unique(pairs, axis=1))
    operator = bipartite_operator(edge_index, num_users, num_items).to(device)
    stored, nodes = operator.num_entries, num_users + num_items
    matrix = operator.forward_matrix
    row = torch.repeat_interleave(torch.arange(nodes, device=device), matrix.crow_indices().long().diff())
    both_ways = torch.stack([matrix.col_indices().long(), row])
    weight, convolution = matrix.values(), LGConv(normalize=False)
    x = torch.randn(nodes, _DIM, device=device, requires_grad=True)
    gradient = torch.randn(nodes, _DIM, device=device)

    def forward_and_backward(product: Callable[[Tensor], Tensor]) -> Callable[[], float]:
        def call() -> None:
            x.grad = None
            product(x).backward(gradient)

        return lambda: timed(call, device)

    # Rows of which each is read once in order, and at random: what a product at best, and at worst, does.
    length = min(stored, 4_000_000)
    block, anywhere = torch.randn(length, _DIM, device=device), torch.randint(length, (length,), device=device)
    target = torch.empty_like(block)
    contenders = {
        "gnnrec": forward_and_backward(lambda x: operator @ x),
        "torch CSR, plain autograd": forward_and_backward(lambda x: matrix @ x),
        "copying": lambda: timed(lambda: target.copy_(block), device),
        "random rows": lambda: timed(lambda: torch.index_select(block, 0, anywhere, out=target), device),
    }
    if num_pairs <= 1_000_000:  # messages of 10 million pairs do not fit into memory
        contenders["PyG LGConv"] = forward_and_backward(lambda x: convolution(x, both_ways, weight))
    with keep_freed_memory():  # as in training
        seconds = in_turns(contenders)
    index_bytes = matrix.col_indices().element_size()
    read = stored * (4 * _DIM + index_bytes + 4) + nodes * 4 * _DIM
    per_second = {name: [2 * 4 * _DIM * length / one for one in seconds[name]] for name in ("copying", "random rows")}
    bound = [2 * read / rate for rate in per_second["copying"]]
    return {
        "pairs": int(edge_index.shape[1]),
        "stored": stored,
        "nodes": nodes,
        "seconds": seconds,
        "bytes": 2 * read,
        "bytes_per_second": per_second,
        "of_bound": [one / least for one, least in zip(seconds["gnnrec"], bound, strict=True)],
    }


def epoch() -> dict[str, Any]:
    """Times one pass over the pairs of TikTok."""
    matrix = _tiktok()[0].interaction_matrix()
    config = preset("lightgcn").with_options({"embedding_dim": _DIM, "batch_size": _BATCH, "epochs": 1, "seed": 0})
    graph = MessageGraph.from_hetero_data(build_graph(matrix, config=config.graph))
    ours = build_model(graph.shape, config.model)
    peers = {
        "PyG LightGCN, edges": _PygLoop(graph, sparse=False),
        "PyG LightGCN, sparse matrix": _PygLoop(graph, sparse=True),
    }
    contenders = {"gnnrec `lightgcn`": lambda: timed(lambda: train_model(ours, graph, config.training, seed=0))}
    contenders |= {name: (lambda loop=loop: timed(loop.pass_once)) for name, loop in peers.items()}
    return {"pairs": matrix.nnz, "batch": _BATCH, "seconds": in_turns(contenders, turns=3)}


def quality() -> dict[str, Any]:
    """Times the way to the validation recall@20 at which PyG's model stops."""
    train, valid, _ = _tiktok()
    task = FitTask(train, valid, 0, "cpu")
    matrix = train.interaction_matrix()
    graph = MessageGraph.from_hetero_data(build_graph(matrix, config=preset("lightgcn").graph))
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, sparse in (("PyG LightGCN, edges", False), ("PyG LightGCN, sparse matrix", True)):
        loop, passed, curve, best = _PygLoop(graph, sparse=sparse), 0.0, [], (-1.0, 0)
        while len(curve) - best[1] < 20 and passed < 1500:
            passed += timed(loop.pass_once)
            started = time.perf_counter()
            vectors = loop.vectors()
            recall = task.validation_recall(inner_products(vectors[: graph.num_users], vectors[graph.num_users :]))
            passed += time.perf_counter() - started
            curve.append((passed, recall))
            best = max(best, (recall, len(curve)), key=lambda one: one[0])
        curves[name] = curve
    wanted = max(recall for curve in curves.values() for _, recall in curve)
    for name, options in _OURS.items():
        recommender = gr.Recommender(device="cpu", seed=0, **options).fit(train, valid, progress=False)
        assert recommender.fit_report is not None
        before = sum(recommender.fit_report.stage_seconds[stage] for stage in ("encode", "prepare", "graph"))
        model = build_model(graph.shape, recommender.config.model)
        before += timed(partial(model.initialise, graph))
        history = recommender.history
        curves[name] = list(zip((before + history["seconds"].cumsum()).tolist(), history["recall@20"], strict=True))
    reached = {
        name: next((passed for passed, recall in curve if recall >= min(wanted, max(r for _, r in curve))), None)
        for name, curve in curves.items()
    }
    return {"wanted": wanted, "seconds": reached, "curves": curves}


class _PygLoop:
    """PyG's LightGCN, trained as in its own example."""

    def __init__(self, graph: MessageGraph, *, sparse: bool) -> None:
        torch.manual_seed(0)
        self.user, item = graph.edge_index
        self.item, self.first, self.size = item + graph.num_users, graph.num_users, graph.num_users + graph.num_items
        self.edges: Tensor = torch.cat(
            [torch.stack([self.user, self.item]), torch.stack([self.item, self.user])], dim=1
        )
        if sparse:
            self.edges = normalised_adjacency(self.user, self.item, self.size)
        self.model = LightGCN(self.size, _DIM, num_layers=3, normalize=not sparse)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def pass_once(self) -> None:
        """Passes over all pairs in random order."""
        self.model.train()
        for batch in torch.randperm(len(self.user)).split(_BATCH):
            other = torch.randint(self.first, self.size, (len(batch),))
            liked = torch.stack([self.user[batch], self.item[batch]])
            labels = torch.cat([liked, torch.stack([self.user[batch], other])], dim=1)
            liked_score, other_score = self.model(self.edges, labels).chunk(2)
            loss = self.model.recommendation_loss(liked_score, other_score, node_id=labels.unique())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def vectors(self) -> Tensor:
        """Returns the embeddings of all nodes."""
        return self.model.get_embedding(self.edges).clone()


def _tiktok() -> tuple[gr.Dataset, gr.Dataset, gr.Dataset]:
    return gr.datasets.load("tiktok").split(gr.split.column("x_label"))


def write_page(results: Mapping[str, Any]) -> None:
    """Writes all parts that there are."""
    text = [
        "# Benchmarks of speed\n\n`benchmarks/speed.py` wrote this page from `benchmarks/results/speed.json`; its head "
        "says what is timed. Medians of the turns; ratios are medians of the ratios within a turn.\n"
    ]

    def measured(part: str) -> str:
        on = results["measured"][part]
        return f"{on['machine']}; " + ", ".join(f"{name} {number}" for name, number in on["versions"].items()) + ".\n"

    for run in results.get("propagation", []):
        own = run["seconds"]["gnnrec"]
        lines = [
            [name, f"{1000 * statistics.median(seconds):.1f}", f"{_ratio(seconds, own):.2f}"]
            for name, seconds in run["seconds"].items()
            if name not in run["bytes_per_second"]
        ]
        rates = {name: statistics.median(rate) / 1e9 for name, rate in run["bytes_per_second"].items()}
        text += [
            f"## Propagation, {run['pairs']:,} pairs\n",
            markdown.table(["forward and backward", "ms", "times ours"], lines),
            f"\n{run['bytes'] / 1e9:.2f} GB are read and written; copying moves {rates['copying']:.1f} GB/s, random "
            f"rows of 256 bytes {rates['random rows']:.1f} GB/s. Ours takes "
            f"**{statistics.median(run['of_bound']):.2f} times** what copying as much takes.\n",
            measured("propagation"),
        ]
    if "epoch" in results:
        own = results["epoch"]["seconds"]["gnnrec `lightgcn`"]
        lines = [
            [name, f"{statistics.median(seconds):.2f}", f"{_ratio(seconds, own):.2f}"]
            for name, seconds in results["epoch"]["seconds"].items()
        ]
        text += ["## One epoch of equal work\n", markdown.table(["model", "seconds", "times ours"], lines)]
        text.append(measured("epoch"))
    if "quality" in results:
        part = results["quality"]
        own = [part["seconds"][name] for name in _OURS]
        lines = [
            [
                *(name, markdown.number(max(recall for _, recall in curve)), len(curve)),
                f"{part['seconds'][name]:.1f}",
                *(f"{part['seconds'][name] / one:.1f}" for one in own),
            ]
            for name, curve in part["curves"].items()
        ]
        header = ["model", "best recall@20", "epochs", f"seconds to {part['wanted']:.4f}, or to its best"]
        header += [f"times {name}" for name in _OURS]
        text += ["## Time to quality, TikTok validation\n", "One run of each.\n", markdown.table(header, lines)]
        text.append(measured("quality"))
    PAGE.write_text("\n".join(text), encoding="utf-8")


def _ratio(seconds: list[float], own: list[float]) -> float:
    return statistics.median(theirs / ours for theirs, ours in zip(seconds, own, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    results = read_results(RESULTS)
    measures: Mapping[str, Callable[[], Any]] = {
        "propagation": lambda: [propagation(num_pairs) for num_pairs in _PAIRS],
        "epoch": epoch,
        "quality": quality,
    }
    for part in chosen.parts:
        results[part] = measures[part]()
        versions = {name: version(name) for name in ("gnnrec", "torch", "torch-geometric", "numpy")}
        results.setdefault("measured", {})[part] = {"machine": machine(chosen.threads), "versions": versions}
        write_results(RESULTS, results)
        write_page(results)
        print(PAGE.read_text())


if __name__ == "__main__":
    main()
