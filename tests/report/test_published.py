from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.experiments.grid import SHORTCUTS, Cell, Grid, read_grid
from anomalib_xray.report.published import Published, family_of, published_figures, published_for
from anomalib_xray.report.rows import Row

CONFIGS = Path(__file__).parents[2] / "configs" / "benchmark"


def make_cell(model: str, data: str = "Mura", **settings: object) -> Cell:
    config = {"class_path": f"anomalib_xray.models.{model}", "init_args": {"score": "discriminator", **settings}}
    return Cell("Mine", "hands", "full", False, 1, config, {"class_path": f"anomalib_xray.data.{data}"})


def make_row(score: str = "pred_score", preparation: str = "full", *, equalize: bool = False) -> Row:
    return Row("hands", preparation, equalize, "Mine", score)


def test_table_1_is_complete() -> None:
    table = [figure for figure in published_figures() if figure.source.endswith("table 1") and "MURA" in figure.data]
    assert len({(figure.model, figure.score) for figure in table}) == 18
    assert len({(figure.model, figure.score, figure.preparation, figure.equalize) for figure in table}) == 18 * 6 == 108
    # BiGAN and α-GAN were not run with equalisation on raw and cropped images.
    assert sum(figure.auroc is None for figure in table) == 8 * 2
    assert {figure.figure for figure in table if figure.auroc is None} == {"–"}
    assert all(0 < figure.auroc < 1 and figure.std is not None for figure in table if figure.auroc is not None)


def beside(grid: Grid) -> list[tuple[Published, tuple[str, str, str, str, bool]]]:
    """Published figures that stand beside a row of a grid, with the row."""
    found: dict[tuple[Published, tuple[str, str, str, str, bool]], None] = {}
    for cell in grid.cells:
        scores = grid.scores.get(cell.model, ["pred_score"]) if cell.model != SHORTCUTS else []
        for place, score in enumerate(scores):
            row = Row(cell.data, cell.preparation, cell.equalize, cell.model, score)
            for figure in published_for(row, cell, is_first=not place):
                found[figure, (cell.model, score, cell.data, cell.preparation, cell.equalize)] = None
    return list(found)


def test_every_cell_of_table_1_stands_beside_one_of_ours() -> None:
    shown = [pair for pair in beside(read_grid(CONFIGS / "paper_table1.yaml")) if pair[0].source.endswith("table 1")]
    assert len(shown) == len({figure for figure, _ in shown}) == len({row for _, row in shown}) == 108
    # Written down once more from the publication.
    figures = {row: figure.figure for figure, row in shown}
    assert figures["VAE", "smooth_l1", "mura_hand", "full", True] == "0.483 ± 0.009"
    assert figures["VAE", "smooth_l1_top_k", "mura_hand", "raw", True] == "0.472 ± 0.010"
    assert figures["alpha-GAN", "discriminators_mean_probability", "mura_hand", "full", False] == "0.607 ± 0.016"
    assert figures["BiGAN", "mse", "mura_hand", "crop", True] == "–"


def test_the_table_of_dual_distributions_stands_beside_ours() -> None:
    shown = [pair for pair in beside(read_grid(CONFIGS / "ddad_table1.yaml")) if "2206.03935" in pair[0].source]
    assert len(shown) == len({figure for figure, _ in shown}) == len({row for _, row in shown}) == 24
    figures = {(*row[:3],): figure.auroc for figure, row in shown}
    assert figures["AE", "rec", "rsna"] == 0.669
    assert figures["MemAE", "rec_ensemble", "vinbigdata"] == 0.553
    assert figures["AE-U", "intra", "rsna"] == 0.873
    assert figures["AE", "inter", "rsna"] == 0.8145
    # Other pools were not published.
    other = beside(read_grid(CONFIGS / "ddad_unlabelled.yaml"))
    assert {row[0] for figure, row in other if "Dual" in figure.model} == {"D_u 4000"}


def test_the_report_s_seven_figures_stand_beside_every_part_of_mura() -> None:
    grid = read_grid(CONFIGS / "mura_all_parts.yaml")
    shown = [(figure, row) for figure, row in beside(grid) if figure.source == "Student report of a web viewer"]
    found = {row[2]: figure.auroc for figure, row in shown if row[0] == "AnoGan"}
    assert found == {
        "elbow": 0.88, "finger": 0.92, "forearm": 0.93, "hand": 0.78, "humerus": 0.91, "shoulder": 0.89, "wrist": 0.97,
    }  # fmt: skip
    assert [row[:3] for _, row in shown if row[0] == "AlphaGan"] == [("AlphaGan", "l1", "shoulder")]
    assert {"FAnoGan", "Fastflow"} <= set(grid.selection)


def test_what_cannot_be_verified_is_marked() -> None:
    unverified = {figure.source for figure in published_figures() if not figure.verified}
    assert "Student report of a web viewer" in unverified
    assert all("table 1" not in source for source in unverified)


def test_figures_match_by_model_score_and_preparation() -> None:
    cell = make_cell("AlphaGan")
    found = published_for(make_row(), cell)
    assert [figure.figure for figure in found] == ["0.607 ± 0.016", "0.600"]
    assert [figure.figure for figure in published_for(make_row(), cell, is_first=False)] == ["0.607 ± 0.016"]
    assert [figure.auroc for figure in published_for(make_row("mse", equalize=True), cell)] == [0.528]
    assert [figure.auroc for figure in published_for(make_row("mse", "crop"), cell)] == [0.466]
    assert published_for(make_row("feature_matching", "crop"), cell) == []


def test_half_of_the_squared_error_stands_beside_the_published_l1() -> None:
    cell = make_cell("Vae")
    assert [figure.auroc for figure in published_for(make_row("smooth_l1", "raw"), cell)] == [0.432]
    assert published_for(make_row("l1", "raw"), cell) == []


@pytest.mark.parametrize(
    ("model", "settings", "data", "score", "auroc"),
    [
        ("DualDistribution", {"backbone": "ae_u"}, "RsnaPneumonia", "inter", [0.91]),
        ("DualDistribution", {"backbone": "ae_u"}, "VinBigData", "inter", [0.859]),
        ("MemAe", {}, "RsnaPneumonia", "rec", [0.68]),
        ("MemAe", {}, "RsnaPneumonia", "mse", [0.68]),
        ("DualDistribution", {"backbone": "mem_ae"}, "RsnaPneumonia", "rec", [0.68]),
        ("Padim", {}, "RsnaPneumonia", "pred_score", [0.775]),
        ("Cae", {"reconstruction_loss": "perceptual"}, "RsnaPneumonia", "perceptual", [0.875]),
        ("Padim", {}, "Phantom", "pred_score", []),
        ("Padim", {}, "ChestFolder", "pred_score", []),
    ],
)
def test_families_and_names(model: str, settings: dict[str, str], data: str, score: str, auroc: list[float]) -> None:
    found = published_for(make_row(score), make_cell(model, data, **settings))
    assert [figure.auroc for figure in found] == auroc


def test_body_parts_are_not_mixed() -> None:
    cell = make_cell("AnoGan")
    cell.data_config["init_args"] = {"body_parts": "XR_WRIST"}
    assert [figure.auroc for figure in family_of(cell)] == [0.97]
    cell.data_config["init_args"] = {"body_parts": ["XR_WRIST", "XR_HAND"]}
    assert family_of(cell) == []
    cell.data_config["init_args"] = {"body_parts": "hand"}
    assert 0.78 in [figure.auroc for figure in family_of(cell)]
    assert 0.97 not in [figure.auroc for figure in family_of(cell)]
