"""The verb ``fuse`` on small tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import zscore
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.cli import main

IDENTITY = ["image_path", "source_path", "patient", "study", "label"]


def write_table(path: Path, seed: int, count: int, unit: float, images: str = "test") -> pd.DataFrame:
    """A score table as a run leaves it, in the order of its own, with scores that tell abnormal images a little."""
    random = np.random.default_rng(seed)
    label = np.arange(count) % 3 == 0
    table = pd.DataFrame(
        {
            "image_path": [f"{images}/{number:03}.png" for number in range(count)],
            "source_path": [f"raw/{images}/{number:03}.png" for number in range(count)],
            "patient": [f"patient{number // 3:03}" for number in range(count)],
            "study": "study1",
            "label": label.astype(int),
            "pred_label": 0,
            "pred_score": unit * random.normal(label, 1),
            "mse": unit * random.normal(label, 1),
        }
    ).sample(frac=1, random_state=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return table.sort_values("image_path")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Runs of two models, tested on the same images; they were validated on images of their own."""
    folders = [tmp_path / "results" / model / "Phantom" / "v0" for model in ("Cae", "Vae")]
    for seed, (folder, unit) in enumerate(zip(folders, (1e-3, 50), strict=True)):
        write_table(folder / "scores.csv", seed, 60, unit)
        write_table(folder / "val_scores.csv", 10 + seed, 40 + seed, unit, "val")
    return folders


