"""Arms: forearm, elbow and upper arm behind a hand, hands turned aside and flexed fingers, and what arms wear."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.anatomy import Anatomy, build_hand, sample_pose
from anomalib_xray.phantom.attenuation import Mask, Placement, Plane
from anomalib_xray.phantom.hand import Bone, Hand, Points, SoftSegment, step

_WRIST = (-0.13, 0.55)
_KNUCKLES = (-0.05, -0.8)
_UPPER_ARM = 9.0  # longer than any, so that it always leaves the picture
_AXIS = -0.08  # x around which a hand turns aside
_FORESHORTENED = 0.45  # of a phalanx that points at the beam
_EDGEWISE = 0.4  # half width of a hand that lies on its edge
_METAL = 5.0  # attenuation of bangles, rings and implants


@dataclasses.dataclass(frozen=True)
class Arm:
    """A hand with its whole arm.

    Attributes:
        hand: Bones and tissue of hand and arm.
        chain: Knuckles, wrist, elbow and far end of the upper arm, (4, 2), hand units.
        radii: Half widths of the limb at these places.
    """

    hand: Hand
    chain: Points
    radii: tuple[float, float, float, float]

    def at(self, distance: NDArray[np.float64]) -> tuple[Points, Points, NDArray[np.float64]]:
        """Places (N, 2), unit vectors across (N, 2) and half widths (N,) at distances from the knuckles."""
        lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(self.chain, axis=0).T))])
        places = np.stack([np.interp(distance, lengths, self.chain[:, axis]) for axis in (0, 1)], axis=1)
        ahead = np.stack([np.interp(distance + 0.25, lengths, self.chain[:, axis]) for axis in (0, 1)], axis=1)
        along = ahead - np.stack([np.interp(distance - 0.25, lengths, self.chain[:, axis]) for axis in (0, 1)], axis=1)
        along /= np.maximum(np.hypot(*along.T)[:, None], 1e-6)
        return places, np.stack([-along[:, 1], along[:, 0]], axis=1), np.interp(distance, lengths, self.radii)

    @property
    def elbow(self) -> float:
        """Distance of the elbow from the knuckles along the limb, hand units."""
        return float(np.hypot(*np.diff(self.chain[:3], axis=0).T).sum())


def sample_arm(person: Anatomy, side: str, rng: np.random.Generator) -> Arm:
    """An arm of a person drawn at random: frontal to lateral, fingers flat to a fist, elbow bent or straight."""
    pose = sample_pose(rng)
    turns, lengths, thumb = pose.joint_turns.copy(), person.bone_lengths.copy(), pose.thumb
    spread = pose.spread * float(rng.uniform(0.15, 0.9))
    gesture = rng.choice(["flat", "pinch", "curl", "fist"], p=(0.55, 0.18, 0.19, 0.08))
    if gesture == "pinch":
        turns[1, 1:] += np.array([18, 62, 100]) * rng.uniform(0.75, 1.1)
        turns[0] += np.array([0, -14, -48, 0]) * rng.uniform(0.7, 1.2)
    elif gesture == "curl":
        turns[1:, 1:] += np.array([22, 55, 80]) * rng.uniform(-1.2, 1.2) * rng.uniform(0.7, 1.2, (4, 1))
        lengths[1:, 1:] *= rng.uniform(0.6, 1.0, (4, 1))
    elif gesture == "fist":
        turns[1:, 2:] += rng.uniform(140, 200, (4, 2))
        lengths[1:, 1:] *= rng.uniform(_FORESHORTENED, 1.0)
        thumb -= float(rng.uniform(20, 50))
    pose = dataclasses.replace(pose, joint_turns=turns, spread=spread, thumb=thumb)
    aside = float(rng.choice([1.0, rng.uniform(0.5, 0.9), rng.uniform(0.08, 0.35)], p=(0.5, 0.2, 0.3)))
    hand = build_hand(dataclasses.replace(person, bone_lengths=lengths), pose, side)
    hand = _aside(
        hand, aside, min(aside + float(rng.uniform(-0.1, 0.4)), 1), (1 - aside) * float(rng.uniform(-0.35, 0.35))
    )
    straight = rng.random() < 0.5
    bend = float(rng.normal(0, 9)) if straight else float(rng.uniform(15, 125) * rng.choice([-1, 1]))
    return _with_arm(hand, person, 180 + pose.wrist, bend, aside, rng)


def _aside(hand: Hand, share: float, thumb: float, shear: float) -> Hand:
    """The hand turned around its long axis, so that ``share`` of its breadth is left, and ``thumb`` of the thumb's.

    ``shear`` shifts the fingers along each other.
    """

    def moved(points: Points, share: float) -> Points:
        x, y = np.asarray(points, float).T
        return np.stack([x * share + _AXIS * (1 - share), y + shear * (x - _AXIS)], axis=1)

    def pair(point: tuple[float, float], share: float) -> tuple[float, float]:
        x, y = moved(np.array([point]), share)[0]
        return float(x), float(y)

    shares = [thumb if bone.name.endswith("_1") else share for bone in hand.bones]
    bones = [
        dataclasses.replace(bone, base=pair(bone.base, each), head=pair(bone.head, each))
        for bone, each in zip(hand.bones, shares, strict=True)
    ]
    tissue = [
        dataclasses.replace(segment, start=pair(segment.start, each), end=pair(segment.end, each))
        for segment, each in zip(hand.tissue, [thumb] * 3 + [share] * (len(hand.tissue) - 3), strict=True)
    ]
    carpals = [dataclasses.replace(carpal, outline=moved(carpal.outline, max(share, 0.4))) for carpal in hand.carpals]
    return dataclasses.replace(
        hand, bones=tuple(bones), tissue=tuple(tissue), carpals=tuple(carpals), palm=moved(hand.palm, share)
    )


def _with_arm(hand: Hand, person: Anatomy, down: float, bend: float, aside: float, rng: np.random.Generator) -> Arm:
    """The hand with a forearm in the direction ``down``, and an upper arm turned from that by ``bend`` degrees."""
    flesh, size = person.flesh * person.sturdiness * float(rng.uniform(0.9, 1.4)), person.sturdiness
    wrist = (_AXIS + (_WRIST[0] - _AXIS) * aside, _WRIST[1])
    elbow = step(wrist, down, float(rng.uniform(3.3, 4.1)))
    half_turn = bend / 2
    joint = 0.24 * max(aside, 0.3) * (-1 if rng.random() < 0.15 else 1)
    thick = float(rng.uniform(0.6, 0.85))
    *bones, radius, ulna = hand.bones
    # The radius ends at the joint, the ulna's olecranon reaches beyond it.
    radius = dataclasses.replace(
        radius,
        base=step(elbow, down + 90, -joint),
        widths=(0.3 * size, 0.2 * size, 0.92 * radius.widths[2]),
        cortex=0.045 * size,
        bend=0.02,
    )
    ulna = dataclasses.replace(
        ulna,
        base=step(step(elbow, down + 90, joint), down, 0.22),
        widths=(0.38 * size, 0.18 * size, ulna.widths[2]),
        bend=-0.012,
    )
    shoulder = step(elbow, down + bend, _UPPER_ARM)
    humerus = Bone(
        "humerus",
        base=shoulder,
        head=step(elbow, down + bend, -0.12),
        widths=(0.5 * size, 0.31 * size, (0.45 + 0.4 * max(aside, 0.2)) * size),
        cortex=0.07 * size,
        roundness=(0.2, 0.25),
    )
    apart = 0.17 * max(aside, 0.35)
    middle, above = step(elbow, down, -1.3), step(elbow, down + bend, 3.0)
    tissue = list(hand.tissue[:-2])
    for way in (-1, 1):
        start = (wrist[0] + way * apart, wrist[1])
        belly = step(middle, down + 90, way * apart * 1.3)
        tissue += [
            SoftSegment(start, belly, (0.3 * flesh, 0.47 * flesh)),
            SoftSegment(belly, step(elbow, down + half_turn + 90, way * apart), (0.47 * flesh, 0.47 * flesh)),
        ]
    tissue += [
        SoftSegment(elbow, above, (0.55 * flesh, thick * flesh)),
        SoftSegment(above, shoulder, (thick * flesh, thick * flesh)),
    ]
    chain = np.array([(_AXIS + (_KNUCKLES[0] - _AXIS) * aside, _KNUCKLES[1]), wrist, elbow, shoulder])
    radii = (0.25 + 0.4 * aside, apart + 0.3 * flesh, apart + 0.47 * flesh, thick * flesh)
    return Arm(dataclasses.replace(hand, bones=(*bones, radius, ulna, humerus), tissue=tuple(tissue)), chain, radii)


def sample_leaving(rng: np.random.Generator) -> float:
    """The border at which an arm leaves, mostly the upper one: degrees from up to the right."""
    return float(rng.choice([0, 90, 180, 270], p=(0.76, 0.09, 0.06, 0.09)))


def place_arms(
    arms: Sequence[Arm], shape: tuple[int, int], leaving: float, rng: np.random.Generator
) -> list[Placement]:
    """Lay one or two arms side by side on a picture (H, W); ``leaving`` is as of :func:`sample_leaving`."""
    width = shape[1] // len(arms)
    placements = [place_arm(arm, (shape[0], width), leaving, rng) for arm in arms]
    return [
        dataclasses.replace(placement, offset=(placement.offset[0] + number * width, placement.offset[1]))
        for number, placement in enumerate(placements)
    ]


def place_arm(arm: Arm, shape: tuple[int, int], leaving: float, rng: np.random.Generator) -> Placement:
    """Lay an arm on a picture (H, W), so that its upper end leaves it at about the border ``leaving``."""
    whole = rng.random() < 0.5
    reach = arm.elbow + float(rng.uniform(0.3, 3.0)) if whole else float(rng.uniform(0.4, 0.95)) * arm.elbow
    proximal = arm.at(np.array([reach - 0.5, reach]))[0]
    mirrored = arm.hand.side == "R"
    way = np.diff(Placement(1.0, 0.0, (0.0, 0.0), mirrored).points(proximal), axis=0)[0]
    degrees = leaving + float(rng.normal(0, 9)) - float(np.degrees(np.arctan2(way[0], -way[1])))
    tips = [segment.end for segment in arm.hand.tissue[:-6]] if not whole or rng.random() < 0.6 else []
    shown = [*tips, *arm.at(np.linspace(0.8, reach, 8))[0]]
    laid = Placement(1.0, degrees, (0.0, 0.0), mirrored)
    points = laid.points(shown)
    room = 0.45 if whole else 0.25
    low, high = points.min(axis=0) - room, points.max(axis=0) + room
    share = np.array(shape[::-1], float)
    scale = float((share / (high - low)).min()) * float(rng.uniform(0.62, 1.1))
    # No space is left where the arm leaves the picture.
    end = np.diff(laid.points(proximal), axis=0)[0]
    axis = int(np.abs(end).argmax())
    portion = rng.uniform(0.1, 0.9, 2)
    portion[axis] = 1.0 if end[axis] > 0 else 0.0
    low[axis] += room * (end[axis] < 0)
    high[axis] -= room * (end[axis] > 0)
    x, y = (share - (high - low) * scale) * portion - low * scale
    return Placement(scale, degrees, (float(x), float(y)), mirrored)


def thickened(unevenness: Plane, arm: Arm, placement: Placement, rng: np.random.Generator) -> Plane:
    """The unevenness (H, W) of flesh that gets thicker from the fingers to the upper arm; a hand edgewise is thick."""
    wrist = placement.points([_WRIST])[0].astype(np.float32)
    x = np.arange(unevenness.shape[1], dtype=np.float32) - wrist[0]
    y = np.arange(unevenness.shape[0], dtype=np.float32)[:, None] - wrist[1]
    away = np.sqrt(x**2 + y**2) / np.float32(placement.scale)
    thin = rng.uniform(0.45, 1.0) if arm.radii[0] > _EDGEWISE else rng.uniform(0.8, 2.2)
    thick = rng.choice([rng.uniform(0.7, 1.3), rng.uniform(1.3, 2.6)], p=(0.75, 0.25))
    rise = 1 / (1 + np.exp(np.clip(np.float32(rng.uniform(1, 5)) - away, -20, 20)))
    return np.asarray((1 + unevenness) * (thin + (thick - thin) * rise) - 1, np.float32)


def plaster(arm: Arm, placement: Placement, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Plane, Mask]:
    """A cast around the limb, or a splint along one side of it: its attenuation and its mask, (H, W) each."""
    start, stop = float(rng.uniform(-0.3, 0.9)), float(rng.uniform(0.6 * arm.elbow, arm.elbow + 2.5))
    distance, slant = np.linspace(start, stop, 48), float(rng.uniform(-0.3, 0.3))
    half = arm.at(distance)[2] + float(rng.uniform(0.05, 0.25))
    thickness, density = float(rng.uniform(0.06, 0.16)), float(np.exp(rng.uniform(np.log(0.7), np.log(3.5))))
    rough = np.asarray(cv2.GaussianBlur(rng.standard_normal((2, 48)), (0, 0), sigmaX=1.6, sigmaY=0.01), np.float64)
    rough = rough * rng.uniform(0.02, 0.12)

    def band(low: NDArray[np.float64], high: NDArray[np.float64]) -> Mask:
        """The mask (H, W) between two distances from the middle of the limb; its ends are slanted."""
        sides = []
        for edge, shift in ((low + rough[0], slant), (high + rough[1], -slant)):
            places, across, _ = arm.at(distance + shift)
            sides.append(placement.points(places + across * edge[:, None]) * 16)
        plane = np.zeros(shape, np.uint8)
        for i in range(len(distance) - 1):
            corners = np.array([sides[0][i], sides[0][i + 1], sides[1][i + 1], sides[1][i]])
            cv2.fillConvexPoly(plane, np.round(corners).astype(np.int32), 1, cv2.LINE_8, 4)
        return plane > 0

    whole = band(-half, half)
    streaks = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), sigmaX=1.0, sigmaY=1.6)
    streaks = np.maximum(1 + np.float32(rng.uniform(0.1, 0.8)) * streaks, 0)
    if rng.random() < 0.65:
        depth = cv2.distanceTransform(whole.astype(np.uint8), cv2.DIST_L2, 5) / np.float32(placement.scale)
        radius = np.float32(half.mean())

        def chord(depth: Plane, radius: np.float32) -> Plane:
            return np.asarray(2 * np.sqrt(np.maximum(radius**2 - np.maximum(radius - depth, 0) ** 2, 0)), np.float32)

        # A tube: its wall is seen edge on at the sides, and twice in the middle.
        shell = chord(depth, radius) - chord(np.maximum(depth - np.float32(thickness), 0), radius - thickness)
        return np.asarray(density * shell * streaks * whole, np.float32), whole
    side = float(rng.choice([-1, 1]))
    slab = band(*np.sort([side * (half - 0.05), side * (half + thickness)], axis=0))
    # The bandage around a splint is hardly seen.
    gauze = np.float32(0.05 + 0.08 * density)
    return np.asarray((slab * np.float32(0.5 * density) + whole * gauze) * streaks, np.float32), whole | slab


def metal(arm: Arm, placement: Placement, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Plane, Mask]:
    """Bangles around the wrist, a ring on a finger, or a bone plate with screws: attenuation and mask, (H, W) each."""
    lead, scale = np.zeros(shape, np.uint8), placement.scale

    def line(places: Points, grey: int, width: float) -> None:
        ends = np.round(places).astype(int).tolist()
        cv2.line(lead, ends[0], ends[1], grey, max(2, round(width * scale)), cv2.LINE_AA)

    def bone_axes(bone: Bone) -> tuple[Points, Points]:
        """Unit steps (2,) along the bone from its head and across it, in pixels per hand unit."""
        along = np.subtract(*placement.points([bone.base, bone.head])) / bone.length
        return along, np.array([-along[1], along[0]])

    kind = rng.choice(["bangle", "ring", "plate"], p=(0.6, 0.2, 0.2))
    if kind == "bangle":
        places, across, half = arm.at(rng.uniform(0.9, 2.6, int(rng.integers(1, 3))))
        for place, way, width in zip(placement.points(places), across, half, strict=True):
            x, y = np.subtract(*placement.points([way, (0, 0)]))
            tilt = float(np.degrees(np.arctan2(y, x)) + rng.normal(0, 9))
            axes = np.maximum(width * scale * rng.uniform((1.0, 0.02), (1.25, 0.65)), 1).astype(int).tolist()
            thick = max(1, round(scale * float(rng.uniform(0.025, 0.08))))
            cv2.ellipse(lead, np.round(place).astype(int).tolist(), axes, tilt, 0, 360, 255, thick, cv2.LINE_AA)
    elif kind == "ring":
        fingers = [bone for bone in arm.hand.bones if bone.name.startswith("proximal")]
        finger = fingers[int(rng.integers(1, len(fingers)))]
        reach = bone_axes(finger)[1] * finger.widths[0] * 0.8
        middle = placement.points([finger.base, finger.head]).mean(axis=0)
        line(np.array([middle - reach, middle + reach]), 255, 0.09)
    else:
        bone = arm.hand.bones[-int(rng.integers(1, 4))]  # radius, ulna or humerus
        along, across = bone_axes(bone)
        start = placement.points([bone.head])[0] + along * rng.uniform(0.3, 1.8) + across * rng.uniform(-0.1, 0.1)
        stop = start + along * rng.uniform(0.7, 1.6)
        line(np.array([start, stop]), 160, 0.13)
        for share in np.linspace(0.08, 0.92, int(rng.integers(4, 9))):
            place = start + (stop - start) * share
            line(np.array([place - across * 0.14, place + across * 0.14]), 255, 0.04)
    return lead.astype(np.float32) * np.float32(_METAL / 255), lead > 127
