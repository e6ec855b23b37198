from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch, ImageItem
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.fc_autoencoder import FcAutoencoder
from anomalib_xray.transforms import Augmentation, XrayPreProcessor
from anomalib_xray_plugins.dual_distribution import DualDistribution
from anomalib_xray_plugins.dual_distribution.lightning_model import in_this_step, shuffled_batches
from anomalib_xray_plugins.dual_distribution.training_images import read_images

SMALL: dict[str, Any] = {
    "width": 2,
    "hidden": 8,
    "latent_size": 4,
    "members": 2,
    "evaluator": False,
    "visualizer": False,
    "post_processor": False,
}


class Unlabelled:
    """An item that fails when anything but its image is read."""

    def __init__(self, image: Tensor) -> None:
        self.image = image


class Items(Dataset[Any]):
    """Random images that count how often they are read."""

    def __init__(self, count: int, kind: Any = ImageItem) -> None:
        self.images = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(count)).repeat(1, 3, 1, 1)
        self.kind = kind
        self.read = 0
        self.augmentations: Augmentation | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return self.kind(image=self.images[index])

    def collate_fn(self, items: list[ImageItem]) -> ImageBatch:
        return ImageBatch(image=torch.stack([item.image for item in items]))


class Data(LightningDataModule):
    def __init__(self, normal: int = 6, unlabelled: int = 0, batch: int = 4) -> None:
        super().__init__()
        self.train_data = Items(normal)
        self.unlabelled_data = Items(unlabelled, Unlabelled) if unlabelled else None
        self.train_batch_size = batch
        self.num_workers = 0

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_data, self.train_batch_size, collate_fn=self.train_data.collate_fn)


