from __future__ import annotations

import numpy as np

from anomalib_xray.phantom.markers import place_marker


def test_a_marker_lies_beside_the_hand_and_inside_its_box() -> None:
    hands = np.zeros((512, 400), np.bool_)
    hands[:, 150:] = True
    for seed in range(10):
        marker = place_marker(hands, "L", np.random.default_rng(seed))
        if marker is None:
            continue
        x0, y0, x1, y1 = marker.box
        lead = marker.attenuation > 0
        assert not (lead & hands).any()
        assert lead[y0:y1, x0:x1].sum() == lead.sum() > 0
        assert lead[y0].any()
        assert lead[:, x1 - 1].any()
        assert marker.attenuation.max() > 3
    assert place_marker(hands, "L", np.random.default_rng(0)) is not None


def test_no_room_gives_no_marker() -> None:
    assert place_marker(np.ones((512, 400), np.bool_), "R", np.random.default_rng(0)) is None
    assert place_marker(np.zeros((512, 20), np.bool_), "R", np.random.default_rng(0)) is None
