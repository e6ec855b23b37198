from __future__ import annotations

import pytest
import torch

from anomalib_xray.networks.patch_discriminator import PatchDiscriminator


@pytest.mark.parametrize(("side", "channels"), [(64, [8, 16, 32]), (128, [16, 32, 64]), (256, [32, 64, 128])])
def test_three_levels_judge_16_by_16_places_whatever_the_size(side: int, channels: list[int]) -> None:
    network = PatchDiscriminator(side, width=8)
    assert [layer.in_channels for layer in network.narrow] == channels
    assert network(torch.zeros(1, 1, side, side)).shape == (1, 1, 16, 16)


def test_a_change_is_seen_where_it_is() -> None:
    torch.manual_seed(0)
    network, image = PatchDiscriminator(64, width=8), torch.rand(1, 1, 64, 64) * 2 - 1
    changed = image.clone()
    changed[:, :, 8:16, 40:48] = 1
    with torch.no_grad():
        difference = (network(changed) - network(image)).abs().squeeze()
    row, column = divmod(int(difference.argmax()), 16)
    assert 1 <= row <= 4
    assert 9 <= column <= 12
