from __future__ import annotations

import torch

from anomalib_xray.networks.places import at_pixels, shown_places


def test_what_is_known_of_places_does_not_darken_at_the_edge_of_the_foreground() -> None:
    mask = torch.ones(1, 1, 64, 64)
    mask[:, :, :16], mask[:, :, :, :16] = 0, 0
    torch.testing.assert_close(at_pixels(torch.full((1, 1, 4, 4), 3.0), mask), 3 * mask)


def test_places_that_are_no_parts_of_the_picture_are_all_shown() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, 3] = 1
    torch.testing.assert_close(shown_places(torch.zeros(1, 5, 2, 2), mask), torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]]))
    assert (shown_places(torch.zeros(1, 5, 3, 3), mask) == 1).all()
