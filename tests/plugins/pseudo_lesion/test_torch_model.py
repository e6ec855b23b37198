from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.pseudo_lesion.torch_model import GRID, LesionModel, lesion_loss


@pytest.mark.parametrize(("focal", "dice"), [(0.0, 0.0), (2.0, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_loss_is_the_published_one(focal: float, dice: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, lesion = torch.randn(2, 1, 6, 6, generator=generator), torch.rand(2, 1, 6, 6, generator=generator)
    mask = (torch.rand(2, 1, 6, 6, generator=generator) < 0.7).float()
    lesion = lesion * mask
    p, t, m = (value.double().numpy().ravel() for value in (logits.sigmoid(), lesion, mask))
    errors = [abs(b - a) ** focal * -(b * np.log(a) + (1 - b) * np.log(1 - a)) for a, b in zip(p, t, strict=True)]
    overlap = 2 * np.sum(p * m * t) / np.sum((p * m) ** 2 + t**2)
    expected = np.sum(errors * m) / m.sum() + dice * (1 - overlap)
    assert float(lesion_loss(logits, lesion, mask, focal, dice)) == pytest.approx(expected, rel=1e-5)


def test_calibration_by_place_divides_by_the_mean_of_what_fired_where_nothing_was_painted() -> None:
    torch.manual_seed(0)
    model = LesionModel(width=4, calibration="place")
    side = 2 * GRID
    probability, mask = torch.rand(1, 1, side, side), torch.ones(1, 1, side, side)
    torch.testing.assert_close(model.calibrated(probability, mask), probability, rtol=2e-3, atol=0)  # nothing seen
    batches = [torch.randn(3, 1, side, side) for _ in range(4)]
    clean = [(torch.rand(3, 1, side, side) < 0.8).float() for _ in range(4)]
    for logits, kept in zip(batches, clean, strict=True):
        model.learn_clean(logits, kept)

    def means(values: torch.Tensor) -> np.ndarray:
        return values.numpy().reshape(3, GRID, 2, GRID, 2).sum((0, 2, 4))

    expected = np.mean(
        [means(logits.sigmoid() * kept) / means(kept) for logits, kept in zip(batches, clean, strict=True)], 0
    )
    np.testing.assert_allclose(model.clean[0, 0], expected, rtol=1e-4)
    usual = zoom(expected, 2, order=1, mode="nearest", grid_mode=True)
    found = model.calibrated(probability, mask)[0, 0].numpy()
    np.testing.assert_allclose(found, probability[0, 0].numpy() / (usual + expected.mean() + 1e-3), rtol=1e-4)


def test_calibration_by_picture_divides_by_the_mean_of_the_foreground() -> None:
    probability, mask = torch.rand(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) < 0.5).float()
    found = LesionModel(width=4, calibration="picture").calibrated(probability, mask)
    for index in range(2):
        mean = probability[index][mask[index] > 0].mean()
        torch.testing.assert_close(found[index], probability[index] / (mean + 1e-3))


@pytest.mark.parametrize("compare", [False, True])
def test_brightness_and_contrast_of_a_film_change_nothing(compare: bool) -> None:
    torch.manual_seed(0)
    model = LesionModel(width=4, compare=compare).eval()
    image = 0.1 + 0.4 * torch.rand(1, 1, 64, 64)
    image[:, :, :, :20] = 0
    reconstruction = model.reconstruct(image) if compare else None
    film, other = 0.1 + 1.5 * image, None if reconstruction is None else 0.1 + 1.5 * reconstruction
    mask = image > 0
    expected = model.logits(image, model.seen(image, reconstruction))
    torch.testing.assert_close(
        model.logits(film * mask, model.seen(film * mask, other)), expected, rtol=1e-3, atol=1e-4
    )


def test_a_backbone_is_not_trained_and_gives_a_map_of_the_same_size() -> None:
    torch.manual_seed(0)
    model = LesionModel(width=4, backbone="test_efficientnet", layers=[0, 1, 2])
    image = torch.rand(2, 1, 64, 64)
    logits = model.logits(image, model.seen(image))
    assert logits.shape == image.shape
    lesion_loss(logits, torch.zeros_like(image), torch.ones_like(image)).backward()
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if ".backbone." not in name}


def test_a_transformer_is_refused() -> None:
    with pytest.raises(XrayError, match="test_vit, but a U-Net needs feature maps of several sizes"):
        LesionModel(backbone="test_vit", layers=[1, 2])
