from __future__ import annotations

import pytest

from anomalib_xray.evaluation.plan import Cell
from anomalib_xray.evaluation.report.published import family_of, published_figures, published_for
from anomalib_xray.evaluation.rows import Row


def make_cell(model: str, data: str = "Mura", **settings: object) -> Cell:
    config = {"class_path": f"anomalib_xray.models.{model}", "init_args": {"score": "discriminator", **settings}}
    return Cell("Mine", "hands", "full", False, 1, config, {"class_path": f"anomalib_xray.data.{data}"})


def make_row(score: str = "pred_score", preparation: str = "full", *, equalize: bool = False) -> Row:
    return Row("hands", preparation, equalize, "Mine", score)


def test_table_1_is_complete() -> None:
    table = [figure for figure in published_figures() if figure.source.endswith("table 1") and "MURA" in figure.data]
    # 18 rows and 6 columns; BiGAN and α-GAN were not run with equalisation on raw and cropped images.
    assert len(table) == 18 * 6 - 8 * 2
    assert len({(figure.model, figure.score) for figure in table}) == 18
    assert all(0 < figure.auroc < 1 and figure.std is not None for figure in table)


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
