"""Preparation steps: a step looks at a picture and plans, then does what is planned.

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
    """The findings of a step about a picture, and what it will do to it.

    Attributes:
        parameters: All that :meth:`Step.apply` needs: values that JSON has, lists and mappings of them, and boolean
            masks (H, W). Empty if nothing is to be done; the picture then passes unchanged. A step
            may add ``doubt``, from 0 to 1, which tells people which results to look at first.
        flags: Findings that a person should know about, as short snake_case words; for example ``inverted``. What is
            normal is no flag.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """The origin of a picture.

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

    Example:
        >>> class Brighten(Step):
        ...     def plan(self, image):
        ...         return Plan({"levels": 10})
        ...
        ...     def apply(self, image, plan):
        ...         return image + image.dtype.type(plan.parameters["levels"])
        >>> image = np.zeros((1, 2), np.uint8)
        >>> Brighten().apply(image, Brighten().plan(image))
        array([[10, 10]], dtype=uint8)
    """

    version: ClassVar[int] = 1
    failures: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def plan(self, image: Radiograph) -> Plan:
        """Look at a picture (H, W) and decide what to do; the same picture always gives the same plan.

        Raises:
            XrayError: The picture cannot be prepared. A step that merely finds nothing returns an empty plan with a
                flag.
        """

    @abstractmethod
    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Do what is planned, without looking.

        Args:
            image: (H, W), uint8 or uint16; not changed.
            plan: A plan for a picture of this size that has parameters.

        Returns:
            The new picture, of the same depth.
        """

    def plan_at(self, image: Radiograph, place: Place) -> Plan:
        """Plan like :meth:`plan`, for steps that must know the ``place`` that the picture comes from."""
        del place
        return self.plan(image)

    def parts(self, plan: Plan) -> Sequence[Plan]:
        """Divide a plan with parameters that makes several pictures of one, for example one per hand.

        Returns:
            A plan for each picture, in the order of their numbers; at least one.
        """
        return (plan,)

    def matrix(self, plan: Plan) -> Matrix:
        """The motion of pixels by a plan, or one of its parts, with parameters.

        Returns:
            (3, 3), leads from the pixel coordinates (x, y, 1) before the step to those after it; the identity for steps
            that leave the geometry alone.
        """
        del plan
        return np.eye(3)

    def fingerprint(self, name: str) -> str:
        """Text that changes with whatever a plan depends on beside picture and settings, such as a file's content.

        ``name`` is the path of the original below its root, with forward slashes.
        """
        del name
        return ""
