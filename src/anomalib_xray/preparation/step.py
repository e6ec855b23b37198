"""What a preparation step is: it looks at a picture and plans, then does what is planned.

All looking and deciding happens in :meth:`Step.plan`; :meth:`Step.apply` only carries out. So the plans of a picture
are its complete history: they are recorded, and replaying them gives the same pixels without looking again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.io.read import Radiograph

Mask: TypeAlias = NDArray[np.bool_]
Matrix: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What a step found out about a picture and will do to it.

    Attributes:
        parameters: All that :meth:`Step.apply` needs: values that JSON has, lists and mappings of them, and boolean
            masks (H, W). Empty when nothing is to be done; the picture then passes unchanged.
        flags: What a person should know about, as short snake_case words; for example ``no_carrier``.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a picture comes from.

    Attributes:
        name: Path of the original below its root, with forward slashes.
        shape: Height and width of the original.
        matrix: (3, 3), leads from the original's pixel coordinates (x, y, 1) to those of the picture at hand. Pixel
            centres have whole coordinates.
    """

    name: str
    shape: tuple[int, int]
    matrix: Matrix


class Step(ABC):
    """One step of the preparation. Its settings are the arguments of its constructor, with plain types and defaults.

    A step is offered in pipelines under the name of its entry point in the group ``anomalib_xray.preparation_steps``.
    It takes pictures (H, W) of uint8 or uint16, and keeps their depth. From the foreground step on the background is
    exactly 0 and the foreground at least 1; every step behind it keeps that.

    Attributes:
        version: Raised when the same settings give other pixels than before, so that prepared pictures are redone.
        failures: Those of the step's flags that say it failed, so that the picture is not what a model expects.
    """

    version: ClassVar[int] = 1
    failures: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def plan(self, image: Radiograph) -> Plan:
        """Looks at a picture and decides what to do.

        Args:
            image: (H, W), uint8 or uint16.

        Returns:
            The plan; the same picture always gives the same one.

        Raises:
            XrayError: The picture cannot be prepared. A step that merely finds nothing returns an empty plan with a
                flag.
        """

    @abstractmethod
    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Does what is planned, without looking.

        Args:
            image: (H, W), uint8 or uint16; not changed.
            plan: A plan for a picture of this size that has parameters.

        Returns:
            The new picture, of the same depth.
        """

    def plan_at(self, image: Radiograph, place: Place) -> Plan:
        """Plans like :meth:`plan`, for steps that must know where the picture comes from.

        Args:
            image: (H, W), uint8 or uint16.
            place: Where it comes from.

        Returns:
            The plan.
        """
        del place
        return self.plan(image)

    def parts(self, plan: Plan) -> Sequence[Plan]:
        """Divides a plan that makes several pictures of one, for example one a hand.

        Args:
            plan: What :meth:`plan` returned, with parameters.

        Returns:
            A plan for each picture, in the order of their numbers; at least one.
        """
        return (plan,)

    def matrix(self, plan: Plan) -> Matrix:
        """How applying a plan moves pixels.

        Args:
            plan: A plan, or one of its parts, with parameters.

        Returns:
            (3, 3), leads from the pixel coordinates (x, y, 1) before the step to those after it; the identity for steps
            that leave the geometry alone.
        """
        del plan
        return np.eye(3)

    def fingerprint(self, name: str) -> str:
        """What a plan depends on beside the picture and the settings, such as the content of a file they name.

        Args:
            name: Path of the original below its root, with forward slashes.

        Returns:
            Any text; prepared pictures are redone when it changes.
        """
        del name
        return ""
