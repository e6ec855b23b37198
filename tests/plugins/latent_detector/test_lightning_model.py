from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
import yaml

from anomalib_xray.detectors import DetectorBank
from anomalib_xray.errors import XrayError
from anomalib_xray.models import LatentDetector
from anomalib_xray_plugins.latent_detector.encoder import BackboneEncoder

CONFIGS = Path(__file__).parents[3] / "configs"

SMALL: dict[str, Any] = {"image_size": 64, "backbone": "test_byobnet", "layers": [1]}


def test_settings_reach_the_detectors() -> None:
    model = LatentDetector(
        **SMALL, detectors=["knn", "dbscan"], components=3, whiten=True, neighbours=2, limit=9, eps=0.5, min_samples=7
    )
    bank: Any = model.model.detectors
    assert isinstance(bank, DetectorBank)
    assert (bank.projection.components, bank.projection.whiten) == (3, True)
    assert (bank.detectors["knn"].neighbours, bank.detectors["knn"].limit) == (2, 9)
    assert (bank.detectors["dbscan"].eps, bank.detectors["dbscan"].min_samples) == (0.5, 7)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("detectors", ["forest"]),
        ("score", "mse"),
        ("pooling", "median"),
        ("references", 0),
        ("nu", 2.0),
        ("top_k", 0),
    ],
)
def test_wrong_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(XrayError, match=setting):
        LatentDetector(**{**SMALL, setting: value})


def test_the_score_is_one_of_the_chosen_detectors() -> None:
    with pytest.raises(XrayError, match="mahalanobis"):
        LatentDetector(**SMALL, detectors=["mahalanobis"])


@pytest.mark.parametrize("file", ["latent_detector.yaml", "latent_ensemble.yaml"])
def test_configuration_builds_the_model_and_fits_it_once(file: str) -> None:
    config = yaml.safe_load((CONFIGS / file).read_text())
    settings = config["model"]["init_args"]
    model = LatentDetector(**settings)
    assert {name: model.hparams[name] for name in settings} == settings
    assert config["trainer"]["max_epochs"] == 1


def test_vectors_of_several_backbones_stand_behind_each_other() -> None:
    names = ["test_byobnet", "test_resnet"]
    image = torch.rand(2, 1, 64, 64)
    both, *single = (LatentDetector(**{**SMALL, "backbone": backbone}) for backbone in (names, *names))
    vectors: list[torch.Tensor] = [cast("Any", model.model).vectors(image) for model in (both, *single)]
    torch.testing.assert_close(vectors[0], torch.cat(vectors[1:], dim=1))


def test_each_of_several_backbones_has_a_file_of_weights(tmp_path: Path) -> None:
    names = ["test_byobnet", "test_resnet"]
    files = [str(tmp_path / f"{name}.pth") for name in names]
    encoder = BackboneEncoder(names, [1], 64)
    single = [BackboneEncoder([name], [1], 64) for name in names]
    for number, (name, file) in enumerate(zip(names, files, strict=True)):
        torch.manual_seed(number + 7)
        torch.save(timm.create_model(name).state_dict(), file)
        single[number].prepare([file])
    with pytest.raises(XrayError, match="1 files for 2 backbones"):
        encoder.prepare(files[:1])
    image = torch.rand(1, 1, 64, 64)
    random = encoder(image)
    encoder.prepare(files)
    for found, before, (wanted,) in zip(encoder(image), random, [one(image) for one in single], strict=True):
        assert not torch.equal(found, before)
        torch.testing.assert_close(found, wanted)
