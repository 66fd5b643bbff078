"""The public names and their arguments; a change here is a change for users (see docs/deprecation.md)."""

import inspect

import gnnrec as gr

NAMES = [
    *("Audio", "Cleaning", "Dataset", "Image", "Recommender", "RecommenderConfig", "Relation", "Text", "Vectors"),
    *("Video", "__version__", "datasets", "errors", "evaluation", "graph", "load", "metrics", "nn", "retrieval"),
    *("split", "synthetic", "testing", "tune"),
]

# Callable → its arguments; those behind * are given by name.
SIGNATURES = {
    "Dataset.from_frames": "interactions items users modalities relations cleaning * columns positive_from media_root",
    "Dataset.from_files": "interactions folder items users modalities relations cleaning * columns positive_from "
    "media_root keep_columns memory_limit threads",
    "Dataset.load": "path",
    "Dataset.save": "path",
    "Dataset.split": "splitter",
    "Dataset.describe": "",
    "Dataset.ids": "owner",
    "Dataset.table": "owner",
    "Dataset.interaction_matrix": "",
    "Dataset.order_matrix": "",
    "Dataset.pair_weights": "",
    "Dataset.with_events": "events",
    "Dataset.with_events_of": "other",
    "Dataset.without": "items users",
    "Recommender": "embedding_dim * config **options",
    "Recommender.preset": "name **options",
    "Recommender.fit": "train valid * refit warm_start run_dir resume cache_dir progress distributed",
    "Recommender.recommend": "users k * exclude_seen include_items exclude_items on_unknown new_item_share",
    "Recommender.recommend_for": "histories k * profiles user_vectors exclude_seen include_items exclude_items "
    "new_item_share",
    "Recommender.similar_items": "items k",
    "Recommender.search": "text image audio k * within weights user include_items exclude_items",
    "Recommender.add_items": "items vectors relations",
    "Recommender.remove_items": "item_ids",
    "Recommender.update": "interactions items vectors relations * cleaning columns",
    "Recommender.embeddings": "kind",
    "Recommender.evaluate": "test metrics * mask candidates history",
    "Recommender.export": "path formats",
    "Recommender.save": "path",
    "load": "path",
    "tune": "train valid * preset config trials timeout workers storage space metric cache_dir progress **options",
    "split.random": "valid test seed",
    "split.leave_last": "valid test",
    "split.by_time": "valid test",
    "split.cold_items": "valid test seed",
    "split.cold_users": "valid test seed",
    "split.column": "name train valid test * cold",
    "datasets.names": "",
    "datasets.card": "name",
    "datasets.load": "name data_dir",
    "datasets.get": "name destination",
    "retrieval.ItemIndex": "vectors kind * effort version",
    "retrieval.top_k": "queries items k * exclude allowed block_size",
    "Text": "columns of parts encoder pooling max_tokens",
    "Image": "column of encoder media_root",
    "Audio": "column of encoder media_root max_seconds",
    "Video": "column of encoder media_root frames pooling",
    "Vectors": "matrix ids of",
    "Relation": "frame between",
    "Cleaning": "invalid duplicates min_user_events min_item_events max_user_events feature_outliers",
    "RecommenderConfig": "ranker seed device features alignment graph model training ease graph_filter item_knn "
    "content_knn",
}


def written(call: object) -> str:
    """Returns the arguments of a callable in the notation above."""
    words: list[str] = []
    for parameter in inspect.signature(call).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(f"**{parameter.name}" if parameter.kind is parameter.VAR_KEYWORD else parameter.name)
    return " ".join(words)


def test_names() -> None:
    assert sorted(gr.__all__) == sorted(NAMES)
    assert dir(gr) == sorted(gr.__all__)
    assert all(getattr(gr, name) is not None for name in gr.__all__)


def test_signatures() -> None:
    found = {}
    for path in SIGNATURES:
        call: object = gr
        for name in path.split("."):
            call = getattr(call, name)
        found[path] = written(call)
    assert found == SIGNATURES


def test_every_public_method_of_the_facade_is_held_to_its_signature() -> None:
    for kind in ("Recommender", "Dataset"):
        methods = {
            f"{kind}.{name}"
            for name, value in inspect.getmembers(getattr(gr, kind))
            if not name.startswith("_") and callable(value)
        }
        assert methods <= set(SIGNATURES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(gr, "recommender_system")
