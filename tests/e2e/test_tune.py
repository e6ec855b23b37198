"""A small search by the real command: it goes on, failures are rows, and test images are never read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from anomalib_xray.cli import main
from anomalib_xray.data import Phantom

pytestmark = pytest.mark.slow

BASE = {
    "model": {
        "class_path": "anomalib_xray.models.Nmf",
        "init_args": {"image_size": 64, "resolution": 16, "components": 4},
    },
    "data": {"class_path": "anomalib_xray.data.Phantom", "init_args": {"patients": 20, "num_workers": 0}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
}
SEARCH = {
    "base": "base.yaml",
    "ranges": {
        "model.init_args.components": {"int": [2, 6]},
        "model.init_args.score": {"choice": ["mse", "no_such_score"]},
    },
    "objective": {"selection": "label-free", "measure": "painted_AUROC"},
    "seed": 1,
}


def test_a_search_goes_on_and_reads_no_test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(yaml.safe_dump(BASE))
    Path("search.yaml").write_text(yaml.safe_dump(SEARCH))
    data = Phantom(patients=20)
    data.prepare_data()
    samples = data.samples
    for path in samples.loc[samples["split"] == "test", "image_path"]:
        Path(path).write_bytes(b"whoever reads this fails")

    command = ["tune", "--config", "search.yaml", "--out", "out"]
    main([*command, "--trials", "1"])
    first = pd.read_csv("out/trials.csv")
    assert len(first) == 1
    assert main([*command, "--trials", "2"]) == 1
    table = pd.read_csv("out/trials.csv")
    pd.testing.assert_frame_equal(table.head(1), first, check_dtype=False)
    assert sorted(set(table["status"])) == ["done", "failed"]
    failed, done = table[table["status"] == "failed"], table[table["status"] == "done"]
    assert failed["reason"].str.startswith("score is 'no_such_score', but Nmf computes").all()
    assert set(failed["model.init_args.score"]) == {"no_such_score"}
    assert done["value"].between(0, 1).all()
    assert not list(Path("out").rglob("*.ckpt"))

    best = yaml.safe_load(Path("out/best.yaml").read_text())
    chosen = done.loc[done["value"].idxmax()]
    assert best["model"]["init_args"]["components"] == chosen["model.init_args.components"]
    assert best["data"] == BASE["data"]
    assert "no abnormal image was used, and no test image" in capsys.readouterr().out
