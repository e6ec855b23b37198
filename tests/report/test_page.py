"""The page as a whole: it needs nothing from outside, and nobody's names become markup."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from anomalib_xray.experiments.grid import SHORTCUTS, Cell, Grid
from anomalib_xray.report import page
from anomalib_xray.report.facts import config_of, facts_of, failures_of
from anomalib_xray.report.page import write_report
from anomalib_xray.report.page_tables import alarm_table, pixel_table
from anomalib_xray.report.parts import parts_of
from anomalib_xray.report.results import CellOutputs, read_rows
from anomalib_xray.report.rows import Row

VOID = {"meta", "br", "img", "link", "input", "hr"}
TEMPLATES = Path(page.__file__).parent / "templates"


class Parsed(HTMLParser):
    """Collects the tags of a page, and its text without scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page_of(grid: Grid, out: Path) -> Parsed:
    outputs = CellOutputs(grid, out)
    return Parsed(write_report(read_rows(outputs), outputs, out).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def html(rows: list[Row], grid: Grid, out: Path) -> str:
    return write_report(rows, CellOutputs(grid, out), out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(html: str) -> Parsed:
    return Parsed(html)


def test_tags_are_balanced_and_ids_unique(parsed: Parsed) -> None:
    assert parsed.open == []
    ids = Counter(attributes["id"] for _, attributes in parsed.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    targets = {str(attributes["href"])[1:] for attributes in parsed.all("a")}
    assert targets <= set(ids)
    assert len(targets) == 22  # 19 sections and the cases of a model on three parts


def test_nothing_is_loaded(html: str, parsed: Parsed) -> None:
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r"@import|url\(", html)
    for tag, attributes in parsed.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        assert all(str(attributes.get(name, "data:")).startswith("data:") for name in ("src", "srcset", "data"))
        assert str(attributes.get("href", "#")).startswith("#")


def test_names_are_text_and_only_our_script_may_run(html: str, parsed: Parsed) -> None:
    assert len(parsed.all("script")) == 1
    assert "<script>alert" not in html
    assert "A comparison <script>alert(1)</script>" in parsed.text
    assert "RuntimeError: <script>alert(1)</script>" in parsed.text
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [str(one["content"]) for one in parsed.all("meta") if one.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_no_figure_is_missing_where_one_is_shown(html: str, parsed: Parsed) -> None:
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", parsed.text, re.IGNORECASE)
    drawings = [value for _, one in parsed.tags for name, value in one.items() if name in ("d", "cx", "cy", "viewbox")]
    assert len(drawings) > 100
    assert not [value for value in drawings if re.search("nan|inf", str(value))]
    assert len(html) < 8_000_000


def test_it_can_be_read_by_those_who_do_not_see_it(parsed: Parsed) -> None:
    assert all(attributes.get("alt") for attributes in parsed.all("img"))
    assert len(parsed.all("img")) == 6
    assert all(one.get("aria-label") or one.get("aria-hidden") for one in parsed.all("svg"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    (document,) = parsed.all("html")
    assert document["lang"] == "en"


def _luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out(scheme: int) -> None:
    css = (TEMPLATES / "style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]))
    assert len(colours) == 19

    def contrast(first: str, second: str) -> float:
        light, dark = sorted((_luminance(colours[first]), _luminance(colours[second])), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for text in ("ink", "quiet", "accent", "warning", "better", "worse"):
        assert contrast(text, "paper") >= 4.5, text
        assert contrast(text, "raised") >= 4.5, text
    assert contrast("warning", "warning-paper") >= 4.5
    for line in ("s1", "s2", "s3", "s4", "s5", "base", "normal", "abnormal"):  # WCAG 2.2, 1.4.11
        assert contrast(line, "paper") >= 3, line


def test_every_part_has_its_figures(parsed: Parsed) -> None:
    text = parsed.text
    assert text.count("Research use only. Not a medical device.") == 3
    for title in ("hands, raw", "hands, raw, equalised", "chest, full"):
        assert f"{title} 60 test images of 30 patients, 33.3% abnormal; 3 models" in text
    for heading in (
        "What was found", "Rules of this comparison", "Beside published figures", "ROC and precision-recall curves",
        "How many pixels make a score", "How many images to train on", "Where the anomaly is", "Best and worst cases",
        "False alarms", "Percentiles", "Decisions at the shipped threshold", "Who is in it", "Groups of images",
        "Intervals, checked without draws", "Checklist for authors and reviewers", "What it costs", "What failed",
        "The run",
    ):  # fmt: skip
        assert heading in text, heading
    assert "Not in this report" not in text
    assert "The picture is missing." in text
    assert "pixel AUROC AUPRO best Dice hottest pixel hits Cae 0.815 ± 0.007 0.500" in text
    assert "as published : settings as published" in text


def test_the_same_results_make_the_same_file(rows: list[Row], grid: Grid, out: Path, html: str) -> None:
    assert write_report(rows, CellOutputs(grid, out), out).read_text(encoding="utf-8") == html


def test_what_no_cell_left_is_named(tmp_path: Path, grid: Grid, finish_cell: Callable[..., None]) -> None:
    cells = [cell for cell in grid.cells if cell.data == "chest" and cell.model in (SHORTCUTS, "Wrong")]
    small = replace(grid, cells=cells, curve_cells=[], baseline=None, scores={})
    for cell in cells:
        finish_cell(tmp_path, cell, evidence=False)
    parsed = page_of(small, tmp_path)
    _, absent = parsed.text.split("Not in this report")
    for beginning in ("AUROC against k:", "AUROC against training size:", "Pixel figures:", "Best and worst cases:"):
        assert beginning in absent
    assert "AUROC against GFLOP:" in absent
    assert "Beside published figures" not in parsed.text
    assert "What failed" not in parsed.text


def test_a_test_of_one_class_is_named(tmp_path: Path, grid: Grid, finish_cell: Callable[..., None]) -> None:
    cells = [cell for cell in grid.cells if cell.data == "chest" and cell.model in (SHORTCUTS, "Cae")]
    small = replace(grid, cells=cells, curve_cells=[], baseline=None)
    for cell in cells:
        finish_cell(tmp_path, cell, one_class=True)
    parsed = page_of(small, tmp_path)
    assert "Cae has no figures: its test has one class only." in parsed.text
    assert "ROC and precision-recall curves: no model has both classes" in parsed.text


def test_a_grid_that_has_not_run_has_a_report(tmp_path: Path, grid: Grid) -> None:
    parsed = page_of(grid, tmp_path)
    assert "0 of 44 done, 0 failed, 44 not run" in parsed.text
    assert "No model has figures yet." in parsed.text


def test_pictures_beyond_the_space_are_counted(
    tmp_path: Path, rows: list[Row], grid: Grid, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PICTURE_BYTES", 60_000)
    monkeypatch.setattr(page, "REPORT", str(tmp_path / "small.html"))
    text = write_report(rows, CellOutputs(grid, out), out).read_text(encoding="utf-8")
    shown = len(Parsed(text).all("img"))
    assert 0 < shown < 6
    assert f"{9 - shown - text.count('The picture is missing')} pictures are left out" in text


def test_failures_are_named_with_their_reason(grid: Grid, out: Path) -> None:
    failures = failures_of(CellOutputs(grid, out))
    assert [(failure.where, failure.seed) for failure in failures[:3]] == [
        ("hands, raw, Broken", 1),
        ("hands, raw, Broken", 2),
        ("hands, raw, equalised, Broken", 1),
    ]
    assert len(failures) == 6
    assert failures[0].reason.startswith("RuntimeError: ")


def test_facts_count_what_was_run(grid: Grid, out: Path) -> None:
    facts = facts_of(CellOutputs(grid, out))
    assert facts["Cells"] == "32 of 44 done, 6 failed, 6 not run"
    assert facts["Seeds of the models"] == "1, 2"
    assert facts["Training, all cells"] == "5.0 minutes"
    assert (facts["Threads a cell"], facts["torch"], facts["Baseline"]) == ("1", "2", "Padim")


def test_facts_of_nothing(tmp_path: Path, grid: Grid) -> None:
    facts = facts_of(CellOutputs(grid, tmp_path))
    assert facts["Results from"] == "none yet"
    assert facts["Machine"] == "not recorded"


def test_the_settings_are_yaml(grid: Grid) -> None:
    content = yaml.safe_load(config_of(grid))
    assert content["models"]["Cae"] == {
        "class_path": "anomalib_xray.models.Cae",
        "init_args": {"score": "mse"},
        "trainer": {"max_epochs": 3},
        "scores": ["mse", "l1"],
        "selection": "label-free",
    }
    assert content["data"]["hands"]["class_path"] == "anomalib_xray.data.Mura"
    assert content["training_sizes"] == [10, 20]
    assert "&id" not in config_of(grid)


def test_data_of_a_model_s_own_are_among_its_settings(grid: Grid) -> None:
    def changed(cell: Cell) -> Cell:
        data = {**cell.data_config, "init_args": {**cell.data_config["init_args"], "train_batch_size": 80}}
        return replace(cell, data_config=data) if cell.model == "Cae" else cell

    content = yaml.safe_load(config_of(replace(grid, cells=[changed(cell) for cell in grid.cells])))
    assert content["models"]["Cae"]["data"] == {"train_batch_size": 80}
    assert "data" not in content["models"]["Padim"]
    assert "train_batch_size" not in content["data"]["hands"]["init_args"]


def test_false_alarms_are_those_of_normal_patients_at_a_rank_of_others(grid: Grid, out: Path, rows: list[Row]) -> None:
    outputs, part = CellOutputs(grid, out), parts_of(rows, grid)[0]
    table = alarm_table(part, outputs)
    assert table is not None
    (entries,) = table.rows  # only this model left the scores of its validation
    row = next(row for row in part.leaders if row.model == "Cae")
    for entry, rank in zip(entries[2:], (20, 19), strict=True):  # ceil(21 * .95), ceil(21 * .9) of 20 normal patients
        shares = []
        for cell in part.cells["Cae"]:
            validation, test = (
                scores[scores["label"] == 0].groupby("patient")[row.score.replace("pred_score", "mse")].max()
                for scores in (pd.read_csv(outputs.folder(cell) / name) for name in ("val_scores.csv", "scores.csv"))
            )
            shares.append((test > validation.sort_values().iloc[rank - 1]).mean())
        assert entry.order == pytest.approx(np.mean(shares))
    assert table.notes == ["20 normal patients validate, 20 test."]
    pixel = pixel_table(part)
    assert pixel is not None
    assert pixel.header[-1] == "hottest pixel hits"
