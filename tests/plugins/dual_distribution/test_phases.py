from __future__ import annotations

from typing import Any

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.dual_distribution.phases import ensemble_epochs, epoch_shares


def test_the_last_epochs_are_the_refinements() -> None:
    assert ensemble_epochs(10, "dual", 3) == 7
    assert ensemble_epochs(10, "none", 0) is None
    assert ensemble_epochs(None, "dual", 3) is None
    assert epoch_shares(10, "dual", 3) == pytest.approx((0.7, 0.7, 0.3))
    assert epoch_shares(10, "none", 0) == (1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((10, "none", 3), "at least 1"),
        ((10, "dual", 0), "at least 1"),
        ((10, "intra", -1), "at least 1"),
        ((3, "dual", 3), "max_epochs"),
        ((-1, "dual", 3), "max_epochs"),
    ],
)
def test_epochs_that_do_not_fit_are_refused(arguments: Any, told: str) -> None:
    with pytest.raises(XrayError, match=told):
        ensemble_epochs(*arguments)
