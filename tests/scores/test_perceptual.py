from __future__ import annotations

import numpy as np
import torch

from anomalib_xray.scores import enlarged_mean, relative_feature_errors


def test_mean_of_a_layers_map_is_the_relative_error() -> None:
    random = np.random.default_rng(0)
    layers = [random.normal(size=(2, 3, 2, 8, 8)), random.normal(size=(2, 3, 5, 4, 4))]
    errors = relative_feature_errors(*([torch.from_numpy(layer[which]) for layer in layers] for which in (0, 1)))
    for error, (feature, other) in zip(errors, layers, strict=True):
        assert error.shape == (3, 1, *feature.shape[2:])
        expected = np.abs(feature - other).sum((1, 2, 3)) / np.abs(feature).sum((1, 2, 3))
        np.testing.assert_allclose(error.mean((1, 2, 3)), expected)
        place = np.abs(feature - other)[1, :, 2, 3].mean() / np.abs(feature[1]).mean()
        np.testing.assert_allclose(error[1, 0, 2, 3], place)


def test_features_without_content_have_a_finite_error() -> None:
    nothing = torch.zeros(1, 2, 4, 4)
    (error,) = relative_feature_errors([nothing], [nothing])
    assert (error == 0).all()


def test_maps_of_several_sizes_are_averaged_at_the_images_size() -> None:
    maps = [torch.full((2, 1, 4, 4), 1.0), torch.full((2, 1, 8, 8), 4.0)]
    torch.testing.assert_close(enlarged_mean(maps, (16, 24)), torch.full((2, 1, 16, 24), 2.5))
    peak = torch.zeros(1, 1, 4, 4)
    peak[..., 1, 2] = 1
    enlarged = enlarged_mean([peak], (32, 32))[0, 0]
    assert np.unravel_index(int(enlarged.argmax()), (32, 32)) in {(y, x) for y in range(8, 16) for x in range(16, 24)}
    assert (enlarged[24:] == 0).all()
