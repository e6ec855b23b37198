from __future__ import annotations

import copy
import os
import pickle
from multiprocessing import context, popen_spawn_posix
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.data.datasets.image.folder import FolderDataset
from torchvision.transforms.v2 import RandomHorizontalFlip, Resize
from torchvision.tv_tensors import Image, Mask

from anomalib_xray.data import Radiographs, kept_pictures
from anomalib_xray.data.dataset import read_as_radiographs
from anomalib_xray.data.kept_pictures import GIB, NEAR, KeptPictures, read_picture
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.transforms import Augmentation, PadResize, XrayPreProcessor

SIZE = 16


def write_limb(path: Path, seed: int, depth: type = np.uint8) -> None:
    """A bright patch on a noisy limb on black, 90 x 60 pixels."""
    top = np.iinfo(depth).max
    levels: Any = np.random.default_rng(seed).integers(1, top // 4, (90, 60), dtype=depth)
    levels[:, :15] = levels[:, 45:] = 0
    levels[20:50, 20:40] = top
    write_png(path, levels)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = ["image_path,label,patient,split,mask_path"]
    (tmp_path / "masks").mkdir()
    for number, split in enumerate(["train"] * 5 + ["val"] * 2 + ["test"] * 2):
        write_limb(tmp_path / f"{number}.png", number, np.uint16 if number % 2 else np.uint8)
        marked: Any = cv2.imread(str(tmp_path / f"{number}.png"), cv2.IMREAD_UNCHANGED)
        write_png(tmp_path / "masks" / f"{number}.png", (marked == marked.max()).astype(np.uint8))
        mask = f"masks/{number}.png" if number % 2 else ""
        rows.append(f"{number}.png,{number % 2},{number},{split},{mask}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return tmp_path / "table.csv"


def data(table: Path, augmentation: Any = None, epoch: int = 0, **settings: Any) -> Any:  # its data sets have no types
    settings = {"num_workers": 0, "train_batch_size": 2, "normal_only": False} | settings
    datamodule: Any = Radiographs(table, **settings)
    model = SimpleNamespace(pre_processor=XrayPreProcessor(SIZE), train_augmentation=augmentation, hparams={"seed": 3})
    progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=epoch)))
    datamodule.trainer = SimpleNamespace(
        lightning_module=model, fit_loop=progress, default_root_dir=table.parent / "results"
    )
    (table.parent / "results").mkdir(exist_ok=True)
    datamodule.setup()
    return datamodule


def by_hand(path: str) -> torch.Tensor:
    """A picture as the model sees it, without the code that keeps pictures."""
    levels: Any = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    unit = levels / (255 if levels.dtype == np.uint8 else levels.max())
    unit = np.where(levels > 0, np.maximum(unit, 1 / 255), 0).astype(np.float32)
    padded = np.pad(unit, ((0, 0), (15, 15)))
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(padded)[None, None], size=(SIZE, SIZE), mode="bilinear", antialias=True
    )[0]
    return torch.where(resized < 0.499 / 255, 0.0, resized.clamp(min=1 / 255)).expand(3, -1, -1)


def keeps_its_promise(image: torch.Tensor) -> bool:
    """Whether background is exactly 0 and foreground at least one of 255 levels."""
    return bool(((image == 0) | ((image >= 1 / 255 - 1e-7) & (image <= 1))).all() and (image == 0).any())


def deny(datamodule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no file of a picture may be opened."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a picture was read again")

    for split in ("train", "val"):
        monkeypatch.setattr(getattr(datamodule, f"{split}_data").kept, "_read", refuse)


