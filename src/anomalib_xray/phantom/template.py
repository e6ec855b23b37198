"""The measures of an ordinary hand, in hand units; taken from hand radiographs of young people."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Digit:
    """A digit of the template: where its metacarpal begins, then one value a bone."""

    origin: tuple[float, float]
    angles: tuple[float, ...]  # degrees from straight up towards the thumb; metacarpal first
    lengths: tuple[float, ...]
    widths: tuple[tuple[float, float, float], ...]
    radii: tuple[float, ...]  # soft tissue at the base, then after each bone


_FINGER_RADII = (0.24, 0.208, 0.16, 0.136, 0.116)
METACARPAL = (0.225, 0.118, 0.23)
PROXIMAL = (0.23, 0.126, 0.176)
MIDDLE = (0.186, 0.104, 0.142)
DISTAL = (0.152, 0.058, 0.108)
DIGITS = (
    Digit(
        (0.51, 0.07),
        (35.0, 45.0, 53.0),
        (0.66, 0.47, 0.37),
        ((0.24, 0.148, 0.215), (0.222, 0.122, 0.175), (0.19, 0.076, 0.122)),
        (0.27, 0.215, 0.178, 0.142),
    ),
    Digit(
        (0.235, 0.02),
        (8.0, 8.0, 8.0, 9.0),
        (0.98, 0.6, 0.34, 0.265),
        (METACARPAL, PROXIMAL, MIDDLE, DISTAL),
        _FINGER_RADII,
    ),
    Digit(
        (0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (1.0, 0.68, 0.43, 0.275),
        (METACARPAL, PROXIMAL, MIDDLE, DISTAL),
        _FINGER_RADII,
    ),
    Digit(
        (-0.185, -0.01),
        (-7.0, -9.5, -10.0, -9.0),
        (0.84, 0.62, 0.4, 0.28),
        (METACARPAL, PROXIMAL, MIDDLE, DISTAL),
        _FINGER_RADII,
    ),
    Digit(
        (-0.315, 0.07),
        (-18.0, -20.0, -19.0, -15.0),
        (0.75, 0.49, 0.275, 0.235),
        (METACARPAL, PROXIMAL, MIDDLE, DISTAL),
        _FINGER_RADII,
    ),
)
DIGIT_SIZES = (1.0, 1.0, 1.04, 0.93, 0.82)  # widths relative to the index finger
THUMB_BONES = ("metacarpal", "proximal", "distal")
FINGER_BONES = ("metacarpal", "proximal", "middle", "distal")
JOINT_GAP = 0.02

# Outlines in hundredths of a hand unit.
CARPALS: dict[str, tuple[tuple[float, float], ...]] = {
    "capitate": (
        (-8, 1),
        (4, 1),
        (11, 6),
        (14, 19),
        (12, 30),
        (6, 39),
        (-2, 41),
        (-9, 37),
        (-10, 26),
        (-10, 15),
        (-13, 6),
    ),
    "hamate": ((-37, 12), (-33, 4), (-21, 1), (-11, 3), (-7, 14), (-8, 25), (-11, 34), (-17, 34), (-25, 27), (-35, 20)),
    "hook": ((-27, 5), (-21, 3), (-18, 8), (-19, 15), (-24, 15), (-28, 10)),
    "trapezoid": ((11, 8), (18, 0), (27, 2), (31, 8), (29, 18), (22, 22), (14, 19)),
    "trapezium": ((28, 6), (38, 2), (46, 9), (52, 17), (47, 27), (39, 32), (29, 29), (24, 20), (26, 12)),
    "scaphoid": ((-2, 43), (7, 36), (16, 26), (25, 24), (31, 32), (28, 41), (18, 47), (9, 52), (1, 52), (-3, 48)),
    "lunate": ((-25, 45), (-16, 37), (-4, 40), (4, 45), (2, 52), (-9, 56), (-20, 56), (-26, 51)),
    "triquetrum": ((-40, 27), (-35, 19), (-25, 20), (-18, 30), (-16, 40), (-22, 46), (-31, 44), (-38, 36)),
    "pisiform": ((-36, 33), (-30, 29), (-24, 32), (-24, 41), (-29, 45), (-36, 41)),
}