class StopAfter(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        del pl_module
        trainer.should_stop = trainer.current_epoch == self.epoch


def fit(model: Any, data: Any, epochs: int = 1, resume: Path | None = None, callbacks: Any = ()) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    # The checkpoint is the one that this test wrote; plain Lightning does not know anomalib's list of what is safe.
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
    return trainer


def spy(model: Any) -> dict[int, list[int]]:
    """Numbers of the images that each network saw, by the network's number."""
    seen: dict[int, list[int]] = {}
    networks = [*model.model.module_a, *model.model.module_b]
    member_loss = model._member_loss

    def note(network: Any, chosen: Tensor) -> Tensor:
        seen.setdefault(next(n for n, one in enumerate(networks) if one is network), []).extend(chosen.tolist())
        loss: Tensor = member_loss(network, chosen)
        return loss

    model._member_loss = note
    return seen


def test_an_epoch_is_one_pass_of_every_network_in_an_order_of_its_own() -> None:
    model: Any = DualDistribution(**SMALL)
    seen = spy(model)
    fit(model, Data(normal=6, unlabelled=9))
    assert [sorted(seen[member]) for member in range(4)] == [list(range(15))] * 2 + [list(range(6))] * 2
    assert seen[0] != seen[1]
    assert seen[2] != seen[3]


def test_last_batches_can_be_left_out() -> None:
    model: Any = DualDistribution(**SMALL, drop_last=True)
    seen = spy(model)
    fit(model, Data(normal=6, unlabelled=9))
    assert [len(seen[member]) for member in range(4)] == [12, 12, 4, 4]


def test_orders_differ_between_epochs() -> None:
    model: Any = DualDistribution(**SMALL)
    seen = spy(model)
    fit(model, Data(normal=12), epochs=2)
    assert seen[0][:12] != seen[0][12:]


def test_files_are_read_once_and_the_datamodule_gets_its_data_back() -> None:
    data = Data(normal=6, unlabelled=9)
    train_data = data.train_data
    fit(DualDistribution(**SMALL), data, epochs=3)
    assert data.train_data is train_data
    assert train_data.read == 6
    assert data.unlabelled_data is not None
    assert data.unlabelled_data.read == 9


def test_data_comes_back_after_a_training_that_failed() -> None:
    data = Data(normal=6)
    train_data = data.train_data
    model: Any = DualDistribution(**SMALL)
    model._member_loss = None
    with pytest.raises(TypeError):
        fit(model, data)
    fit(DualDistribution(**SMALL), data)
    assert data.train_data is train_data


def test_augmented_images_are_read_in_every_epoch() -> None:
    data = Data(normal=6)
    fit(DualDistribution(**SMALL, augmentation="default"), data, epochs=3)
    assert data.train_data.read == 18


def test_images_are_read_with_the_brightness_of_their_augmentation() -> None:
    data = Data(normal=30)
    data.train_data.augmentations = Augmentation([{"class": "HorizontalFlip", "p": 0.0}], brightness=0.5)
    images = read_images(data.train_data, XrayPreProcessor(64), seed=3)
    plain = read_images(Items(30), XrayPreProcessor(64), seed=3)
    factors = images.amax((1, 2, 3)) / plain.amax((1, 2, 3))
    assert 0.5 <= factors.min() < 0.9
    assert 5 < (factors < 1).sum() < 25  # half of them change, some of these to more than the 1 that is the most


def test_a_member_learns_what_it_would_learn_alone() -> None:
    model: Any = DualDistribution(**SMALL, masked=False)
    seen, seed = spy(model), int(model.model.member_seeds[3])
    data = Data(normal=8, unlabelled=5)
    fit(model, data, epochs=2)

    torch.manual_seed(seed)
    alone = FcAutoencoder(64, 2, 8, 4)
    optimizer = torch.optim.Adam(alone.parameters(), lr=5e-4, betas=(0.5, 0.999))
    images = model.pre_processor(data.train_data.images)[:, :1] * 2 - 1
    for chosen in torch.tensor(seen[3]).split(4):
        optimizer.zero_grad()
        (alone(images[chosen]).image - images[chosen]).square().mean().backward()
        optimizer.step()
    # Compared as in training: biases before a normalisation have no gradient but rounding, which Adam scales up, and
    # means that run behind them.
    found, expected = (network.train()(images).image for network in (model.model.module_b[1], alone))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    torch.manual_seed(seed)
    untrained = FcAutoencoder(64, 2, 8, 4)(images).image
    assert (untrained - expected).abs().mean() > 100 * (found - expected).abs().mean()


def test_unlabelled_images_reach_module_a_only() -> None:
    models: list[Any] = [DualDistribution(**SMALL), DualDistribution(**SMALL)]
    for model, unlabelled in zip(models, (0, 9), strict=True):
        fit(model, Data(unlabelled=unlabelled))
    first, second = (model.model.state_dict() for model in models)
    for name, value in first.items():
        if name.startswith("module_b"):
            assert torch.equal(value, second[name]), name
    assert any(not torch.equal(value, second[name]) for name, value in first.items() if name.startswith("module_a"))


def test_says_that_there_is_no_pool(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit(DualDistribution(**SMALL), Data())
        assert "no unlabelled images" in caplog.text
        caplog.clear()
        fit(DualDistribution(**SMALL), Data(unlabelled=3))
        assert "no unlabelled images" not in caplog.text


def test_members_have_seeds_of_their_own_that_are_kept() -> None:
    model: Any = DualDistribution(**SMALL)
    seeds = model.model.state_dict()["member_seeds"]
    assert len(set(seeds.tolist())) == 4
    assert torch.equal(seeds, DualDistribution(**SMALL).model.member_seeds)
    assert not torch.equal(seeds, DualDistribution(**SMALL, seed=1).model.member_seeds)
    first = [network.encoder[0][0].weight for network in (*model.model.module_a, *model.model.module_b)]
    assert all(not torch.equal(one, other) for n, one in enumerate(first) for other in first[:n])


def test_one_image_trains_every_network() -> None:
    model: Any = DualDistribution(**SMALL)
    before = [weight.clone() for weight in model.model.parameters()]
    fit(model, Data(normal=1, unlabelled=1, batch=1))
    changed = [not torch.equal(old, new) for old, new in zip(before, model.model.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


REFINED: dict[str, Any] = {
    **SMALL,
    "refinement": "dual",
    "refinement_epochs": 1,
    "refinement_width": 4,
    "refinement_learning_rate": 1e-2,
    "schedule": "linear",
}


def test_a_training_with_refinement_goes_on_exactly(tmp_path: Path) -> None:
    whole: Any = DualDistribution(**REFINED)
    ensembles: list[dict[str, Tensor]] = []

    class Keep(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            del trainer
            ensembles.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})

    finished = fit(whole, Data(unlabelled=5), 3, callbacks=[Keep()])
    assert [name for name in ensembles[1] if not torch.equal(ensembles[1][name], ensembles[0][name])]
    changed = {name.split(".")[0] for name in ensembles[2] if not torch.equal(ensembles[2][name], ensembles[1][name])}
    assert changed == {"refiner"}  # the ensembles stand still, their batch statistics too
    assert not any(name.startswith("refiner") and not torch.equal(ensembles[1][name], ensembles[0][name])
                   for name in ensembles[1])  # fmt: skip

    for stop in (0, 1):
        path = tmp_path / f"{stop}.ckpt"
        stopped = fit(DualDistribution(**REFINED), Data(unlabelled=5), 3, callbacks=[StopAfter(stop)])
        stopped.save_checkpoint(path)
        resumed: Any = DualDistribution(**REFINED)
        again = fit(resumed, Data(unlabelled=5), 3, resume=path)
        assert again.global_step == finished.global_step
        for name, value in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), (stop, name)


def test_refined_scores_are_the_mean_probability() -> None:
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :30] = 0
    model: Any = DualDistribution(**{**REFINED, "score": "r_dual", "map_sigma": 0.0}).eval()
    output = model.model(image.repeat(1, 3, 1, 1))
    maps = model.model.discrepancies(image)
    logits = model.model.refiner.layers(torch.cat([maps["inter"], maps["intra"]], 1))
    probability = (logits[:, 1] - logits[:, 0]).sigmoid()
    torch.testing.assert_close(output.anomaly_map, probability * (image[:, 0] > 0))
    for number in range(2):
        inside = probability[number][image[number, 0] > 0]
        torch.testing.assert_close(output.pred_score[number], inside.mean())


@pytest.mark.parametrize("masked", [True, False])
def test_scores_average_over_the_foreground_or_over_all(masked: bool) -> None:
    image = torch.rand(1, 1, 64, 64)
    image[:, :, :30] = 0
    model: Any = DualDistribution(**SMALL, masked=masked, backbone="ae_u", top_k=5).eval()
    output, maps = model.model(image.repeat(1, 3, 1, 1)), model.model.discrepancies(image)
    for name, values in maps.items():
        counted = values[image > 0] if masked else values.flatten()
        torch.testing.assert_close(output.scores[name], counted.mean()[None], msg=name)
        torch.testing.assert_close(output.scores[name + "_top_k"], counted.sort().values[-5:].mean()[None])
    assert torch.equal(output.pred_score, output.scores["inter"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"members": 0}, "members is 0"),
        ({"score": "r_dual"}, "r_dual"),
        ({"refinement": "dual"}, "refinement_epochs"),
        ({"refinement_epochs": 3}, "refinement_epochs"),
    ],
)
def test_refuses_settings_that_do_not_fit(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(XrayError, match=told):
        DualDistribution(**{**SMALL, **settings})


def test_refuses_more_images_than_fit() -> None:
    with pytest.raises(XrayError, match="memory_limit"):
        fit(DualDistribution(**SMALL, memory_limit=1e-5), Data())


def test_pictures_show_one_network_and_both_means() -> None:
    model: Any = DualDistribution(**SMALL).eval()
    image = torch.rand(3, 1, 64, 64)
    pictures = model.pictures(image)
    assert {name: len(rows) for name, rows in pictures.items()} == {"reconstructions": 6, "ensembles": 6}
    torch.testing.assert_close(pictures["reconstructions"][:3], image)
    mean = torch.stack([network(2 * image - 1).image for network in model.model.module_b]).mean(0)
    torch.testing.assert_close(pictures["ensembles"][3:], ((mean + 1) / 2).clamp(0, 1))


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (1, [1])])
def test_a_pass_has_every_image_once(count: int, sizes: list[int]) -> None:
    batches = shuffled_batches(count, 4, 7)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4]), (8, [4, 4]), (3, [3])])
def test_a_smaller_last_batch_can_be_left_out(count: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in shuffled_batches(count, 4, 7, drop_last=True)] == sizes


def test_the_seed_decides_the_order() -> None:
    first, same, other = (torch.cat(shuffled_batches(50, 8, seed)) for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("steps", "batches"), [(5, 5), (5, 12), (5, 3), (1, 4), (4, 0)])
def test_batches_are_spread_over_the_steps(steps: int, batches: int) -> None:
    shares = [in_this_step(step, steps, batches) for step in range(steps)]
    assert [number for share in shares for number in share] == list(range(batches))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
