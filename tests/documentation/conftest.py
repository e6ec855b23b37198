"""The scratch folder of the documented commands: what their pages take as given, tiny."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

TRAINING = [
    "--trainer.max_epochs=2", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2", "--trainer.enable_progress_bar=false", "--data.train_batch_size=2",
    "--data.eval_batch_size=4", "--data.num_workers=0", "--data.patients=8", "--data.positive_share=0.4",
]  # fmt: skip


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Phantoms under all names of data sets, two trained runs, their bundles, and files that pages name."""
    folder = tmp_path_factory.mktemp("documented")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
        patch.setattr("anomalib_xray.training.export.PARITY_IMAGES", 4)
        for name in ("configs", "benchmarks", "scripts", "deploy"):
            Path(name).symlink_to(ROOT / name)
        _radiographs()
        _chests()
        _files()
        for name, model in (("RUN_A", "cae"), ("RUN_B", "vae")):
            _train(name, model)
        Path("RUN").symlink_to(Path("RUN_A").resolve())
        _bundles()
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _radiographs() -> None:
    from anomalib_xray.cli import main
    from anomalib_xray.phantom import write_phantoms

    write_phantoms(Path("phantoms"), patients=8, positive_share=0.4)
    for name in ("datasets/MURA-v1.1", "datasets/FracAtlas", "RAW", "hands_example"):
        shutil.copytree("phantoms", name)
    pictures = sorted(Path("phantoms").glob("valid/**/*.png")) + sorted(Path("phantoms").glob("train/**/*.png"))
    normal = [path for path in pictures if "negative" in path.parent.name]
    abnormal = [path for path in pictures if "positive" in path.parent.name]
    for folder in ("study", "MASKS", "reference/elbow", "reference/wrist", "archive"):
        Path(folder).mkdir(parents=True)
    for number, picture in enumerate([normal[0], abnormal[0]]):
        shutil.copy(picture, f"study/image{number}.png")
    shutil.copy(Path("phantoms/ground_truth/anomaly") / abnormal[0].relative_to("phantoms"), "MASKS/image1.png")
    shutil.copy(normal[0], "hand.png")
    for number, picture in enumerate(normal[:4]):
        shutil.copy(picture, Path("reference") / ("elbow", "wrist")[number % 2] / f"{number}.png")
    rows = [f"{path},{int(path in abnormal)}" for path in (*normal[:3], *abnormal[:3])]
    Path("hands.csv").write_text("\n".join(["image_path,label", *rows]) + "\n")
    _table_of_splits(
        [path.relative_to("phantoms") for path in normal], [path.relative_to("phantoms") for path in abnormal]
    )
    assert (
        main(shlex.split("prepare --config configs/preparation/full.yaml --root RAW --out PREPARED --workers 1")) == 0
    )
    shutil.copytree("PREPARED", "HEATMAPS", ignore=shutil.ignore_patterns("manifest.csv", ".preparation"))


def _table_of_splits(normal: list[Path], abnormal: list[Path]) -> None:
    rows = ["image_path,label,split,patient,study,mask_path"]
    for number, path in enumerate(normal):
        split = ("train", "train", "val", "test")[number % 4]
        rows.append(f"{path},0,{split},n{number},n{number},")
    for number, path in enumerate(abnormal):
        rows.append(f"{path},1,{('val', 'test')[number % 2]},a{number},a{number},ground_truth/anomaly/{path}")
    Path("hands_example/table.csv").write_text("\n".join(rows) + "\n")
    Path("datasets/FracAtlas/table.csv").write_text("\n".join([rows[0].replace("patient", "group"), *rows[1:]]) + "\n")


def _chests() -> None:
    """Trees as of the three data sets of chests, with noise in them."""
    from anomalib_xray.io.write import write_png

    generator = np.random.default_rng(0)

    def draw(path: str) -> None:
        write_png(Path(path), generator.integers(1, 256, (72, 64), dtype=np.uint8))

    for number in range(16):
        draw(f"datasets/chest/normal/IM-{number:04}-0001.png")
        draw(f"datasets/chest/bacterial/person{number}_bacteria_{number}.png")
    rsna, vinbigdata = ["patientId,class"], ["image_id,class_name,rad_id"]
    for number in range(32):
        draw(f"datasets/rsna-pneumonia/train_png_512/image{number:02}.png")
        draw(f"datasets/vinbigdata/train_png_512/image{number:02}.png")
        rsna.append(f"image{number:02},{'Normal' if number < 16 else 'Lung Opacity'}")
        finding = "No finding" if number < 16 else "Nodule/Mass"
        vinbigdata += [f"image{number:02},{finding},R{reader}" for reader in range(3)]
    Path("datasets/rsna-pneumonia/stage_2_detailed_class_info.csv").write_text("\n".join(rsna))
    Path("datasets/vinbigdata/train.csv").write_text("\n".join(vinbigdata))


def _files() -> None:
    """A detector's file, weights, a search's best configuration, and what TensorBoard logged."""
    import timm
    import yaml
    from safetensors.torch import save_file
    from torch.utils.tensorboard import SummaryWriter

    from anomalib_xray.io.read import read_radiograph

    save_file(timm.create_model("resnet18", pretrained=False).state_dict(), "resnet18.safetensors")
    Path("tuning").mkdir()
    best = yaml.safe_load(Path("configs/cae.yaml").read_text()) | yaml.safe_load(
        Path("configs/data/phantom.yaml").read_text()
    )
    Path("tuning/best.yaml").write_text(yaml.safe_dump(best))
    with SummaryWriter("results/tensorboard") as writer:
        for step in range(2):
            writer.add_image("samples", np.full((3, 8, 8), step, np.uint8), step)
    _dicom(Path("hand.dcm"), read_radiograph(Path("hand.png")))
    shutil.copy("hand.dcm", "archive/hand.dcm")


def _dicom(path: Path, picture: np.ndarray) -> None:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid()
    dataset.Rows, dataset.Columns = picture.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * picture.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelData = picture.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def _train(name: str, model: str) -> None:
    from anomalib.cli.cli import AnomalibCLI

    arguments = ["train", "--config", f"configs/{model}.yaml", "--config", "configs/data/phantom.yaml", *TRAINING]
    before = sys.argv
    sys.argv = ["anomalib", *arguments]
    try:
        AnomalibCLI()
    finally:
        sys.argv = before
    (latest,) = (path for path in Path("results").glob("*/XR_HAND/latest") if path.resolve() not in _linked())
    Path(name).symlink_to(latest.resolve())


def _linked() -> set[Path]:
    return {path.resolve() for path in Path().iterdir() if path.is_symlink()}


def _bundles() -> None:
    from anomalib_xray.cli import main

    logging.getLogger("nncf").setLevel(logging.ERROR)
    checkpoint = "weights/lightning/model.ckpt"
    for run, bundle in (("RUN_B", "bundles/alpha_gan"), ("RUN_A", "bundles/cae")):
        assert main(["bundle", "--checkpoint", f"{run}/{checkpoint}", "--out", bundle, "--int8", "false"]) == 0
    shutil.copytree("bundles/alpha_gan", "hand.bundle")
