"""The installed plugins, as anomalib's own look-ups find them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import anomalib.models
import pytest
from anomalib.models import UnknownModelError, get_model, list_models

import anomalib_xray.models
from anomalib_xray import plugins
from anomalib_xray.plugins import MODEL_GROUP, find_plugins

NAMES = sorted({plugin.name for plugin in find_plugins()})
TINY_CAE: dict[str, Any] = {"image_size": 64, "width": 4, "latent_channels": 8}
TINY_ALPHA_GAN: dict[str, Any] = {"image_size": 64, "width": 8, "latent_size": 8}


@pytest.mark.parametrize("name", NAMES)
def test_every_installed_plugin_is_visible_to_anomalib(name: str) -> None:
    model = getattr(anomalib_xray.models, name)
    assert model.__name__ == name
    assert name in list_models(case="pascal")
    assert getattr(anomalib.models, name) is model
    assert name in anomalib_xray.models.__all__


def test_listed_in_snake_case() -> None:
    assert {"cae", "alpha_gan"} <= list_models()


@pytest.mark.parametrize("name", ["alpha_gan", "AlphaGan"])
def test_a_model_is_found_by_its_name(name: str) -> None:
    model = get_model(name, **TINY_ALPHA_GAN)
    assert type(model) is anomalib_xray.models.AlphaGan
    assert model.hparams["latent_size"] == 8


@pytest.mark.parametrize("class_path", ["anomalib_xray.models.Cae", "Cae", "anomalib.models.Cae"])
def test_a_model_is_found_by_its_class_path(class_path: str) -> None:
    model = get_model({"class_path": class_path, "init_args": TINY_CAE})
    assert type(model) is anomalib_xray.models.Cae
    assert model.hparams["width"] == 4


def test_modules_that_nobody_allowed_stay_forbidden() -> None:
    with pytest.raises(UnknownModelError):
        get_model({"class_path": "anomalib_xray_plugins.cae.Cae"})


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"No installed plugin offers the model Cea; there are: .*AlphaGan, .*Cae"):
        _ = anomalib_xray.models.Cea


@pytest.fixture
def reloaded() -> Iterator[None]:
    """Lets a test import the package anew, and brings it back afterwards."""
    yield
    importlib.reload(anomalib_xray.models)


@pytest.mark.usefixtures("reloaded")
def test_a_failed_plugin_says_why_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [plugin.entry_point for plugin in find_plugins()]
    broken = EntryPoint("Broken", "no_such_package:Broken", MODEL_GROUP)
    with monkeypatch.context() as patched:
        patched.setattr(plugins, "entry_points", lambda group: [*installed, broken] if group == MODEL_GROUP else [])
        with pytest.warns(UserWarning, match="The model plugin Broken could not be loaded"):
            importlib.reload(anomalib_xray.models)
    with pytest.raises(AttributeError, match=r"Broken could not be loaded: .*No module named 'no_such_package'"):
        _ = anomalib_xray.models.Broken
    assert anomalib_xray.models.Cae is anomalib.models.Cae
    assert "Broken" not in list_models(case="pascal")


def test_importing_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(anomalib_xray.models)
