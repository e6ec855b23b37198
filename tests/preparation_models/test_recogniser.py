from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_xray.commands.train_recogniser import train_recogniser as command
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import PREPARED, RAW, render_phantom
from anomalib_xray.preparation.steps.recognise import SIDE, Recognise, input_of, recognise
from anomalib_xray.preparation_models import recogniser, training
from anomalib_xray.preparation_models.recogniser import (
    MODEL,
    Recogniser,
    Settings,
    export_recogniser,
    fitted_temperature,
    sure_from,
    train,
    train_recogniser,
)
from anomalib_xray.preparation_models.recogniser_data import HELD_OUT, TRAIN, list_folders, split_by_group

SHORT = Settings(steps=2, seed=3, batch_size=4, learning_rate=1e-3, held_out=0.5, per_part=10)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms on their plates and cut out, as of two body parts, two groups of each."""
    folder = tmp_path_factory.mktemp("parts")
    for number, (part, options) in enumerate([("plate", RAW), ("plain", PREPARED)] * 2):
        image = render_phantom(np.random.default_rng(number), options).image
        (folder / part / f"group{number}").mkdir(parents=True)
        write_png(folder / part / f"group{number}" / "1.png", image)
    return folder


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recogniser, "_STEPS_PER_CHECKPOINT", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(network: Recogniser) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in network.state_dict().values()])


def test_training_repeats_with_its_seed_and_goes_on_where_it_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, parts = list_folders(root), ("plain", "plate")
    whole = weights(train_recogniser(listed, parts, tmp_path / "a.pt", SHORT))
    assert torch.equal(whole, weights(train_recogniser(listed, parts, tmp_path / "b.pt", SHORT)))
    other = replace(SHORT, seed=4)
    assert not torch.equal(whole, weights(train_recogniser(listed, parts, tmp_path / "c.pt", other)))

    def write_and_stop(path: Path, content: bytes) -> None:
        path.write_bytes(content)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(training, "write_atomically", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_recogniser(listed, parts, tmp_path / "d.pt", SHORT)
    assert torch.equal(whole, weights(train_recogniser(listed, parts, tmp_path / "d.pt", SHORT)))
    with pytest.raises(XrayError, match="other settings"):
        train_recogniser(listed[1:], parts, tmp_path / "d.pt", SHORT)


def test_the_difficulty_of_a_part_follows_its_loss(root: Path, tmp_path: Path) -> None:
    network = train_recogniser(list_folders(root), ("plain", "plate"), tmp_path / "a.pt", replace(SHORT, batch_size=32))
    assert (network.difficulty != 1).all()
    assert (network.difficulty > 0).all()


def test_the_command_trains_exports_and_measures(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    rows = [
        f"{path},{path.parts[-3]},{'train' if path.parts[-2] in ('group0', 'group1') else 'test'}"
        for path in sorted(root.rglob("*.png"))
    ]
    table.write_text("\n".join(["image_path,body_part,split", *rows]))
    command(tmp_path / "out", table, steps=2, batch_size=4)
    assert "of 2 held-out radiographs are named right" in capsys.readouterr().out
    described = json.loads((tmp_path / "out" / MODEL).with_suffix(".json").read_text())
    assert described["body_parts"] == ["plain", "plate"]
    found = Recognise(tmp_path / "out" / MODEL).plan(np.full((50, 40), 9, np.uint8)).parameters
    assert found["body_part"] in ("plain", "plate")


def test_without_anything_held_out_it_is_exported_all_the_same(root: Path, tmp_path: Path) -> None:
    performance = train(list_folders(root), tmp_path, replace(SHORT, held_out=0))
    assert performance.confusion.sum() == 0
    assert performance.threshold == 0.5
    assert "plate: called nothing, for none is held out" in performance.as_text()


def test_a_single_part_or_one_that_is_held_out_is_refused(root: Path, tmp_path: Path) -> None:
    listed = list_folders(root)
    with pytest.raises(XrayError, match="only plate is named"):
        train([one for one in listed if one.body_part == "plate"], tmp_path, replace(SHORT, held_out=0))
    split = [replace(one, split=HELD_OUT if one.body_part == "plate" else TRAIN) for one in listed]
    with pytest.raises(XrayError, match="no radiograph of plate is learned from"):
        train(split, tmp_path, SHORT)


def test_a_table_and_a_folder_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"either --table, .* or --root"):
        command(tmp_path)
    with pytest.raises(XrayError, match=r"either --table, .* or --root"):
        command(tmp_path, tmp_path / "a.csv", tmp_path)


def test_the_exported_model_gives_the_networks_probabilities(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Recogniser(3).eval()
    export_recogniser(network, 2.0, tmp_path / MODEL)
    (tmp_path / MODEL).with_suffix(".json").write_text('{"body_parts": ["a", "b", "c"], "threshold": 0.5}')
    assert (tmp_path / MODEL).with_suffix(".bin").stat().st_size < 600_000
    image = input_of(render_phantom(np.random.default_rng(0), RAW).image)
    turned = np.stack([np.rot90(image, turns) for turns in range(4)])[:, None]
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(turned)).mean(dim=0) / 2, dim=0).numpy()
    np.testing.assert_allclose(recognise(tmp_path / MODEL, image), expected, atol=2e-3)
    np.testing.assert_allclose(recognise(tmp_path / MODEL, np.ascontiguousarray(turned[1, 0])), expected, atol=2e-3)


def test_exposure_does_not_matter_and_a_constant_picture_is_finite() -> None:
    torch.manual_seed(0)
    network = Recogniser(3).eval()
    images = torch.rand(1, 1, SIDE, SIDE)
    torch.testing.assert_close(network(images), network(0.2 * images + 0.5), atol=1e-2, rtol=1e-2)
    assert torch.isfinite(network(torch.zeros(1, 1, SIDE, SIDE))).all()


def test_the_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 2, (20_000, 3)))
    drawn = torch.multinomial(torch.softmax(logits, 1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    assert fitted_temperature(3 * logits, drawn) == pytest.approx(3, rel=0.06)
    assert fitted_temperature(logits[:0], drawn[:0]) == 1


def test_from_the_threshold_on_names_are_right() -> None:
    confidence = np.linspace(0.5, 1, 1000)
    probabilities = np.stack([confidence, 1 - confidence], 1).astype(np.float32)
    labels = (np.arange(1000) < 300).astype(np.int64)  # wrong up to .65, and right from there
    threshold = sure_from(probabilities, labels)
    sure = confidence >= threshold
    assert (labels[sure] == 0).mean() >= 0.99
    assert (labels[confidence >= threshold - 0.002] == 0).mean() < 0.99
    assert sure_from(probabilities, np.ones(1000, np.int64)) == 1


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("per_part", 0), ("seed", -1), ("held_out", 1.0)])
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(XrayError, match=name):
        replace(SHORT, **{name: value})


def test_groups_stay_together(root: Path) -> None:
    listed = [replace(one, group="same") for one in list_folders(root)]
    assert len({one.split for one in split_by_group(listed, 0.6, 0)}) == 1
    assert {one.split for one in split_by_group(list_folders(root), 0.5, 0)} == {TRAIN, HELD_OUT}
