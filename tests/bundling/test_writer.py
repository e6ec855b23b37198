from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from anomalib.models import AnomalibModule

from anomalib_xray import NOTICE
from anomalib_xray.bundling import writer
from anomalib_xray.bundling.images import Sample
from anomalib_xray.bundling.writer import Request, write_bundle
from anomalib_xray.cli import main
from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.edge.predictor import open_predictor
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph, to_unit_interval
from anomalib_xray.models import Cae
from anomalib_xray.preparation.pipeline import Pipeline

THRESHOLD = 0.25


@pytest.fixture(scope="module")
def small_cae(bundling_cae: Callable[..., Cae]) -> Cae:
    torch.manual_seed(0)
    return bundling_cae(threshold=THRESHOLD)


@pytest.fixture(scope="module")
def written(
    small_cae: Cae,
    phantom_samples: list[Sample],
    save_checkpoint: Callable[[AnomalibModule, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A bundle that the command made of a checkpoint and a table, with a preparation."""
    folder = tmp_path_factory.mktemp("written")
    rows = "".join(f"{sample.path},{sample.label},{sample.path.stem}\n" for sample in phantom_samples)
    (folder / "table.csv").write_text(f"image_path,label,patient\n{rows}")
    (folder / "pipeline.yaml").write_text("steps:\n  - resize: {longest_side: 64}\n")
    checkpoint = save_checkpoint(small_cae, folder / "model.ckpt")
    arguments = ["--checkpoint", checkpoint, "--images", folder / "table.csv", "--out", folder / "bundle"]
    arguments += ["--preparation", folder / "pipeline.yaml", "--note", "phantom hands", "--licence", "Apache-2.0"]
    assert main(["bundle", *map(str, arguments)]) == 0
    return folder / "bundle"


def expected_scores(model: Cae, samples: list[Sample]) -> np.ndarray:
    """The default score of every prepared image, by torch and by hand."""
    pipeline = Pipeline([{"resize": {"longest_side": 64}}])
    scores = []
    for sample in samples:
        (prepared,) = pipeline.prepare(read_radiograph(sample.path))
        image = torch.from_numpy(to_unit_interval(prepared.image))[None, None].repeat(1, 3, 1, 1)
        with torch.no_grad():
            scores.append(model.model(model.pre_processor(image)).scores["mse_top_k"].item())
    return np.array(scores)


def test_it_says_what_its_numbers_mean(written: Path, small_cae: Cae, phantom_samples: list[Sample]) -> None:
    manifest = json.loads((written / "bundle.json").read_text())
    assert (manifest["format"], manifest["model"], manifest["notice"]) == (4, "Cae", NOTICE)
    sides = [side for sample in phantom_samples for side in read_radiograph(sample.path).shape]
    assert manifest["scope"] == {"body_parts": [], "views": [], "sides": [min(sides), max(sides)]}
    assert manifest["settings"]["width"] == 4
    assert manifest["settings"]["padding"] == "centred"
    scores = expected_scores(small_cae, phantom_samples)[::2]  # every second one is abnormal
    np.testing.assert_allclose(
        manifest["distribution"]["mse_top_k"], np.quantile(scores, np.linspace(0, 1, 101)), rtol=1e-4
    )
    assert manifest["thresholds"]["mse_top_k"] == pytest.approx(THRESHOLD)
    for name in ("mse", "l1_top_k"):
        assert manifest["thresholds"][name] == pytest.approx(manifest["distribution"][name][95])
    assert manifest["pixel_threshold"] == pytest.approx(THRESHOLD / 2)
    assert manifest["map_limits"][0] == 0
    assert manifest["normalization"] is None
    assert {key: manifest["data"][key] for key in ("images", "normal", "abnormal", "note", "licence")} == {
        "images": 8,
        "normal": 4,
        "abnormal": 4,
        "note": "phantom hands",
        "licence": "Apache-2.0",
    }
    assert manifest["data"]["normal_patients"] == 4  # fmt: skip


def test_agreement_is_measured_for_every_form(written: Path) -> None:
    precisions = json.loads((written / "bundle.json").read_text())["precisions"]
    fp32, fp16, int8 = (precisions[name] for name in ("fp32", "fp16", "int8"))
    assert fp32["parity"].keys() == {"onnx", "openvino_f32", "openvino_default"}
    for form in ("onnx", "openvino_f32"):
        assert fp32["parity"][form]["passed"]
        assert fp32["parity"][form]["images"] == 8
    assert 0 < fp16["parity"]["fp16"]["score"] < 1e-2
    assert int8["parity"]["int8"]["score"] > fp16["parity"]["fp16"]["score"]
    assert all(0 <= entry["auroc"] <= 1 for entry in (fp32, fp16, int8))
    assert int8["accepted"] == (fp32["auroc"] - int8["auroc"] <= 0.005)
    assert int8["accepted"] == (written / "int8" / "model.xml").is_file() == (int8["reason"] is None)


def test_the_card_says_what_a_reader_must_know(written: Path) -> None:
    card = (written / "README.md").read_text()
    for text in (NOTICE, "phantom hands", "Apache-2.0", "mse_top_k", "the checkpoint's validation", "openvino_f32"):
        assert text in card
    for text in ("trained on pictures of unknown preparation", "**model.ckpt does not say", "Body parts: not known"):
        assert text in card
    assert "Percentiles are of 4 normal patients: a share below 20 % means nothing." in card
    assert "Apache License" in (written / "LICENSE").read_text()


def test_a_device_opens_it_and_answers_as_torch(written: Path, small_cae: Cae, phantom_samples: list[Sample]) -> None:
    predictor = open_predictor(written)
    expected = expected_scores(small_cae, phantom_samples)
    for sample, value in zip(phantom_samples[:2], expected, strict=False):
        result = predictor.predict(read_radiograph(sample.path))
        assert result.value == pytest.approx(value, rel=1e-4)
        assert result.threshold == pytest.approx(THRESHOLD)
        assert result.is_anomalous == (result.value >= THRESHOLD)
    assert open_predictor(written, precision="fp16").predict(read_radiograph(sample.path)).value == pytest.approx(
        value, rel=1e-2
    )


@pytest.mark.parametrize("name", ["fp32/model.bin", "preparation/pipeline.yaml", "README.md"])
def test_a_changed_file_is_noticed(name: str, written: Path) -> None:
    content = (written / name).read_bytes()
    try:
        (written / name).write_bytes(content[:-1] + b"!")
        with pytest.raises(XrayError, match="is not what it was"):
            Bundle.open(written)
    finally:
        (written / name).write_bytes(content)


def test_an_interruption_leaves_nothing(
    small_cae: Cae, phantom_samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "prepare_samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(small_cae, Request(phantom_samples, None, False, "", ""), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_nothing_is_left(
    small_cae: Cae, phantom_samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        # As torch's exporter writes it, without a number.
        raise XrayError("The model cannot be exported: element 1024.") from OSError("4096 requested and 1024 written")

    monkeypatch.setattr(writer.Variants, "of", full)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024))
    with pytest.raises(XrayError, match=f"The disk of {re.escape(str(tmp_path))} is full"):
        write_bundle(small_cae, Request(phantom_samples[:1], None, False, "", ""), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_a_promise_for_too_few_patients_is_refused(
    small_cae: Cae, phantom_samples: list[Sample], tmp_path: Path
) -> None:
    request = Request(phantom_samples, None, False, "", "", false_alarms=0.05)
    with pytest.raises(
        XrayError, match=r"With 4 normal .* validate on 19 or more, or set false_alarms to 0\.2 or more"
    ):
        write_bundle(small_cae, request, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_abnormal_images_alone_are_refused(small_cae: Cae, phantom_samples: list[Sample], tmp_path: Path) -> None:
    abnormal = [sample for sample in phantom_samples if sample.label == 1]
    with pytest.raises(XrayError, match="needs normal ones"):
        write_bundle(small_cae, Request(abnormal, None, False, "", ""), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--checkpoint", "nowhere.ckpt"], "nowhere.ckpt is no file"),
        (["--checkpoint", "model.ckpt", "--out", "full"], "full exists already"),
        (["--checkpoint", "model.ckpt", "--false_alarms", "5"], "false_alarms is 5"),
        (["--checkpoint", "model.ckpt"], "model.ckpt is no checkpoint of a model"),
        (["--checkpoint", "model.ckpt", "--images", "nothing"], "There is no nothing"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.ckpt").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    out = [] if "--out" in arguments else ["--out", "bundle"]
    assert main(["bundle", *arguments, *out]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1


def test_a_shared_bundle_has_a_card_for_hubs_and_weights_for_torch(
    small_cae: Cae, phantom_samples: list[Sample], tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard
    from safetensors import safe_open

    from anomalib_xray import models

    folder = tmp_path / "bundle"
    about = write_bundle(
        small_cae, Request(phantom_samples[:2], None, False, "owner/hands", "CC-BY-4.0", shared=True), folder
    )
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.license, card.data.datasets) == ("anomalib", "cc-by-4.0", ["owner/hands"])
    assert {"anomaly-detection", "radiograph", "cae"} <= set(card.data.tags or ())
    (result,) = [one for one in card.data.eval_results or () if "fp32" in str(one.metric_name)]
    assert (result.metric_type, result.dataset_name) == ("roc_auc", "owner/hands")
    assert result.metric_value == pytest.approx(about.precisions["fp32"].auroc, abs=1e-4)
    assert NOTICE in card.text

    # As the card says.
    with safe_open(folder / "model.safetensors", "pt") as file:
        said = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    model = getattr(models, said["model"])(**json.loads(said["settings"])).eval()
    model.load_state_dict(weights)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, value in small_cae.model(image).scores.items():
            torch.testing.assert_close(model.model(image).scores[name], value)

    # What a hub and its users do to a folder does not matter; all else does.
    digest = Bundle.open(folder).digest
    (folder / "README.md").write_text("Changed on a hub.\n")
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "lock").write_text("")
    assert Bundle.open(folder).digest == digest
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(XrayError, match=r"model\.safetensors is not what it was"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("given", "head"),
    [("MIT", "license: mit"), ("Stanford research use", "license_name: stanford-research-use"), ("", "not-stated")],
)
def test_other_licences_have_a_name(given: str, head: str, written: Path) -> None:
    from huggingface_hub import ModelCard

    from anomalib_xray.bundling.card import model_card
    from anomalib_xray.edge.description import read_description

    about = read_description(written / "bundle.json")
    changed = msgspec.structs.replace(about, data=msgspec.structs.replace(about.data, licence=given, note="two words"))
    text = model_card(changed, shared=True)
    assert head in text
    data = ModelCard(text).data
    assert data.datasets is None
    assert (data.license == "other") == (data.license_name is not None)
