"""The command line does what Python does, and says in one line what is wrong."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import gnnrec as gr
from gnnrec import errors
from gnnrec.cli import EXIT_CODES, app
from gnnrec.data.synthetic import Shop

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_shop: Shop) -> Path:
    """A folder with a log, an item table with texts, and vectors in two formats."""
    folder = tmp_path_factory.mktemp("shop")
    small_shop.interactions.to_csv(folder / "log.csv", index=False)
    small_shop.items.to_csv(folder / "items.csv", index=False)
    vectors = small_shop.vectors(dim=4)
    table = pd.DataFrame({"item_id": vectors.ids, "embedding": list(vectors.matrix)})
    table.to_parquet(folder / "vectors.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Path:
    """A run of ``gnnrec fit`` on that folder, with a split."""
    data = ("--items", folder / "items.csv", "--text", "plot=title,description", "--encoder", "plot=wordllama")
    vectors = ("--vectors", f"taste={folder / 'vectors.parquet'}")
    options = ("--split", "random:valid=0.1,test=0.2,seed=4", "--set", "epochs=3", "--set", "embedding_dim=16")
    words = ("fit", folder / "log.csv", *data, *vectors, *options, "--seed", 5, "--output", folder / "run")
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return folder / "run"


def error_line(result: Result) -> str:
    """Returns the one line on standard error of a failed command."""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.output
    return lines[0].removeprefix("error: ")


def test_fit_equals_python(fitted: Path, folder: Path, small_shop: Shop) -> None:
    vectors = small_shop.vectors(dim=4)
    data = gr.Dataset.from_frames(
        folder / "log.csv",
        folder / "items.csv",
        modalities={"plot": gr.Text(("title", "description"), encoder="wordllama"), "taste": vectors},
    )
    train, valid, _ = data.split(gr.split.random(valid=0.1, test=0.2, seed=4))
    expected = gr.Recommender(embedding_dim=16, epochs=3, seed=5).fit(train, valid, progress=False)
    ids, values = gr.load(fitted / "model").embeddings("item")
    assert ids.tolist() == expected.embeddings("item")[0].tolist()
    np.testing.assert_array_equal(values, expected.embeddings("item")[1])


def test_a_refit_leaves_out_the_test_part_alone(run: Run, folder: Path, tmp_path: Path) -> None:
    split = ("--split", "random:valid=0.1,test=0.2", "--set", "epochs=3", "--set", "embedding_dim=8")
    assert run("fit", folder / "log.csv", *split, "--refit", "--output", tmp_path / "run").exit_code == 0
    train, valid, test = gr.Dataset.from_frames(folder / "log.csv").split(gr.split.random(valid=0.1, test=0.2))
    assert gr.load(tmp_path / "run" / "model").state.train.nnz == len(train.events) + len(valid.events)
    assert len(pd.read_parquet(tmp_path / "run" / "test.parquet")) == len(test.events)


def test_fit_writes_the_whole_configuration(fitted: Path) -> None:
    options = tomllib.loads((fitted / "config.toml").read_text())
    assert options["seed"] == 5
    assert options["training"]["epochs"] == 3
    assert options["model"]["embedding_dim"] == 16
    assert options["model"]["hops"] == 2  # a default that was not mentioned


def test_the_written_configuration_gives_the_same_model(run: Run, fitted: Path, folder: Path, tmp_path: Path) -> None:
    result = run(
        *("fit", folder / "log.csv", "--items", folder / "items.csv", "--text", "plot=title,description"),
        *("--encoder", "plot=wordllama", "--vectors", f"taste={folder / 'vectors.parquet'}"),
        *("--split", "random:valid=0.1,test=0.2,seed=4", "--config", fitted / "config.toml", "--output", tmp_path),
    )
    assert result.exit_code == 0, result.output
    first, second = (gr.load(path / "model").embeddings("user")[1] for path in (fitted, tmp_path))
    np.testing.assert_array_equal(first, second)


def test_fit_reports_data_media_and_quality(run: Run, folder: Path, tmp_path: Path, small_shop: Shop) -> None:
    result = run(
        *("fit", folder / "log.csv", "--items", folder / "items.csv", "--text", "plot=description"),
        *("--encoder", "plot=wordllama", "--split", "leave-last", "--set", "epochs=1", "-o", tmp_path / "run"),
    )
    assert result.exit_code == 0, result.output
    missing = int(small_shop.items["description"].isna().sum())
    row = next(line for line in result.stdout.splitlines() if line.startswith("│ plot"))
    assert [word for word in row.split() if word.isdigit()] == [str(40 - missing), str(missing), "0", "0"]
    assert "recall@20" in result.stdout


def test_search_equals_python(run: Run, fitted: Path, tmp_path: Path, small_shop: Shop) -> None:
    output = tmp_path / "found.csv"
    options = ("--within", "plot", "--user", small_shop.users["user_id"][0], "--weight", "text=3", "--weight", "user=1")
    result = run("search", fitted, "--text", "violin concert", "-t", "coral reef", "-k", 4, *options, "-o", output)
    assert result.exit_code == 0, result.output
    expected = gr.load(fitted / "model").search(
        ["violin concert", "coral reef"],
        k=4,
        within="plot",
        user=small_shop.users["user_id"][0],
        weights={"text": 3, "user": 1},
    )
    pd.testing.assert_frame_equal(pd.read_csv(output), expected, check_dtype=False, rtol=1e-4)
    shown = run("search", fitted, "--text", "violin concert")
    assert "Found" in shown.stdout
    assert gr.load(fitted / "model").search("violin concert", k=1)["item_id"][0] in shown.stdout


def test_a_single_query_stands_for_every_row_of_a_list(run: Run, fitted: Path, monkeypatch) -> None:
    asked = []

    def search(self, text, image, audio, *_, **__):
        asked.append((text, image, audio))
        return pd.DataFrame({"query": [], "item_id": [], "score": [], "rank": []})

    monkeypatch.setattr(gr.Recommender, "search", search)
    for words in (["-t", "a", "--image", "p.png"], ["-t", "a", "--image", "p.png", "--image", "q.png"]):
        assert run("search", fitted, *words).exit_code == 0
    assert asked == [(["a"], [Path("p.png")], None), ("a", [Path("p.png"), Path("q.png")], None)]


def test_evaluate_repeats_the_test_of_fit(run: Run, fitted: Path, tmp_path: Path) -> None:
    output = tmp_path / "metrics.jsonl"
    result = run(
        *("evaluate", fitted, "--interactions", fitted / "test.parquet", "--metrics", "recall@10, mrr@10"),
        *("--output", output),
    )
    assert result.exit_code == 0, result.output
    test = gr.Dataset.from_frames(fitted / "test.parquet")
    expected = gr.load(fitted / "model").evaluate(test, metrics=("recall@10", "mrr@10"))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert {row["metric"]: pytest.approx(row["value"]) for row in rows} == dict(expected.values)


def test_evaluate_attaches_new_items_by_their_media(run: Run, fitted: Path, tmp_path: Path) -> None:
    items = pd.DataFrame({"item_id": ["new"], "title": ["rose"], "description": ["tulip seed pruning"]})
    items.to_csv(tmp_path / "new.csv", index=False)
    pd.DataFrame({"user_id": ["u00"], "item_id": ["new"]}).to_csv(tmp_path / "test.csv", index=False)
    arguments = ["evaluate", fitted, "--interactions", tmp_path / "test.csv", "--metrics", "recall@41", "-o", "-"]
    # All 41 items are ranked, so the new one is found, if it is there at all.
    with_media = run(*arguments, "--items", tmp_path / "new.csv")
    assert with_media.stdout.splitlines()[1].startswith("recall@41,1.0,")


def test_evaluate_takes_new_items_that_lack_a_medium_of_the_fit(run: Run, folder: Path, tmp_path: Path) -> None:
    texts = ("--text", "title=title", "--text", "plot=description", "--encoder", "title=wordllama")
    fit = ("fit", folder / "log.csv", "--items", folder / "items.csv", *texts, "--encoder", "plot=wordllama")
    assert run(*fit, "--set", "epochs=1", "-o", tmp_path / "run").exit_code == 0
    pd.DataFrame({"item_id": ["new"], "title": ["rose"]}).to_csv(tmp_path / "new.csv", index=False)
    pd.DataFrame({"user_id": ["u00"], "item_id": ["new"]}).to_csv(tmp_path / "test.csv", index=False)
    asked = ("evaluate", tmp_path / "run", "--interactions", tmp_path / "test.csv", "--metrics", "recall@41", "-o", "-")
    result = run(*asked, "--items", tmp_path / "new.csv")
    assert result.stdout.splitlines()[1].startswith("recall@41,1.0,"), result.output


def test_evaluate_takes_vectors_and_people(run: Run, tmp_path: Path, small_shop: Shop) -> None:
    small_shop.interactions.to_csv(tmp_path / "log.csv", index=False)
    small_shop.users.to_csv(tmp_path / "users.csv", index=False)
    look = small_shop.vectors()
    pd.DataFrame(look.matrix).add_prefix("d").assign(item_id=look.ids).to_parquet(tmp_path / "look.parquet")
    for split, given in (
        ("cold-items", ("--vectors", f"look={tmp_path / 'look.parquet'}")),
        ("cold-users:test=0.3", ("--users", tmp_path / "users.csv")),
    ):
        of_users = ("--text", "user:bio=bio", "--encoder", "user:bio=wordllama") if "users" in split else ()
        fit = ("fit", tmp_path / "log.csv", *given, *of_users, "--split", split, "--set", "epochs=2")
        assert run(*fit, "-o", tmp_path / split).exit_code == 0
        asked = ("evaluate", tmp_path / split, "--interactions", tmp_path / split / "test.parquet", "-o", "-")
        with_media, without = (float(run(*asked, *more).stdout.splitlines()[1].split(",")[1]) for more in (given, ()))
        assert with_media > 0.3
        assert with_media > without


def test_evaluate_looks_for_media_where_it_is_told(run: Run, tmp_path: Path, small_shop: Shop) -> None:
    small_shop.interactions.to_csv(tmp_path / "log.csv", index=False)
    places = {name: tmp_path / name for name in ("learned", "new")}
    for place in places.values():
        place.mkdir()
        items = small_shop.write_media(place)
    items[["item_id", "sound"]].to_csv(tmp_path / "items.csv", index=False)
    sound = ("--audio", "chord=sound", "--encoder", "chord=log-mel", "--media-root", places["learned"])
    fit = ("fit", tmp_path / "log.csv", "--items", tmp_path / "items.csv", *sound, "--set", "epochs=1")
    assert run(*fit, "-o", tmp_path / "run").exit_code == 0
    only_there = items["sound"].iloc[0]
    (places["learned"] / only_there).unlink()
    pd.DataFrame({"item_id": ["new"], "sound": [only_there]}).to_csv(tmp_path / "new.csv", index=False)
    pd.DataFrame({"user_id": ["u00"], "item_id": ["new"]}).to_csv(tmp_path / "test.csv", index=False)
    asked = ("evaluate", tmp_path / "run", "--interactions", tmp_path / "test.csv", "--items", tmp_path / "new.csv")
    there, elsewhere = run(*asked, "--media-root", places["new"]), run(*asked)
    assert there.exit_code == elsewhere.exit_code == 0
    assert "unreadable" not in there.stderr
    assert "1 unreadable" in elsewhere.stderr  # it is looked for where those of the fit lay


def test_evaluate_describes_new_items_by_their_relations_as_fit_does(run: Run, tmp_path: Path) -> None:
    shop = gr.synthetic.shop(num_users=120, num_items=60, seed=3)
    taste = pd.Series(shop.item_taste, index=shop.items["item_id"])
    rows = [ids.index for _, ids in taste.groupby(taste)]
    series = pd.concat([pd.DataFrame({"source_id": ids[:-1], "target_id": ids[1:]}) for ids in rows])
    vectors = shop.vectors(dim=8)
    noise = np.random.default_rng(0).normal(scale=3, size=vectors.matrix.shape)  # so that the relation is needed
    for name, frame in {
        "log": shop.interactions,
        "items": shop.items[["item_id"]],
        "series": series,
        "look": pd.DataFrame({"item_id": vectors.ids, "embedding": list(vectors.matrix + noise)}),
    }.items():
        frame.to_parquet(tmp_path / f"{name}.parquet")
    look = ("--items", tmp_path / "items.parquet", "--vectors", f"look={tmp_path / 'look.parquet'}")
    relation = ("--relation", f"item:series={tmp_path / 'series.parquet'}")
    options = ("--set", "epochs=6", "--set", "embedding_dim=16", "--set", "learning_rate=0.02")
    split = ("--split", "cold-items:valid=0.1,test=0.3", "-o", tmp_path / "run")
    fit = run("fit", tmp_path / "log.parquet", *look, *relation, *options, *split)
    assert fit.exit_code == 0, fit.output
    figures = [line for line in fit.stdout.split("Test")[1].splitlines() if "@" in line]
    test = ("evaluate", tmp_path / "run", "--interactions", tmp_path / "run" / "test.parquet", *look)
    shown = run(*test, *relation, "--metrics", "recall@20,ndcg@20")
    assert [line for line in shown.stdout.splitlines() if "@" in line] == figures
    without = run(*test, "--metrics", "recall@20,ndcg@20")
    assert "the test set brings no relation 'series'" in without.stderr
    assert [line for line in without.stdout.splitlines() if "@" in line] != figures


def test_evaluate_takes_the_threshold_of_the_fit_and_names_of_columns(run: Run, folder: Path, tmp_path: Path) -> None:
    fit = ("fit", folder / "log.csv", "--positive-from", "4", "--preset", "popularity", "-o", tmp_path / "run")
    assert run(*fit).exit_code == 0
    events = pd.DataFrame({"who": ["x", "x", "y"], "what": ["i00", "i01", "i02"], "rating": [5, 2, 2]})
    events.to_csv(tmp_path / "test.csv", index=False)
    given = ("evaluate", tmp_path / "run", "--interactions", tmp_path / "test.csv", "--metrics", "recall@40")
    named = ("--column", "user_id=who", "--column", "item_id=what")
    assert "1 users" in run(*given, *named).stdout  # y liked nothing
    assert "2 users" in run(*given, *named, "--positive-from", "1").stdout
    assert "user_id" in error_line(run(*given))
    events.rename(columns={"rating": "grade"}).to_csv(tmp_path / "test.csv", index=False)
    assert "no weight column, so all 3 events count as positive" in run(*given, *named).stderr
    assert "positive_from= needs a weight column" in error_line(run(*given, *named, "--positive-from", "1"))


def test_vectors_are_found_by_ids_under_any_known_name(run: Run, folder: Path, tmp_path: Path) -> None:
    vectors = pd.read_parquet(folder / "vectors.parquet").rename(columns={"item_id": "movieId"})
    vectors.to_parquet(tmp_path / "vectors.parquet")
    words = ("fit", folder / "log.csv", "--preset", "content-knn", "--vectors", f"taste={tmp_path / 'vectors.parquet'}")
    assert run(*words, "-o", tmp_path / "run").exit_code == 0
    vectors.drop(columns="movieId").to_parquet(tmp_path / "vectors.parquet")
    assert "no column for item_id (known names: item_id, itemId," in error_line(run(*words, "-o", tmp_path / "run"))


def test_evaluate_reads_vectors_as_the_model_has_them(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [f"{i:03d}" for i in range(12)]
    log = pd.DataFrame({"user_id": rng.integers(0, 9, 80), "item_id": rng.choice(ids, 80)}).drop_duplicates()
    look = gr.Vectors(rng.normal(size=(12, 3)), ids)
    data = gr.Dataset.from_frames(log, modalities={"look": look}, cleaning=gr.Cleaning())
    gr.Recommender.preset("content-knn").fit(data, progress=False).save(tmp_path / "model")
    (tmp_path / "new.csv").write_text("item_id,a,b,c\n100,1,0,0\n101,0,1,0\n")
    (tmp_path / "test.csv").write_text("user_id,item_id\n0,100\n1,101\n")
    words = ("evaluate", tmp_path / "model", "--interactions", tmp_path / "test.csv", "--metrics", "recall@14")
    result = run(*words, "--vectors", f"look={tmp_path / 'new.csv'}", "-o", "-")
    assert result.exit_code == 0, result.output
    assert "recall@14,1.0" in result.stdout
    wrong = run(*words, "--vectors", f"looks={tmp_path / 'new.csv'}")
    assert (wrong.exit_code, "no modality 'looks'; did you mean 'look'" in error_line(wrong)) == (2, True)


def test_recommend_answers_as_python_does(run: Run, fitted: Path, tmp_path: Path) -> None:
    result = run("recommend", fitted, "--user", "u03", "--user", "u07", "-k", 4, "--output", "-")
    assert result.exit_code == 0, result.output
    (tmp_path / "answer.csv").write_text(result.stdout)
    expected = gr.load(fitted / "model").recommend(["u03", "u07"], k=4)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "answer.csv"), expected, check_dtype=False, check_exact=False, rtol=1e-5
    )


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_recommend_writes_every_format(run: Run, fitted: Path, tmp_path: Path, ending: str) -> None:
    people = tmp_path / "people.csv"
    people.write_text("userId\nu01\nu02\n")
    output = tmp_path / "deep" / f"lists.{ending}"
    assert run("recommend", fitted, "--users", people, "-k", 3, "--output", output).exit_code == 0
    read = {"csv": pd.read_csv, "tsv": lambda path: pd.read_csv(path, sep="\t"), "parquet": pd.read_parquet}
    frame = read[ending](output) if ending in read else pd.read_json(output, lines=True)
    assert frame["user_id"].tolist() == ["u01"] * 3 + ["u02"] * 3
    assert frame["rank"].tolist() == [1, 2, 3, 1, 2, 3]


def test_recommend_shows_everybody_by_default(run: Run, fitted: Path) -> None:
    result = run("recommend", fitted, "-k", 1)
    assert sum("│ u" in line for line in result.stdout.splitlines()) == 80


def test_recommend_keeps_places_for_new_items(run: Run, fitted: Path, tmp_path: Path) -> None:
    rec = gr.load(fitted / "model")
    vectors = rec.state.features["taste"].values
    rec.add_items(vectors={"taste": gr.Vectors(np.zeros((2, vectors.shape[1])), ["new-1", "new-2"])})
    rec.save(tmp_path / "model")
    share = ("--new-item-share", 0.5, "--include-seen")
    lines = run("recommend", tmp_path / "model", "-u", "u03", "-k", 4, *share, "-o", "-").stdout.splitlines()[1:]
    assert {line.split(",")[1] for line in lines} >= {"new-1", "new-2"}
    assert len(lines) == 4


def test_recommend_takes_integer_ids(run: Run, folder: Path, tmp_path: Path) -> None:
    log = pd.read_csv(folder / "log.csv")
    log["user_id"] = log["user_id"].str[1:].astype(int)
    log.to_csv(tmp_path / "log.csv", index=False)
    assert run("fit", tmp_path / "log.csv", "--preset", "popularity", "-o", tmp_path / "run").exit_code == 0
    assert run("recommend", tmp_path / "run", "-u", "7", "-k", 1, "-o", "-").stdout.splitlines()[1].startswith("7,")
    result = run("recommend", tmp_path / "run", "--user", "seven")
    assert (result.exit_code, "integers" in error_line(result)) == (3, True)


def test_seen_items_are_left_out_unless_asked_for(run: Run, fitted: Path) -> None:
    state = gr.load(fitted / "model").state
    seen = set(state.items.ids[state.seen[state.users.index_of(["u00"])[0]].indices])
    listed = {
        flag: {line.split(",")[1] for line in run(*arguments).stdout.splitlines()[1:]}
        for flag, arguments in {
            "without": ("recommend", fitted, "-u", "u00", "-k", 40, "-o", "-"),
            "with": ("recommend", fitted, "-u", "u00", "-k", 40, "-o", "-", "--include-seen"),
        }.items()
    }
    assert len(listed["with"]) == 40
    assert listed["with"] - listed["without"] == seen


def test_export_round_trips_as_vectors(run: Run, fitted: Path, folder: Path, tmp_path: Path) -> None:
    result = run("export", fitted, "--output", tmp_path / "vectors")
    assert sorted(Path(line).name for line in result.stdout.split()) == ["items.parquet", "users.parquet"]
    again = run(
        *("fit", folder / "log.csv", "--vectors", f"learned={tmp_path / 'vectors' / 'items.parquet'}"),
        *("--set", "epochs=1", "--output", tmp_path / "run"),
    )
    assert again.exit_code == 0, again.output
    exported = gr.load(fitted / "model").embeddings("item")[1]
    assert gr.load(tmp_path / "run" / "model").state.features["learned"].dim == exported.shape[1]


def test_resume_goes_on(run: Run, folder: Path, tmp_path: Path) -> None:
    common = ["fit", folder / "log.csv", "--run-dir", tmp_path / "checkpoints", "--output", tmp_path / "run"]
    assert run(*common, "--set", "epochs=1").exit_code == 0
    assert run(*common, "--set", "epochs=3", "--resume").exit_code == 0
    whole = run("fit", folder / "log.csv", "--set", "epochs=3", "--output", tmp_path / "whole")
    assert whole.exit_code == 0
    histories = [gr.load(tmp_path / name / "model").history.drop(columns="seconds") for name in ("run", "whole")]
    pd.testing.assert_frame_equal(*histories)


def test_user_modalities_relations_and_rules(run: Run, folder: Path, tmp_path: Path, small_shop: Shop) -> None:
    small_shop.users.to_csv(tmp_path / "users.csv", index=False)
    small_shop.follows.to_csv(tmp_path / "follows.csv", index=False)
    result = run(
        *("fit", folder / "log.csv", "--users", tmp_path / "users.csv", "--text", "user:profile=bio"),
        *("--encoder", "user:profile=wordllama", "--relation", f"follows={tmp_path / 'follows.csv'}"),
        *("--column", "weight=rating", "--positive-from", 2, "--clean", "min_item_events=2"),
        *("--set", "epochs=1", "--output", tmp_path / "run"),
    )
    assert result.exit_code == 0, result.output
    assert gr.load(tmp_path / "run" / "model").state.features["profile"].of == "user"
    assert "relation follows" in result.stdout
    assert "weight below 2" in result.stdout


def test_numbered_vectors(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = {"user_id": rng.integers(20, size=200), "item_id": rng.integers(15, size=200)}
    pd.DataFrame(pairs).to_csv(tmp_path / "log.csv", index=False)
    np.save(tmp_path / "image_feat.npy", rng.normal(size=(16, 3)))
    command = ["fit", tmp_path / "log.csv", "--vectors", f"image={tmp_path / 'image_feat.npy'}"]
    assert run(*command, "--set", "epochs=1", "-o", tmp_path / "run").exit_code == 0
    assert gr.load(tmp_path / "run" / "model").state.items.ids.tolist() == [*range(16)]  # item 15 has no event
    (tmp_path / "gap.csv").write_text("item_id,a,b\n1,1,2\n2,3,\n3,4,5\n")  # whole numbers and an empty cell
    table = pd.DataFrame({"item_id": [1, 2, 3], "embedding": [[1.0, 2.0], None, [4.0, 5.0]]})
    table.to_parquet(tmp_path / "gap.parquet", index=False)
    for file in ("gap.csv", "gap.parquet"):
        gap = ["fit", tmp_path / "log.csv", "--vectors", f"image={tmp_path / file}", "--preset", "popularity"]
        result = run(*gap, "-o", tmp_path / "gap")
        assert result.exit_code == 0, result.output
        assert "modality 'image': not finite" in result.output
    (tmp_path / "one.csv").write_text("item_id,embedding\n1,0.5\n2,0.7\n")  # a dimension of that name
    one = ["fit", tmp_path / "log.csv", "--vectors", f"image={tmp_path / 'one.csv'}", "--preset", "popularity"]
    assert run(*one, "-o", tmp_path / "one").exit_code == 0
    np.savez(tmp_path / "several", np.eye(2))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    several = run("fit", tmp_path / "log.csv", "--vectors", f"image={tmp_path / 'several.npy'}", "-o", tmp_path / "run")
    assert (several.exit_code, "holds no single array" in error_line(several)) == (3, True)
    np.save(tmp_path / "number.npy", 3.0)
    refused = run("fit", tmp_path / "log.csv", "--vectors", f"image={tmp_path / 'number.npy'}", "-o", tmp_path / "run")
    assert (refused.exit_code, "expected a dense matrix" in error_line(refused)) == (3, True)


def test_datasets(run: Run) -> None:
    listed = run("datasets", "list")
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in gr.datasets.names())
    shown = run("datasets", "show", "movielens")
    assert gr.datasets.card("movielens").title in " ".join(shown.stdout.split())
    unknown = run("datasets", "show", "movielenz")
    assert (unknown.exit_code, "did you mean 'movielens'?" in error_line(unknown)) == (3, True)
    assert run("datasets", "get", "movielens", "--output", "nowhere").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["fit", "{log}", "--set", "epoch=3"], 2, "unknown option 'epoch'; did you mean 'epochs'?"),
        (["fit", "{log}", "--set", "epochs=many"], 2, "option 'training.epochs' cannot be 'many'"),
        (["fit", "{log}", "--set", "epochs"], 2, "--set takes NAME=VALUE, not 'epochs'"),
        (["fit", "{log}", "--preset", "lightgnc"], 2, "did you mean 'lightgcn'?"),
        (["fit", "{log}", "--preset", "vbpr", "--config", "x.toml"], 2, "exclude each other"),
        (["fit", "{log}", "--config", "absent.toml"], 2, "cannot read the configuration 'absent.toml'"),
        (["fit", "{log}", "--split", "randomly"], 2, "unknown kind 'randomly'; did you mean 'random'?"),
        (["fit", "{log}", "--split", "random:tests=0.2"], 2, "random takes valid, test, seed"),
        (["fit", "{log}", "--split", "random:test=2"], 2, "fractions"),
        (["fit", "{log}", "--split", "column:x_label"], 3, "no column 'x_label'"),
        (["fit", "{log}", "--text", "plot=title", "--image", "plot=cover"], 2, "modality 'plot' is given twice"),
        (["fit", "{log}", "--text", "plot=title"], 3, "items= was not given"),
        (["fit", "{log}", "--items", "{items}", "--text", "plot=titel"], 3, "no column 'titel'"),
        (["fit", "{log}", "--relation", "a={log}", "--relation", "item:a={log}"], 2, "relation 'a' is given twice"),
        (["fit", "{log}", "--encoder", "user:plot=minilm"], 2, "--encoder user:plot: there is no such text"),
        (["fit", "{log}", "--encoder", "plot=minilm"], 2, "no such text, image, audio or video modality"),
        (["fit", "{log}", "--vectors", "a=absent.npy"], 3, "cannot read 'absent.npy'"),
        (["fit", "{log}", "--vectors", "a={items}", "--set", "epochs=1"], 3, "modality 'a'"),
        (["fit", "{log}", "--vectors", "a={log}", "--users", "{log}"], 3, "repeats"),
        (["fit", "{log}", "--clean", "min_events=3"], 2, "unknown option 'clean.min_events'"),
        (["fit", "{log}", "--strict", "--clean", "min_item_events=3"], 2, "--strict"),
        (["fit", "{log}", "--resume"], 2, "run_dir"),
        (["fit", "{log}", "--device", "cuda:99x"], 2, "device"),
        (["fit", "absent.csv"], 3, "no file matches 'absent.csv'"),
        (["fit"], 2, "give either a log or --dataset NAME"),
        (["fit", "{log}", "--dataset", "movielens"], 2, "give either a log or --dataset NAME"),
        (["fit", "--dataset", "movielens", "--text", "a=b"], 2, "brings its own"),
        (["fit", "--dataset", "movielens", "--positive-from", "0"], 2, "brings its own"),
        (["fit", "--dataset", "movielens", "--media-root", "."], 2, "brings its own"),
        (["fit", "--dataset", "moviebaby"], 3, "unknown data set 'moviebaby'"),
        (["--verbose", "--quiet", "fit", "{log}"], 2, "--verbose and --quiet"),
    ],
)
def test_what_is_wrong_with_a_fit(
    run: Run, folder: Path, tmp_path: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    paths = {"{log}": str(folder / "log.csv"), "{items}": str(folder / "items.csv")}
    for mark, path in paths.items():
        arguments = [argument.replace(mark, path) for argument in arguments]
    result = run(*arguments, "--output", tmp_path / "run")
    assert result.exit_code == exit_code, result.output
    assert message in error_line(result)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["recommend", "{run}", "--user", "nobody"], 3, "'nobody'"),
        (["recommend", "{run}", "--user", "u01", "-k", "0"], 2, "k must be at least 1, got 0"),
        (["recommend", "{run}", "--user", "u01", "--on-unknown", "shrug"], 2, "'shrug'"),
        (["recommend", "{run}", "--user", "u01", "--new-item-share", "2"], 2, "new_item_share"),
        (["recommend", "{run}", "--user", "u01", "--users", "x.csv"], 2, "exclude each other"),
        (["recommend", "{run}", "--users", "{run}/test.csv"], 3, "no file matches"),
        (["recommend", "{run}", "--users", "{items}"], 3, "no column for user_id"),
        (["recommend", "{run}", "--user", "u01", "--output", "list.xlsx"], 2, "must end in one of"),
        (["recommend", "{run}", "--user", "u01", "--output", "{items}/list.csv"], 4, "cannot write"),
        (["recommend", "absent", "--user", "u01"], 4, "'absent'"),
        (["recommend", "absent", "--user", "u01", "--output", "list.xlsx"], 2, "must end in one of"),
        (["evaluate", "absent", "--interactions", "x.csv", "--output", "x.xlsx"], 2, "must end in one of"),
        (["search", "absent", "--text", "violin", "--output", "x.xlsx"], 2, "must end in one of"),
        (["search", "{run}"], 2, "there is no query"),
        (["search", "{run}", "--text", " "], 3, "the text is empty"),
        (["search", "{run}", "--text", "violin", "--weight", "text=heavy"], 2, "takes NAME=NUMBER: could not convert"),
        (["search", "{run}", "--text", "violin", "--within", "poster"], 2, "'poster' is no modality of this model"),
        (["search", "{run}", "--image", "{run}/no.png"], 2, "no query of image: this model reads text"),
        (["evaluate", "{run}", "--interactions", "{run}/test.parquet", "--metrics", "recal@20"], 2, "recal"),
        (["evaluate", "{run}", "--interactions", "{run}/test.parquet", "--mask", "none"], 2, "mask"),
        (["export", "{run}", "--output", "{items}/x"], 4, "cannot write"),
        (["export", "{run}", "--output", "x", "--format", "onnyx"], 2, "unknown export formats ['onnyx']"),
    ],
)
def test_what_is_wrong_with_a_question(
    run: Run, fitted: Path, folder: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    for mark, path in {"{run}": str(fitted), "{items}": str(folder / "items.csv")}.items():
        arguments = [argument.replace(mark, path) for argument in arguments]
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert message in error_line(result)


def test_what_could_not_be_written_is_said_before_the_fit(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fit(*_: object, **__: object) -> None:
        raise AssertionError("fitted first")

    monkeypatch.setattr(gr.Recommender, "fit", no_fit)
    (tmp_path / "taken" / "model").mkdir(parents=True)
    (tmp_path / "taken" / "model" / "thesis.txt").write_text("mine")
    for output, message in (
        (tmp_path / "taken", "is not a gnnrec recommender"),
        (folder / "log.csv" / "run", "cannot write"),
        (tmp_path / ("x" * 300), "cannot write"),
    ):
        result = run("fit", folder / "log.csv", "--output", output)
        assert result.exit_code == 4, result.output
        assert message in error_line(result)
    assert (tmp_path / "taken" / "model" / "thesis.txt").read_text() == "mine"


def test_a_list_that_cannot_be_written_leaves_the_former_one(
    run: Run, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("recommend", fitted, "--user", "u01", "--output", tmp_path / "lists.parquet")
    assert run(*arguments).exit_code == 0
    before = (tmp_path / "lists.parquet").read_bytes()

    def full(self: pd.DataFrame, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    result = run(*arguments)
    assert result.exit_code == 4
    assert "No space left" in error_line(result)
    assert (tmp_path / "lists.parquet").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["lists.parquet"]


def test_a_tampered_model_is_refused(run: Run, fitted: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(fitted, tmp_path / "run")
    tensors = tmp_path / "run" / "model" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    result = run("recommend", tmp_path / "run", "--user", "u01")
    assert result.exit_code == 4
    assert "damaged" in error_line(result)


def test_debug_shows_the_traceback(run: Run) -> None:
    result = run("--debug", "recommend", "absent", "--user", "u01")
    assert isinstance(result.exception, errors.StorageError)


def test_exit_codes_cover_the_documented_errors() -> None:
    codes = {kind.__name__: code for kind, code in EXIT_CODES.items()}
    assert codes == {
        "ConfigError": 2,
        "UnsupportedError": 2,
        "DataError": 3,
        "UnknownIdError": 3,
        "MediaError": 3,
        "StorageError": 4,
    }


def test_an_unforeseen_error_of_ours_ends_with_1(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise errors.MissingPackageError("this needs x:\npip install x")

    monkeypatch.setattr(gr.Dataset, "from_frames", fail)
    result = run("fit", folder / "log.csv", "--output", "x")
    assert result.exit_code == 1
    assert error_line(result) == "this needs x: pip install x"


def test_verbose_and_quiet(run: Run, folder: Path, tmp_path: Path) -> None:
    log = pd.read_csv(folder / "log.csv")
    log.loc[0, "user_id"] = None
    log.to_csv(tmp_path / "log.csv", index=False)
    command = ["fit", tmp_path / "log.csv", "--preset", "popularity", "--output", tmp_path / "run"]
    assert "removed 1 invalid rows" in run(*command).stderr
    assert run("--quiet", *command).stderr == ""
    said = run("--verbose", *command).stderr
    assert "events held out" in said
    assert "removed 1 invalid rows" in said


@pytest.mark.parametrize("command", ["demo", "fit", "tune", "evaluate", "recommend", "search", "export", "datasets"])
def test_every_command_explains_itself(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert command in run("--help").stdout


def test_the_exit_codes_are_in_the_help(run: Run) -> None:
    assert "Exit codes: 0 done" in run("--help").stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout.strip() == gr.__version__


def test_ids_are_shown_as_they_are(run: Run, tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [100001, 100002], "item_id": [2007, 2008]}).to_csv(tmp_path / "log.csv", index=False)
    run("fit", tmp_path / "log.csv", "--preset", "popularity", "--output", tmp_path / "run")
    shown = run("recommend", tmp_path / "run", "--user", "100001").output
    assert "100001" in shown
    assert "2008" in shown
    assert "does not fit into 64 bits" in error_line(run("recommend", tmp_path / "run", "--user", "9" * 23))


def test_text_ids_that_look_like_numbers_stay_texts(run: Run, tmp_path: Path) -> None:
    log = pd.DataFrame({"user_id": ["007", "7", "x9"], "item_id": ["A", "B", "C"]})
    rec = gr.Recommender.preset("popularity").fit(gr.Dataset.from_frames(log), progress=False)
    rec.save(tmp_path / "model")
    (tmp_path / "people.csv").write_text("user_id\n007\n")
    people, answers = tmp_path / "people.csv", tmp_path / "answers.csv"
    result = run("recommend", tmp_path / "model", "--users", people, "-k", 2, "--output", answers)
    assert result.exit_code == 0, result.output
    answer = pd.read_csv(answers, dtype=str)
    assert set(answer["user_id"]) == {"007"}
    assert "A" not in set(answer["item_id"])


def test_evaluate_reads_number_like_ids_as_the_fit_has_them(run: Run, tmp_path: Path) -> None:
    log = pd.DataFrame({"user_id": ["007", "7", "x9", "x9"], "item_id": ["1", "2", "03", "2"]})
    rec = gr.Recommender.preset("popularity").fit(gr.Dataset.from_frames(log), progress=False)
    rec.save(tmp_path / "model")
    (tmp_path / "test.csv").write_text("user_id,item_id\n007,03\n7,1\n")
    (tmp_path / "more.csv").write_text("item_id,title\n1,a\n2,b\n")
    words = ("evaluate", tmp_path / "model", "--interactions", tmp_path / "test.csv", "--output", "-")
    result = run(*words, "--metrics", "recall@2", "--items", tmp_path / "more.csv")
    assert result.exit_code == 0, result.output
    assert "recall@2,1.0,0.0,2" in result.stdout  # both people are known, and two items are left for each


def test_a_fit_without_a_split_leaves_no_test_of_an_earlier_one(run: Run, folder: Path, tmp_path: Path) -> None:
    words = ("fit", folder / "log.csv", "--preset", "popularity", "--output", tmp_path / "run")
    run(*words, "--split", "random")
    assert (tmp_path / "run" / "test.parquet").exists()
    run(*words)
    assert not (tmp_path / "run" / "test.parquet").exists()
