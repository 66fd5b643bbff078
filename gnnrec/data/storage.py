"""Writes a data set as a checksummed folder of safetensors and Parquet files, and maps it into memory again."""

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnnrec.data.cleaning import CleaningReport
from gnnrec.data.dataset import Dataset
from gnnrec.data.events import Events, RelationEdges
from gnnrec.data.frames import check_savable
from gnnrec.data.ids import IdMap
from gnnrec.data.schema import Audio, Image, ModalitySpec, Owner, Text, Vectors, Video
from gnnrec.data.tensor_file import TensorWriter, mapped_tensors
from gnnrec.storage import check_replaceable, read_consistently, write_folder

__all__ = ["FORMAT_VERSION", "check_place", "load_dataset", "save_dataset", "save_in_pieces"]

FORMAT_VERSION = 1

_KIND = "dataset"
_SPECS: Mapping[str, type[ModalitySpec]] = {spec.__name__: spec for spec in (Text, Image, Audio, Video)}


def save_dataset(dataset: Dataset, path: str | Path) -> None:
    """Writes a data set; see :meth:`gnnrec.data.dataset.Dataset.save`."""
    events, columns = dataset.events, pd.DataFrame(dict(dataset.events.columns))
    save_in_pieces(dataset, path, [(events, _as_arrow(columns, "event_columns"))], len(events))


def save_in_pieces(
    dataset: Dataset, path: str | Path, pieces: Iterable[tuple[Events, pa.Table]], num_events: int
) -> None:
    """Writes a data set whose events come in pieces, so that no more than one of them need be in memory.

    Args:
        dataset: The data set; of its events only the types are used.
        path: The folder to write.
        pieces: Events, and the further columns of the log in the same rows; consecutive, of equal types.
        num_events: How many events there are in all pieces.

    Raises:
        StorageError: The folder cannot be written.
    """
    tables = {
        "user_ids": pd.DataFrame({"id": dataset.users.ids}),
        "item_ids": pd.DataFrame({"id": dataset.items.ids}),
        "user_table": dataset.user_table,
        "item_table": dataset.item_table,
    }
    kinds = {f"events.{name}": (array.dtype, (num_events,)) for name, array in _event_arrays(dataset.events).items()}
    others = _other_arrays(dataset)

    def write(folder: Path) -> None:
        for name, table in tables.items():
            if table is not None:
                pq.write_table(_as_arrow(table, name), folder / f"{name}.parquet")
        kinds.update({name: (array.dtype, array.shape) for name, array in others.items()})
        with TensorWriter(folder / "arrays.safetensors", kinds) as tensors, ExitStack() as stack:
            for name, array in others.items():
                tensors.append(name, array)
            columns: pq.ParquetWriter | None = None
            for events, further in pieces:
                for name, array in _event_arrays(events).items():
                    tensors.append(f"events.{name}", array)
                if columns is None and further.num_columns:
                    columns = stack.enter_context(pq.ParquetWriter(folder / "event_columns.parquet", further.schema))
                if columns is not None:
                    columns.write_table(further)

    facts = {
        "frame_library": dataset.frame_library,
        "modalities": {name: _spec_facts(spec) for name, spec in dataset.modalities.items()},
        "relations": {name: edges.between for name, edges in dataset.relations.items()},
        "positive_from": dataset.positive_from,
        "cleaning_report": None if dataset.cleaning_report is None else dataclasses.asdict(dataset.cleaning_report),
    }
    write_folder(path, write, _KIND, FORMAT_VERSION, facts)


def check_place(path: Path) -> None:
    """Raises a :class:`~gnnrec.errors.StorageError` if something is at ``path`` that a data set may not replace."""
    check_replaceable(path, _KIND)


def load_dataset(path: str | Path) -> Dataset:
    """Reads a data set; see :meth:`gnnrec.data.dataset.Dataset.load`."""
    return read_consistently(path, _KIND, FORMAT_VERSION, _read_dataset)


def _read_dataset(folder: Path, manifest: Mapping[str, Any]) -> Dataset:
    facts = manifest["facts"]
    arrays = mapped_tensors(folder / "arrays.safetensors")
    tables = {
        Path(name).stem: pd.read_parquet(folder / name) for name in manifest["files"] if name.endswith(".parquet")
    }
    ids: dict[Owner, IdMap] = {
        "user": IdMap(tables["user_ids"]["id"], "user"),
        "item": IdMap(tables["item_ids"]["id"], "item"),
    }
    event_columns = tables.get("event_columns", pd.DataFrame())
    report = facts["cleaning_report"]
    return Dataset(
        users=ids["user"],
        items=ids["item"],
        events=Events(
            user_index=arrays["events.user_index"],
            item_index=arrays["events.item_index"],
            weight=arrays.get("events.weight"),
            timestamp=arrays.get("events.timestamp"),
            columns={str(name): event_columns[name].to_numpy() for name in event_columns},
        ),
        user_table=tables.get("user_table"),
        item_table=tables.get("item_table"),
        modalities={name: _spec(name, saved, arrays, ids) for name, saved in facts["modalities"].items()},
        relations={
            name: RelationEdges(
                between,
                *(arrays[f"relation.{name}.{part}"] for part in ("source_index", "target_index", "weight")),
            )
            for name, between in facts["relations"].items()
        },
        frame_library=facts["frame_library"],
        cleaning_report=None if report is None else CleaningReport(**report),
        positive_from=facts.get("positive_from"),  # saved by an early version it was not noted
    )


def _event_arrays(events: Events) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any] | None] = {
        "user_index": events.user_index,
        "item_index": events.item_index,
        "weight": events.weight,
        "timestamp": events.timestamp,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def _other_arrays(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Returns the arrays of modalities and relations."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, spec in dataset.modalities.items():
        if isinstance(spec, Vectors):
            arrays[f"modality.{name}.matrix"] = spec.matrix
            arrays[f"modality.{name}.owner_index"] = dataset.ids(spec.of).index_of(spec.ids)
    for name, edges in dataset.relations.items():
        arrays[f"relation.{name}.source_index"] = edges.source_index
        arrays[f"relation.{name}.target_index"] = edges.target_index
        arrays[f"relation.{name}.weight"] = edges.weight
    return arrays


def _as_arrow(table: pd.DataFrame, what: str) -> pa.Table:
    check_savable(table, what)
    return pa.Table.from_pandas(table, preserve_index=False)


def _spec_facts(spec: ModalitySpec) -> dict[str, Any]:
    if isinstance(spec, Vectors):
        return {"kind": "Vectors", "of": spec.of}
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}
    return {"kind": type(spec).__name__, **plain}


def _spec(
    name: str, saved: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], ids: Mapping[Owner, IdMap]
) -> ModalitySpec:
    fields = {key: value for key, value in saved.items() if key != "kind"}
    if saved["kind"] == "Vectors":
        owners = ids[saved["of"]].ids_of(arrays[f"modality.{name}.owner_index"])
        return Vectors(arrays[f"modality.{name}.matrix"], owners, saved["of"])
    return _SPECS[saved["kind"]](**fields)
