from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.attention_maps import attention_maps, centre, has_attention, peak, recorded_inputs
from anomalib_xray.scores import ScoredBatch

SIDE = 32


class Network(nn.Module):
    """Two self-attention layers, one of which is used twice, and a map whose highest value stands where it is told."""

    def __init__(self, highest: tuple[int, int] | None = (21, 10), pooling: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = nn.Sequential(nn.Conv2d(3, 8, 4, 4), SelfAttention(8, pooling))
        self.unused = SelfAttention(8)
        self.last = SelfAttention(8)
        self.highest = highest

    def forward(self, image: Tensor) -> ScoredBatch:
        features = self.last(self.way(image))
        self.way(-image)
        anomaly_map = None
        if self.highest is not None:
            anomaly_map = torch.zeros(len(image), SIDE, SIDE)
            anomaly_map[:, self.highest[0], self.highest[1]] = 1
        return ScoredBatch.of({"mse": features.mean((1, 2, 3))}, "mse", anomaly_map)


@pytest.fixture
def image() -> Tensor:
    image = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    image[:, :, :, :12] = 0
    return image.repeat(1, 3, 1, 1)


def test_layers_in_use_are_shown_as_they_are_used_first(image: Tensor) -> None:
    network = Network()
    with recorded_inputs(network) as inputs:
        network(image)
        network(2 * image)
    assert set(inputs) == {"way.1", "last"}
    torch.testing.assert_close(inputs["way.1"], network.way[0](image))
    maps = attention_maps(network, image)
    assert list(maps.layers) == ["way.1", "last"]
    with recorded_inputs(network) as later:
        pass
    network(image)
    assert later == {}, "the hooks are still there"


@pytest.mark.parametrize("pooling", [1, 2])
def test_maps_are_the_weights_of_the_position_and_of_all(image: Tensor, pooling: int) -> None:
    network = Network(pooling=pooling)
    maps = attention_maps(network, image)
    assert maps.position.tolist() == [[21, 10]] * 2
    weights = network.way[1].weights(network.way[0](image)).detach().numpy()
    side = 8 // pooling
    # pixel (21, 10) of 32 x 32 lies in cell (5, 2) of 8 x 8
    expected = weights[:, 5 * 8 + 2], weights.mean(1)
    for found, values in zip(maps.layers["way.1"], expected, strict=True):
        assert found.shape == (2, 1, SIDE, SIDE)
        assert 0 <= found.min() <= found.max() <= 1
        cells = values.reshape(2, side, side) / values.max(1)[:, None, None]
        # Enlarging bends what lies between the cells' centres; around a centre the mean stays close.
        blocks = found.reshape(2, side, SIDE // side, side, SIDE // side)
        middle = blocks[:, :, SIDE // side // 2 - 1 : SIDE // side // 2 + 1][
            ..., SIDE // side // 2 - 1 : SIDE // side // 2 + 1
        ]
        np.testing.assert_allclose(middle.mean((2, 4)).numpy(), cells, atol=0.06)


@pytest.mark.parametrize("query", ["centre", "anomaly"])
def test_without_a_map_the_centre_is_asked(image: Tensor, query: str) -> None:
    position = attention_maps(Network(highest=None), image, query).position  # type: ignore[arg-type]
    assert torch.equal(position, centre((image[:, :1] > 0).float()))


def test_centre_can_be_asked_for(image: Tensor) -> None:
    assert attention_maps(Network(), image, "centre").position.tolist() != [[21, 10]] * 2


def test_the_mode_of_an_image_alone_is_that_among_others(image: Tensor) -> None:
    together, alone = attention_maps(Network(), image), attention_maps(Network(), image[1:])
    for name, layer in alone.layers.items():
        for one, other in zip(layer, together.layers[name], strict=True):
            torch.testing.assert_close(one[0], other[1])


def test_peak_is_the_position_of_the_largest_value() -> None:
    maps = torch.rand(5, 7, 7)
    expected = [np.unravel_index(one.argmax(), (7, 7)) for one in maps.numpy()]
    np.testing.assert_array_equal(peak(maps), expected)


def test_centre_is_the_nearest_foreground_to_the_centre_of_mass() -> None:
    square, ring, empty = torch.zeros(3, 1, 9, 9)
    square[0, 2:5, 4:7] = 1
    ring[0, 1:8, 1:8] = 1
    ring[0, 3:6, 3:6] = 0
    found = centre(torch.stack([square, ring, empty]))
    assert found[0].tolist() == [3, 5]
    row, column = found[1].tolist()
    assert ring[0, row, column] == 1
    assert (row - 4) ** 2 + (column - 4) ** 2 == 4
    assert found[2].tolist() == [4, 4]


def test_has_attention() -> None:
    assert has_attention(Network())
    assert not has_attention(nn.Sequential(nn.Conv2d(1, 1, 1)))