@pytest.mark.parametrize("augmentation", [None, Augmentation("advanced")])
def test_validation_and_test_see_the_exact_geometry_also_when_kept(
    table: Path, augmentation: Augmentation | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    datamodule = data(table, augmentation)
    first = list(datamodule.val_data)
    deny(datamodule, monkeypatch)
    for item in [*first, *datamodule.val_data, *datamodule.test_data]:
        torch.testing.assert_close(torch.as_tensor(item.image), by_hand(item.image_path), atol=1e-6, rtol=0)
        assert item.gt_mask.shape == (SIZE, SIZE)
        assert bool(item.gt_mask.any()) == bool(item.mask_path)


def test_pictures_that_are_only_flipped_are_kept_exactly(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datamodule = data(table, Augmentation("default"))
    list(datamodule.train_data)
    deny(datamodule, monkeypatch)
    for item in datamodule.train_data:
        whole = by_hand(item.image_path)
        flips = [whole, whole.flip(-1), whole.flip(-2), whole.flip(-1, -2)]
        assert min(float((item.image - flip).abs().max()) for flip in flips) < 1e-6


@pytest.mark.parametrize("cache_gib", [1.0, 1e-6])
def test_pictures_for_other_augmentations_are_kept_near_the_size_of_the_model(
    table: Path,
    cache_gib: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datamodule = data(table, Augmentation("advanced"), cache_gib=cache_gib)
    dataset = datamodule.train_data
    torch.manual_seed(1)
    first = list(dataset)
    deny(datamodule, monkeypatch)
    kept, mask = dataset.kept(dataset.samples.image_path[1], dataset.samples.mask_path[1])
    assert kept.shape == (1, NEAR * SIZE, NEAR * SIZE * 60 // 90)
    assert mask is not None
    assert mask.shape == kept.shape[1:]
    assert keeps_its_promise(kept)
    torch.manual_seed(1)
    for one, again in zip(first, dataset, strict=True):
        assert torch.equal(one.image, again.image)  # whoever reads a picture first gets what all others get
        assert torch.equal(one.gt_mask, again.gt_mask)
        assert keeps_its_promise(torch.as_tensor(one.image))


def test_masks_move_with_their_pictures(table: Path) -> None:
    dataset = data(table, Augmentation("advanced")).train_data
    marked = [row for row, path in enumerate(dataset.samples.mask_path) if path]
    for row in marked * 10:
        item = dataset[row]
        bright = torch.as_tensor(item.image[0] > 0.4)
        assert bright.any()
        places = [where.nonzero().float().mean(0) for where in (bright, torch.as_tensor(item.gt_mask))]
        assert (places[0] - places[1]).abs().max() < 1  # pixel


def test_near_pictures_hardly_differ_from_whole_ones(table: Path) -> None:
    near, whole = (data(table, Augmentation("advanced"), cache_gib=gib).train_data for gib in (1, 0))
    assert whole.kept is None
    differences = []
    for row in list(range(5)) * 4:
        torch.manual_seed(row)
        one = near[row].image
        torch.manual_seed(row)
        differences.append(float((one - whole[row].image).abs().mean()))
    assert max(differences) < 0.03


def test_a_file_that_changes_is_read_again(table: Path) -> None:
    datamodule = data(table)
    before = torch.as_tensor(datamodule.val_data[0].image)
    path = datamodule.val_data.samples.image_path[0]
    write_limb(Path(path), 99, np.uint16)
    after = torch.as_tensor(datamodule.val_data[0].image)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, by_hand(path), atol=1e-6, rtol=0)
    Path(path).write_bytes(b"nothing")
    with pytest.raises(XrayError, match=f"{path} is neither a PNG"):
        datamodule.val_data[0]
    Path(path).unlink()
    with pytest.raises(XrayError, match=path):
        datamodule.val_data[0]


def test_what_exceeds_the_memory_goes_to_the_results_folder_and_leaves_nothing(table: Path, tmp_path: Path) -> None:
    def device(dataset: Any) -> int:
        list(dataset)
        return os.fstat(dataset.kept._file.fileno()).st_dev

    memory = data(table)
    on_disk = data(table, cache_gib=1e-6)
    assert device(on_disk.train_data) == (tmp_path / "results").stat().st_dev
    assert device(memory.train_data) != device(on_disk.train_data)
    # Training takes all of the memory, so that validation goes to the disk.
    shared = data(table, cache_gib=memory.train_data.kept.size / GIB)
    assert device(shared.train_data) == device(memory.train_data)
    assert device(shared.val_data) == device(on_disk.val_data)
    assert list((tmp_path / "results").iterdir()) == []
    off = data(table, cache_gib=0)
    assert off.train_data.kept is off.val_data.kept is None


def test_less_than_no_memory_is_refused(table: Path) -> None:
    with pytest.raises(XrayError, match="cache_gib is -1; it must be at least 0"):
        Radiographs(table, cache_gib=-1)


def test_only_what_is_known_to_draw_nothing_is_kept_as_the_model_sees_it(table: Path) -> None:
    datamodule = data(table, RandomHorizontalFlip())
    assert datamodule.train_data.kept(datamodule.train_data.samples.image_path[0], "")[0].shape[1] == NEAR * SIZE
    top_left = data(table, Augmentation("default"))
    top_left.trainer.lightning_module.pre_processor = XrayPreProcessor(SIZE, padding="uniform")
    top_left.setup()
    assert top_left.train_data.kept(top_left.train_data.samples.image_path[0], "")[0].shape[1] == NEAR * SIZE
    foreign = data(table)
    foreign.trainer.lightning_module.pre_processor = SimpleNamespace(transform=Resize((8, 12)))
    foreign.setup()
    assert foreign.val_data.kept is not None
    assert foreign.val_data[0].image.shape == foreign.val_data[0].image.shape == (3, 8, 12)
    foreign.trainer.lightning_module.pre_processor = None
    foreign.setup()
    assert foreign.val_data.kept is None


def epochs(datamodule: Any, numbers: list[int]) -> list[tuple[list[str], torch.Tensor]]:
    """Paths and images of some epochs by one loader, as Lightning goes through them."""
    loader: Any = datamodule.train_dataloader()
    found = []
    for number in numbers:
        loader.sampler.set_epoch(number)
        batches: list[ImageBatch] = list(loader)
        images = torch.cat([torch.as_tensor(batch.image) for batch in batches])
        found.append(([path for batch in batches for path in batch.image_path or []], images))
    return found


def test_batches_follow_from_seed_and_epoch_whoever_reads_them(table: Path) -> None:
    augmentation = Augmentation("advanced")
    alone = epochs(data(table, augmentation), [0, 1, 2])
    assert alone[0][0] != alone[1][0]
    for found in (
        epochs(data(table, augmentation, num_workers=1), [0, 1, 2]),
        epochs(data(table, augmentation, num_workers=2), [0, 1, 2]),
        [*alone[:1], *epochs(data(table, augmentation, epoch=1, num_workers=2), [1, 2])],  # goes on after epoch 0
    ):
        for (paths, images), (expected_paths, expected) in zip(found, alone, strict=True):
            assert paths == expected_paths
            assert torch.equal(images, expected)


def test_reading_leaves_the_generator_of_the_model_alone(table: Path) -> None:
    loader = data(table, Augmentation("advanced")).train_dataloader()
    state = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), state)


def test_readers_stay_and_share_what_they_read(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datamodule = data(table, Augmentation("default"), num_workers=2)
    loader: Any = datamodule.train_dataloader()
    list(loader)
    readers = [process.pid for process in loader._iterator._workers]
    deny(datamodule, monkeypatch)
    assert len(list(datamodule.train_data)) == 5  # this process reads what the others kept
    list(loader)
    assert [process.pid for process in loader._iterator._workers] == readers
    assert datamodule.val_dataloader().persistent_workers
    assert not datamodule.test_dataloader().persistent_workers


def a_picture(tmp_path: Path) -> tuple[KeptPictures, str]:
    path = tmp_path / "a.png"
    write_limb(path, 1)
    return KeptPictures([str(path)], 90, read_picture, np.uint16, masks=False), str(path)


def test_a_copy_and_a_started_process_share_the_pictures_and_others_read_for_themselves(tmp_path: Path) -> None:
    kept, path = a_picture(tmp_path)
    kept.make_room(None)
    picture, _ = kept(path, "")
    assert copy.deepcopy(kept) is kept

    class Popen(popen_spawn_posix.Popen):
        """What pickles arguments for a process that is started by spawn."""

        def __init__(self) -> None:
            pass

        def duplicate_for_child(self, fd: int) -> int:
            return os.dup(fd)

    elsewhere = pickle.dumps(kept)
    context.set_spawning_popen(Popen())
    try:
        started = pickle.loads(pickle.dumps(kept))
    finally:
        context.set_spawning_popen(None)
    started._read = None  # it must not need its file
    assert torch.equal(started(path, "")[0], picture)
    assert torch.equal(pickle.loads(elsewhere)(path, "")[0], picture)


def test_a_full_disk_is_said_once_and_pictures_are_read_from_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept, path = a_picture(tmp_path)
    kept.make_room(tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", _no_room)
        pictures = [kept(path, "")[0] for _ in range(3)]
    pictures.append(kept(path, "")[0])
    assert all(torch.equal(pictures[0], picture) for picture in pictures)
    (record,) = caplog.records
    assert record.message.startswith("No further pictures are kept; they are read from their files in every epoch:")
    assert record.message.endswith("No space left on device.")


_PWRITE = os.pwrite


def _no_room(file: int, content: bytes, start: int) -> int:
    return _PWRITE(file, content, start) if len(content) == 1 else 0


def test_a_folder_that_takes_no_file_is_said_and_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, path = a_picture(tmp_path)
    kept.make_room(tmp_path / "nowhere")
    assert "Pictures are read from their files in every epoch" in caplog.text
    assert torch.equal(kept(path, "")[0], kept(path, "")[0])


def test_an_unfinished_picture_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, path = a_picture(tmp_path)
    kept.make_room(None)
    written: list[int] = []

    def stop_before_the_header(file: Any, content: bytes, start: int) -> None:
        written.append(len(content))
        if len(written) == 2:
            raise KeyboardInterrupt
        _PWRITE(file.fileno(), content, start)

    with monkeypatch.context() as stopped:
        stopped.setattr(kept_pictures, "_write", stop_before_the_header)
        with pytest.raises(KeyboardInterrupt):
            kept(path, "")
    calls = []

    def count(*paths: str) -> tuple[Image, Mask | None]:
        calls.append(paths)
        return read_picture(*paths)

    kept._read = count
    kept(path, "")
    kept(path, "")
    assert len(calls) == 1


def test_a_mask_that_changes_is_read_again(tmp_path: Path) -> None:
    write_limb(tmp_path / "a.png", 1)
    write_png(tmp_path / "mask.png", np.ones((90, 60), np.uint8))
    paths = str(tmp_path / "a.png"), str(tmp_path / "mask.png")
    kept = KeptPictures(paths[:1], 90, read_picture, np.float32, masks=True)
    kept.make_room(None)
    for shape in ((0, 30), (0, 60), (10, 20)):
        marked = np.zeros((90, 60), np.uint8)
        marked[slice(*shape)] = 1
        write_png(Path(paths[1]), marked)
        os.utime(paths[1], ns=(shape[1], shape[1]))
        for _ in range(2):
            image, mask = kept(*paths)
            assert isinstance(image, Image)
            assert isinstance(mask, Mask)
            assert torch.equal(torch.as_tensor(mask), torch.from_numpy(marked))


def test_the_geometry_leaves_what_it_made(table: Path) -> None:
    item = data(table).val_data[0]
    assert torch.equal(PadResize(SIZE)(item.image), item.image)


def test_a_folder_of_anomalibs_keeps_its_pictures_too(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    write_limb(tmp_path / "good" / "a.png", 1, np.uint16)
    dataset: Any = FolderDataset("own", root=tmp_path, normal_dir="good", split="train")
    read_as_radiographs(dataset, PadResize(SIZE), keep=True)
    first = dataset[0]
    dataset.kept._read = None  # its file is not read again
    assert torch.equal(dataset[0].image, first.image)
    torch.testing.assert_close(torch.as_tensor(first.image), by_hand(first.image_path), atol=1e-6, rtol=0)
