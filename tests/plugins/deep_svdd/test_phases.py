from __future__ import annotations

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.deep_svdd.phases import pretraining_epochs


@pytest.mark.parametrize(
    ("max_epochs", "share", "expected"),
    [(500, 0.7, 350), (10, 0.0, 0), (None, 0.0, 0), (1, 0.9, 0), (2, 0.5, 1), (1, 0.3, 0), (3, 0.9, 0)],
)
def test_first_share_of_the_epochs_is_pre_training(max_epochs: int | None, share: float, expected: int) -> None:
    assert pretraining_epochs(max_epochs, share) == expected


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(XrayError, match="pretrain_share"):
        pretraining_epochs(10, share)


@pytest.mark.parametrize("max_epochs", [None, -1])
def test_training_without_an_end_is_refused(max_epochs: int | None) -> None:
    with pytest.raises(XrayError, match="max_epochs"):
        pretraining_epochs(max_epochs, 0.5)
