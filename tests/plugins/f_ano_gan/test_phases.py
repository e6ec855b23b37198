from __future__ import annotations

import math

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.f_ano_gan.phases import gan_epochs, phase_of


@pytest.mark.parametrize(
    ("epochs", "share", "first"),
    [(60, 0.4, 36), (100, 0.5, 50), (10, 0.25, 8), (2, 0.4, 1), (3, 0.01, None), (1, 0.4, None), (50, 0.0, None)],
)
def test_the_encoder_has_its_share_of_the_epochs_at_the_end(epochs: int, share: float, first: int | None) -> None:
    assert gan_epochs(epochs, share) == first
    phases = [phase_of(epoch, epochs, share) for epoch in range(epochs)]
    if first is None:
        assert set(phases) == {"both"}
    else:
        assert phases == ["gan"] * first + ["encoder"] * (epochs - first)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_a_division_leaves_an_epoch_to_each(share: float) -> None:
    for epochs in range(1, 40):
        phases = {phase_of(epoch, epochs, share) for epoch in range(epochs)}
        assert phases in ({"both"}, {"gan", "encoder"})
        if phases == {"both"}:
            assert epochs * min(share, 1 - share) <= 0.5


@pytest.mark.parametrize("share", [-0.1, 1.0, 40, math.nan])
def test_refuses_a_share_out_of_range(share: float) -> None:
    with pytest.raises(XrayError, match=f"encoder_share is {share}"):
        gan_epochs(10, share)


@pytest.mark.parametrize("epochs", [-1, None])
def test_refuses_a_training_without_end(epochs: int | None) -> None:
    with pytest.raises(XrayError, match=r"set trainer\.max_epochs"):
        phase_of(0, epochs, 0.4)
    assert phase_of(7, epochs, 0.0) == "both"
