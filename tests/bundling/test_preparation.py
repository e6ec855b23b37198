from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from anomalib.models import AnomalibModule

from anomalib_xray.bundling import writer
from anomalib_xray.bundling.graph import ScoreGraph
from anomalib_xray.bundling.images import PreparedSample, Sample, prepare_samples
from anomalib_xray.bundling.normal_scores import NormalValues, Promise, statistics_of, threshold_origin
from anomalib_xray.bundling.preparation import choose_preparation, copy_pipeline
from anomalib_xray.bundling.writer import Request
from anomalib_xray.cli import main
from anomalib_xray.data import Radiographs
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.models import Cae
from anomalib_xray.phantom import render_phantom
from anomalib_xray.preparation.networks import SHIPPED_MODEL
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.runner import run
from anomalib_xray.preparation.sources import find_sources
from anomalib_xray.training.checkpoint import load_model

CHECKPOINT = Path("model.ckpt")
RAW = {"prepared": False, "pipeline": None}
ELSEWHERE = {"prepared": True, "pipeline": None}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    for side in (32, 64):
        (folder / f"{side}.yaml").write_text(f"steps:\n  - resize: {{longest_side: {side}}}\n")
    return folder


@pytest.fixture(scope="module")
def prepared_by_32(pipelines: Path) -> dict[str, Any]:
    return {"prepared": True, "pipeline": Pipeline.load(pipelines / "32.yaml").as_json()}


def side_of(pipeline: Pipeline | None) -> int | None:
    return None if pipeline is None else pipeline.prepare(np.ones((100, 80), np.uint8))[0].image.shape[0]


def test_the_preparation_of_the_training_is_taken_by_default(prepared_by_32: dict[str, Any], pipelines: Path) -> None:
    chosen = choose_preparation(CHECKPOINT, prepared_by_32, None, recompute=False)
    assert (side_of(chosen.pipeline), chosen.warning) == (32, "")
    assert chosen.trained_on == "radiographs prepared by resize"
    counted = prepared_by_32 | {"body_parts": {"hand": 3, "leg": 1}}
    told = choose_preparation(CHECKPOINT, counted, None, recompute=False).trained_on
    assert told == "radiographs (recognised as hand 3, leg 1) prepared by resize"
    given = choose_preparation(CHECKPOINT, prepared_by_32, pipelines / "32.yaml", recompute=False)
    assert (side_of(given.pipeline), given.warning) == (32, "")
    raw = choose_preparation(CHECKPOINT, RAW, None, recompute=False)
    assert (raw.pipeline, raw.warning, raw.trained_on) == (None, "", "radiographs as they are")


@pytest.mark.parametrize("memory", ["raw", "elsewhere", "32"])
def test_another_preparation_is_refused_unless_all_numbers_are_taken_anew(
    memory: str, prepared_by_32: dict[str, Any], pipelines: Path
) -> None:
    known = {"raw": RAW, "elsewhere": ELSEWHERE, "32": prepared_by_32}[memory]
    with pytest.raises(XrayError, match=r"model\.ckpt was trained on .*64\.yaml is another.*--recompute") as caught:
        choose_preparation(CHECKPOINT, known, pipelines / "64.yaml", recompute=False)
    assert str(caught.value).count(". ") == 0
    chosen = choose_preparation(CHECKPOINT, known, pipelines / "64.yaml", recompute=True)
    assert side_of(chosen.pipeline) == 64
    assert "taken anew" in chosen.warning


def test_prepared_pictures_may_be_asked_for(prepared_by_32: dict[str, Any]) -> None:
    for memory in (prepared_by_32, ELSEWHERE):
        chosen = choose_preparation(CHECKPOINT, memory, Path("none"), recompute=False)
        assert chosen.pipeline is None
        assert "give it such pictures" in chosen.warning
    assert choose_preparation(CHECKPOINT, RAW, Path("none"), recompute=False).warning == ""


