"""Small steps with known effects, offered to pipelines under names of their own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation import settings
from anomalib_xray.preparation.step import Matrix, Place, Plan, Step


class Brighten(Step):
    """Adds to every pixel.

    Args:
        by: How much.
        file: Nothing but a path.
    """

    looks: ClassVar[list[str]] = []

    def __init__(self, by: int = 1, file: Path | None = None) -> None:
        if by < 0:
            raise XrayError("by must not be negative")
        self.by = by
        self.file = file

    def plan(self, image: Radiograph) -> Plan:
        self.looks.append("brighten")
        return Plan({"by": self.by, "mask": image > 0}, ("bright",) if image.mean() > 100 else ())

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        return (image + np.where(plan.parameters["mask"], plan.parameters["by"], 0)).astype(image.dtype)


class Halves(Step):
    """Cuts pictures that are wider than high into a left and a right half."""

    looks: ClassVar[list[str]] = []

    def plan(self, image: Radiograph) -> Plan:
        self.looks.append("halves")
        height, width = image.shape
        if width <= height:
            return Plan(flags=("narrow",))
        return Plan({"lefts": (0, width // 2), "width": width // 2})

    def parts(self, plan: Plan) -> list[Plan]:
        return [Plan({"left": left, "width": plan.parameters["width"]}) for left in plan.parameters["lefts"]]

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        left = plan.parameters["left"]
        return image[:, left : left + plan.parameters["width"]]

    def matrix(self, plan: Plan) -> Matrix:
        return np.array([[1, 0, -plan.parameters["left"]], [0, 1, 0], [0, 0, 1]], float)


class Refuse(Step):
    """Fails for dark pictures, and in a way of its own for black ones."""

    def plan(self, image: Radiograph) -> Plan:
        if image.max() == 0:
            raise ZeroDivisionError("nothing there")
        if image.mean() < 10:
            raise XrayError("it is too dark")
        return Plan()

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        raise AssertionError("an empty plan is not applied")


class Named(Step):
    """Remembers where each picture came from."""

    places: ClassVar[list[Place]] = []

    def plan(self, image: Radiograph) -> Plan:
        raise AssertionError("plan_at is asked")

    def plan_at(self, image: Radiograph, place: Place) -> Plan:
        self.places.append(place)
        return Plan({"name": place.name})

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        return image

    def fingerprint(self, name: str) -> str:
        return name


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Step]]:
    """Offers the steps above, and forgets what they looked at before."""
    steps: dict[str, type[Step]] = {"brighten": Brighten, "halves": Halves, "refuse": Refuse, "named": Named}
    original = settings.step_class

    def step_class(name: str) -> type[Step]:
        return steps[name] if name in steps else original(name)

    monkeypatch.setattr(settings, "step_class", step_class)
    Brighten.looks.clear()
    Halves.looks.clear()
    Named.places.clear()
    return steps