def test_fuses_what_the_runs_left(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fused.csv"
    names = "[Cae/mse, Vae/pred_score]"
    assert main(["fuse", *map(str, runs), f"--names={names}", "--method=z_score", f"--out={out}"]) == 0
    printed = capsys.readouterr().out

    fused = pd.read_csv(out).sort_values("image_path")
    columns = [*IDENTITY, "pred_label", "pred_score", "Cae/mse", "Vae/pred_score"]
    assert fused.columns.tolist() == columns
    scaled = []
    for folder, column, name in zip(runs, ("mse", "pred_score"), columns[-2:], strict=True):
        table = pd.read_csv(folder / "scores.csv").sort_values("image_path")
        validated = pd.read_csv(folder / "val_scores.csv")
        normal = validated[column][validated["label"] == 0].to_numpy()
        np.testing.assert_allclose(fused[name], table[column])
        scaled.append((table[column].to_numpy() - normal.mean()) / normal.std())
        assert fused["image_path"].tolist() == table["image_path"].tolist()
        assert fused["label"].tolist() == table["label"].tolist()
    np.testing.assert_allclose(fused["pred_score"], np.mean(scaled, axis=0))

    patients = fused.groupby("patient").agg({"label": "max", "pred_score": "mean"})
    assert (patients["label"] == 1).all()  # every third image is abnormal, so that no patient is normal
    (row,) = (line for line in printed.splitlines() if "fused" in line and "│" in line)
    shown = [float(cell) for cell in row.split("│")[2:-1]]
    expected = (
        roc_auc_score(fused["label"], fused["pred_score"]),
        average_precision_score(fused["label"], fused["pred_score"]),
    )
    assert shown == pytest.approx(expected, abs=5e-4)


def test_the_predicted_scores_are_fused_by_default(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "fused.csv"
    assert main(["fuse", *map(str, runs), f"--out={out}"]) == 0
    assert pd.read_csv(out).columns.tolist()[-2:] == ["Cae/pred_score", "Vae/pred_score"]


def test_pictures_that_were_prepared_differently_meet_at_their_originals(runs: list[Path], tmp_path: Path) -> None:
    for name in ("scores.csv", "val_scores.csv"):
        table = pd.read_csv(runs[1] / name).assign(image_path=lambda found: "prepared/" + found["image_path"])
        # Every original has two pictures, of which the second one looks less unusual.
        second = table.assign(image_path=table["image_path"] + "_part2", pred_score=table["pred_score"] - 1000)
        pd.concat([second, table]).to_csv(runs[1] / name, index=False)
    out = tmp_path / "fused.csv"
    assert main(["fuse", *map(str, runs), "--names=[Cae/mse, Vae/pred_score]", f"--out={out}"]) == 0
    fused = pd.read_csv(out).set_index("source_path")
    single = pd.read_csv(runs[0] / "scores.csv").set_index("source_path")
    assert sorted(fused.index) == sorted(single.index)
    assert (fused["image_path"] == fused.index).all()
    np.testing.assert_allclose(fused["Cae/mse"], single["mse"][fused.index])
    both = pd.read_csv(runs[1] / "scores.csv").set_index("source_path")
    np.testing.assert_allclose(fused["Vae/pred_score"], both["pred_score"].groupby(level=0).max()[fused.index])


def test_scores_of_one_run_have_their_plain_names(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "fused.csv"
    for folder in runs:
        for file in ("scores.csv", "val_scores.csv"):
            change(folder / file, l1=pd.read_csv(folder / file)["pred_score"])
    assert main(["fuse", str(runs[0]), "--names=[mse, l1]", f"--out={out}"]) == 0
    assert pd.read_csv(out).columns.tolist()[-3:] == ["pred_score", "mse", "l1"]
    fused = pd.read_csv(out)
    assert not np.allclose(fused["pred_score"], fused["mse"])
    assert main(["fuse", str(runs[0])]) == 2


def test_runs_of_one_model_are_told_by_their_version(runs: list[Path], tmp_path: Path) -> None:
    second = runs[0].with_name("v1")
    for seed, (name, images) in enumerate((("scores.csv", "test"), ("val_scores.csv", "val"))):
        write_table(second / name, 20 + seed, 60, 1, images)
    out = tmp_path / "fused.csv"
    assert main(["fuse", str(runs[0]), str(second), "--names=[v0/mse, v1/mse]", f"--out={out}"]) == 0
    assert main(["fuse", *map(str, (runs[0], second, runs[1])), "--names=[Cae/Phantom/v1/mse]", f"--out={out}"]) == 0
    assert pd.read_csv(out).columns.tolist()[-1] == "Cae/Phantom/v1/mse"


def test_images_without_label_are_fused_and_not_measured(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in runs:
        table = pd.read_csv(folder / "scores.csv")
        table.assign(label=None).to_csv(folder / "predictions.csv", index=False)
    out = tmp_path / "fused.csv"
    assert main(["fuse", *map(str, runs), "--table=predictions.csv", f"--out={out}"]) == 0
    assert "nothing to measure" in capsys.readouterr().out
    assert pd.read_csv(out)["pred_score"].notna().all()


def change(path: Path, **columns: object) -> None:
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


def cut(path: Path) -> None:
    table = pd.read_csv(path)
    table[table["image_path"] != "test/007.png"].to_csv(path, index=False)


def flip(path: Path) -> None:
    table = pd.read_csv(path)
    table.loc[table["image_path"] == "test/007.png", "label"] = 1
    table.to_csv(path, index=False)


def double(path: Path) -> None:
    table = pd.read_csv(path)
    pd.concat([table, table[table["image_path"] == "test/007.png"]]).to_csv(path, index=False)


MISTAKES = {
    "no validation": (lambda run: (run / "val_scores.csv").unlink(), "Vae/Phantom/v0/val_scores.csv does not exist"),
    "no test": (lambda run: (run / "scores.csv").unlink(), "Vae/Phantom/v0/scores.csv does not exist"),
    "an empty file": (lambda run: (run / "scores.csv").write_text(""), "it is no score table"),
    "another table": (
        lambda run: (run / "scores.csv").write_text("a,b\n1,2\n"),
        "has no column image_path, label; it is",
    ),
    "no normal image": (lambda run: change(run / "val_scores.csv", label=1), "has no image with label 0"),
    "a constant score": (lambda run: change(run / "val_scores.csv", pred_score=1), "Vae/pred_score is constant"),
    "an image less": (lambda run: cut(run / "scores.csv"), "Vae/Phantom/v0 has no score of test/007.png"),
    "another label": (lambda run: flip(run / "scores.csv"), "disagree on the label of test/007.png"),
    "an image twice": (lambda run: double(run / "scores.csv"), "names test/007.png twice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_table_that_does_not_fit_is_one_sentence(
    mistake: str, runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, sentence = MISTAKES[mistake]
    spoil(runs[1])
    out = tmp_path / "fused.csv"
    assert main(["fuse", *map(str, runs), f"--out={out}"]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--names=[Cae/kld]"], "Cae/Phantom/v0/scores.csv has no score kld; it has pred_score, mse."),
        (["--names=[mse]"], "The score mse is of no run; call it one of Cae/mse, Vae/mse."),
        (["--method=max"], "'max' is no value for the argument method"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], sentence: str, runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuse", *map(str, runs), *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_is_named_once(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuse", str(runs[0]), str(runs[0])]) == 2
    assert "A run is named twice" in capsys.readouterr().err
    assert main(["fuse", str(runs[0]), str(runs[0].parent)]) == 2
    assert "lies within another" in capsys.readouterr().err


def test_ids_stay_text_and_have_one_form(runs: list[Path], tmp_path: Path) -> None:
    table = pd.read_csv(runs[0] / "scores.csv")
    forms = ["007", " 007", "Mu\u0308ller", "M\u00fcller "]
    table["patient"] = [forms[int(path[-7:-4]) % 4] for path in table["image_path"]]
    table.to_csv(runs[0] / "scores.csv", index=False)
    assert main(["fuse", *map(str, runs), "--names=[Cae/mse]", f"--out={tmp_path / 'f.csv'}"]) == 0
    assert set(pd.read_csv(tmp_path / "f.csv", dtype=str)["patient"]) == {"007", "M\u00fcller"}


def test_rank_is_the_default(runs: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    assert main(["fuse", *map(str, runs), f"--out={first}"]) == 0
    assert main(["fuse", *map(str, runs), "--method=rank", f"--out={second}"]) == 0
    assert first.read_text() == second.read_text()
    assert pd.read_csv(first)["pred_score"].between(0, 1).all()
    assert not np.allclose(zscore(pd.read_csv(first)["pred_score"]), 0)
