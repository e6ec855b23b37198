from __future__ import annotations

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.anomalies import ANOMALY_KINDS
from anomalib_xray.phantom.plan import Arguments, plan


def test_more_patients_leave_the_first_ones_as_they_are() -> None:
    few, many = plan(Arguments(patients=10)), plan(Arguments(patients=50))
    assert many[: len(few)] == few


def test_shares_hold() -> None:
    images = plan(Arguments(patients=400))
    first_studies = {image.patient: image for image in images if image.study == 1}
    assert len(first_studies) == 400
    positives = sum(image.positive for image in first_studies.values())
    valid = sum(image.part == "valid" for image in first_studies.values())
    assert positives / 400 == pytest.approx(0.4, abs=0.02)
    assert valid / 400 == pytest.approx(0.15, abs=0.02)
    kinds = [image.kind for image in first_studies.values() if image.positive]
    assert {kinds.count(kind) for kind in ANOMALY_KINDS} <= set(range(14, 27))


def test_the_mixture_is_that_of_mura() -> None:
    images = plan(Arguments(patients=400))
    labels = {image.patient: {other.positive for other in images if other.patient == image.patient} for image in images}
    assert sum(len(found) == 2 for found in labels.values()) in range(8, 50)
    assert {image.image for image in images} == {1, 2, 3}
    assert {image.channels for image in images} == {1, 3}
    assert {image.part for image in images} == {"train", "valid"}


def test_a_study_has_one_kind_and_one_label() -> None:
    kinds: dict[str, set[str | None]] = {}
    for image in plan(Arguments(patients=100)):
        kinds.setdefault(image.study_path, set()).add(image.kind)
        assert image.path.endswith(f"_{'positive' if image.positive else 'negative'}/image{image.image}.png")
    assert all(len(found) == 1 for found in kinds.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": 0}, "at least 1 patient"),
        ({"seed": -1}, "seed must be 0 or larger"),
        ({"positive_share": 1.2}, "positive_share"),
        ({"valid_share": -0.1}, "valid_share"),
        ({"kinds": ("rust",)}, "rust"),
        ({"kinds": ()}, "at least one of"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(XrayError, match=message):
        Arguments(**wrong)
