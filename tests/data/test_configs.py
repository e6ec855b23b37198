"""The data configurations and cards that ship, as the commands read them."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pytest
import yaml
from anomalib.data import AnomalibDataModule
from jsonargparse import ArgumentParser

from anomalib_xray import data
from anomalib_xray.data import (
    ChestFolder,
    FracAtlas,
    Mura,
    Phantom,
    Radiographs,
    RsnaPneumonia,
    UnlabelledPool,
    VinBigData,
)
from anomalib_xray.data.datamodule import RadiographDataModule

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs" / "data"
CARDS = sorted((REPOSITORY / "datasets").glob("*/card.yaml"))


def instantiate(*arguments: str) -> AnomalibDataModule:
    """Builds a datamodule as anomalib's command does."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    datamodule: AnomalibDataModule = parser.instantiate_classes(parser.parse_args(list(arguments))).data
    return datamodule


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("mura_hand", Mura),
        ("fracatlas", FracAtlas),
        ("phantom", Phantom),
        ("hands_example", Radiographs),
        ("chest", ChestFolder),
        ("rsna_pneumonia", RsnaPneumonia),
        ("vinbigdata", VinBigData),
    ],
)
def test_shipped_config_builds_its_datamodule_and_holds_nothing_else(config: str, kind: type) -> None:
    file = CONFIGS / f"{config}.yaml"
    assert type(instantiate("--config", str(file))) is kind
    assert list(yaml.safe_load(file.read_text())) == ["data"]


def test_settings_and_augmentations_can_be_given_as_plain_text() -> None:
    datamodule = instantiate(
        "--config",
        str(CONFIGS / "mura_hand.yaml"),
        "--data.body_parts=[hand, wrist]",
        "--data.test_on=holdout",
        "--data.image_size=128",
        "--data.prepared_root=cleaned",
        "--data.drop_flagged=[no_carrier, two_hands]",
        "--data.train_augmentations=torchvision.transforms.v2.RandomHorizontalFlip",
        "--data.train_augmentations.p=0.25",
    )
    assert isinstance(datamodule, Mura)
    assert datamodule.body_parts == ["XR_HAND", "XR_WRIST"]
    assert datamodule.test_on == "holdout"
    assert datamodule.image_size == 128
    assert datamodule.prepared_root == Path("cleaned").absolute()
    assert datamodule.drop_flagged == ["no_carrier", "two_hands"]
    assert datamodule.train_augmentations.p == 0.25


def test_pool_and_sizes_can_be_given_as_plain_text() -> None:
    datamodule = instantiate(
        "--config", str(CONFIGS / "chest.yaml"), "--data.pool", "{size: 12, anomaly_rate: 0.3}", "--data.sizes.train=9"
    )
    assert isinstance(datamodule, ChestFolder)
    assert datamodule.pool == UnlabelledPool(12, 0.3)
    assert datamodule.sizes.train == 9
    hands = instantiate("--config", str(CONFIGS / "mura_hand.yaml"), "--data.pool", "{size: 5, reserve: 0.2}")
    assert isinstance(hands, Mura)
    assert hands.pool == UnlabelledPool(5, reserve=0.2)


def test_raw_phantoms_and_their_prepared_folder_can_be_given_as_plain_text() -> None:
    arguments = ["--data.root", "films", "--data.prepared", "false", "--data.prepared_root", "cleaned"]
    datamodule = instantiate("--config", str(CONFIGS / "phantom.yaml"), *arguments)
    assert isinstance(datamodule, Phantom)
    assert not datamodule.prepared
    assert datamodule.prepared_root == Path("cleaned").absolute()


@pytest.mark.parametrize("kind", [ChestFolder, FracAtlas, Mura, Phantom, Radiographs, RsnaPneumonia, VinBigData])
def test_every_setting_has_a_help_text(kind: type) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(kind)
    settings = [action for action in parser._actions if action.dest not in ("help", "config")]
    shared = set(signature(RadiographDataModule).parameters)
    assert shared <= {action.dest for action in settings}
    assert [action.dest for action in settings if not action.help] == []


@pytest.mark.parametrize("card", CARDS, ids=[card.parent.name for card in CARDS])
def test_card_names_a_datamodule_a_config_and_a_licence(card: Path) -> None:
    content = yaml.safe_load(card.read_text())
    assert content["datamodule"].rpartition(".")[2] in data.__all__
    shipped = yaml.safe_load((REPOSITORY / content["config"]).read_text())
    assert shipped["data"]["class_path"] == content["datamodule"]
    assert content["licence"]
    assert (card.parent / "README.md").is_file()