def test_steps_that_changed_since_are_refused(prepared_by_32: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (step,) = Pipeline(prepared_by_32["pipeline"]["steps"]).steps
    monkeypatch.setattr(type(step.step), "version", 99)
    with pytest.raises(XrayError, match="have changed since"):
        choose_preparation(CHECKPOINT, prepared_by_32, None, recompute=False)


def test_a_preparation_that_cannot_be_built_is_told(prepared_by_32: dict[str, Any]) -> None:
    pipeline = prepared_by_32["pipeline"] | {"steps": [{"of_a_plugin": {}}]}
    with pytest.raises(XrayError, match=r"of_a_plugin.*name it with --preparation"):
        choose_preparation(CHECKPOINT, prepared_by_32 | {"pipeline": pipeline}, None, recompute=False)


@pytest.mark.parametrize("given", [None, "64.yaml"])
def test_an_older_checkpoint_goes_on_as_asked_with_a_warning(given: str | None, pipelines: Path) -> None:
    chosen = choose_preparation(CHECKPOINT, None, given and pipelines / given, recompute=False)
    assert (chosen.pipeline is None) == (given is None)
    assert "does not say how its training data were prepared" in chosen.warning
    assert choose_preparation(CHECKPOINT, None, None, recompute=True).warning == ""


def data(root: Path, **settings: Any) -> Radiographs:
    return Radiographs(root / "table.csv", root, **settings)


def test_a_datamodule_says_how_its_pictures_were_prepared(pipelines: Path, tmp_path: Path) -> None:
    root, out, other = tmp_path / "raw", tmp_path / "prepared", tmp_path / "other"
    write_png(root / "a.png", np.full((50, 40), 9, np.uint8))
    write_png(other / "a.png", np.full((50, 40), 9, np.uint8))
    run(Pipeline.load(pipelines / "32.yaml"), root, out, find_sources(root, out))
    assert data(root).preparation == RAW
    assert data(root, prepared_root=other).preparation == ELSEWHERE
    for module in (data(root, prepared_root=out), data(out)):
        remembered = module.preparation
        assert remembered["prepared"]
        assert remembered["pipeline"]["fingerprints"] == Pipeline.load(pipelines / "32.yaml").fingerprints("")


@pytest.fixture(scope="module")
def remembering(
    bundling_cae: Callable[..., Cae],
    prepared_by_32: dict[str, Any],
    save_checkpoint: Callable[[AnomalibModule, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A checkpoint of a model that was trained on prepared pictures, and trained on from another checkpoint of it."""
    folder = tmp_path_factory.mktemp("remembering")
    model = bundling_cae(threshold=0.25)
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(preparation=prepared_by_32))
    content: dict[str, Any] = {}
    model.on_save_checkpoint(content)
    model._trainer = None
    assert content["preparation"] == prepared_by_32
    return save_checkpoint(model, folder / "model.ckpt")


def test_a_checkpoint_remembers_it_and_is_loaded_safely(remembering: Path, prepared_by_32: dict[str, Any]) -> None:
    assert load_model(remembering).training_preparation == prepared_by_32


def test_the_command_takes_it_and_says_what_it_was_made_for(
    remembering: Path,
    phantom_samples: list[Sample],
    pipelines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    requests: list[Request] = []

    def note(_: object, request: Request, __: Path) -> SimpleNamespace:
        requests.append(request)
        return SimpleNamespace(precisions={})

    monkeypatch.setattr(writer, "write_bundle", note)
    common = ["bundle", "--checkpoint", str(remembering), "--out", str(tmp_path / "b")]
    common += ["--images", str(phantom_samples[0].path.parent)]
    assert main([*common, "--body_part", "hand", "--view", "DP", "--view", "Lateral"]) == 0
    assert side_of(requests[0].pipeline) == 32
    assert (requests[0].body_parts, requests[0].views) == (("HAND",), ("LAT", "PA"))
    assert main([*common, "--preparation", str(pipelines / "64.yaml")]) == 2
    assert "64.yaml is another preparation" in capsys.readouterr().err
    assert main([*common, "--preparation", str(pipelines / "64.yaml"), "--recompute", "true"]) == 0
    assert (side_of(requests[1].pipeline), requests[1].recompute) == (64, True)
    assert "Warning: The model was trained on radiographs prepared by resize" in capsys.readouterr().err
    assert main([*common, "--body_part", "DOE"]) == 2
    assert "'DOE' is no body part" in capsys.readouterr().err


@pytest.mark.parametrize("recompute", [False, True])
def test_numbers_taken_anew_follow_the_models_own_quantiles(bundling_cae: Callable[..., Cae], recompute: bool) -> None:
    model = bundling_cae(threshold=0.25)
    model.post_processor.image_quantile, model.post_processor.pixel_quantile = 0.25, 0.5
    values = NormalValues(scores=[np.array([level, 10 * level]) for level in (1.0, 2.0, 3.0, 4.0, 5.0)])
    values.add_map(np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((3, 4), bool))
    names = ["mse_top_k", "mse"]
    statistics = statistics_of(model, names, values, recompute=recompute)
    assert statistics["thresholds"] == pytest.approx({"mse_top_k": 2.0 if recompute else 0.25, "mse": 20.0})
    assert statistics["pixel_threshold"] == pytest.approx(5.5 if recompute else 0.125)
    assert statistics["map_limits"] == (0, 11)
    anew = "25 % of the normal images lie below"
    origin = threshold_origin(model, names, recompute=recompute)
    assert origin == {"mse_top_k": anew if recompute else "the checkpoint's validation", "mse": anew}


@pytest.mark.parametrize("asked", [None, 0.25])
def test_a_promise_is_the_models_own_or_the_one_that_is_asked_for(
    bundling_cae: Callable[..., Cae], asked: float | None
) -> None:
    model = bundling_cae(threshold=0.25)
    model.post_processor.false_alarms = 0.5
    levels = np.array([1.0, 4.0, 2.0, 3.0, 9.0, 5.0])
    scores = np.stack([levels, 10 * levels], axis=1)
    patients = ["a", "a", "b", "c", "d", "d"]  # the last is abnormal, so that the normal patients have 4, 2 and 3
    samples = [PreparedSample(Path(str(n)), int(n == 5), patient=one) for n, one in enumerate(patients)]
    promise = Promise.of(model, asked, samples, scores)
    values = NormalValues(scores=list(scores[:5]))
    names = ["mse_top_k", "mse"]
    found = statistics_of(model, names, values, recompute=False, promise=promise)["thresholds"]
    origin = threshold_origin(model, names, recompute=False, promise=promise)
    if asked:
        assert found == pytest.approx({"mse_top_k": 4, "mse": 40})  # ceil(4 * 0.75) = 3rd of 3
        assert set(origin.values()) == {"at most 25 % of new normal patients reach it, by 3 normal patients"}
    else:
        assert found == pytest.approx({"mse_top_k": 0.25, "mse": 30})  # the 2nd
        assert origin["mse_top_k"] == "the checkpoint's validation: at most 50 % of new normal patients reach it"
    assert found["mse"] > (40 if asked else 30)
    model.post_processor.false_alarms = None
    assert Promise.of(model, None, samples, scores) is None


def test_radiographs_say_what_they_show(tmp_path: Path, pipelines: Path) -> None:
    samples = []
    for number in range(2):
        path = tmp_path / "XR_HAND" / "a" / f"{number}.png"
        write_png(path, np.full((100 + number, 80), 9, np.uint8))
        samples.append(Sample(path, 0))
    # A prepared picture whose path says nothing is known by its original.
    plain = tmp_path / "plain.png"
    write_png(plain, np.full((90, 80), 9, np.uint8))
    samples.append(Sample(plain, 0, samples[0].path))
    for pipeline in (None, Pipeline.load(pipelines / "32.yaml")):
        found = prepare_samples(samples, pipeline, tmp_path / "work")
        assert Scope.of([one.tags for one in found], [one.shape for one in found]) == Scope(("HAND",), (), (80, 101))


def test_the_foreground_of_a_map_is_where_the_pre_processed_image_shows_something(
    bundling_cae: Callable[..., Cae],
) -> None:
    image = np.zeros((64, 32), np.float32)
    image[16:48, 8:24] = 0.5
    expected = np.zeros((64, 64), bool)
    expected[16:48, 24:40] = True  # the image is padded to a square on both sides
    np.testing.assert_array_equal(ScoreGraph(bundling_cae()).foreground(image, (64, 64)), expected)


def test_a_model_of_a_step_comes_along_and_the_pixels_are_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "models").mkdir(parents=True)
    for ending in (".xml", ".bin"):
        shutil.copyfile(SHIPPED_MODEL.with_suffix(ending), (source / "models" / "mine").with_suffix(ending))
    (source / "pipeline.yaml").write_text(
        "steps:\n  - foreground: {method: network, model: models/mine.xml}\n  - resize: {longest_side: 128}\n"
    )
    pipeline = Pipeline.load(source / "pipeline.yaml")
    image = render_phantom(np.random.default_rng(1)).image
    expected = pipeline.prepare(image)[0].image

    path = copy_pipeline(pipeline, tmp_path / "bundle")
    shutil.rmtree(source)
    steps = yaml.safe_load(path.read_text())["steps"]
    assert steps[0]["foreground"]["model"] == "1_foreground/mine.xml"
    assert (tmp_path / "bundle" / "1_foreground" / "mine.bin").is_file()
    # Defaults stand there too, so that a later version prepares alike.
    assert {"method", "model_output"} <= steps[0]["foreground"].keys()
    np.testing.assert_array_equal(Pipeline.load(path).prepare(image)[0].image, expected)


def test_masks_of_known_images_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "masks" / "a.png", np.ones((4, 4), np.uint8))
    pipeline = Pipeline([{"foreground": {"method": "masks", "masks": str(tmp_path / "masks")}}])
    with pytest.raises(XrayError, match="belongs to known images"):
        copy_pipeline(pipeline, tmp_path / "bundle")
