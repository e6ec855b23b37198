"""The step that cuts the image carrier, a bright or dark rectangle that may be tilted, out of its surroundings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Matrix, Plan, Step
from anomalib_xray.preparation.view import detail, scaling, small_view

_LARGEST = 32766  # OpenCV warps pictures with sides up to this many pixels
_UPRIGHT = 0.5  # pixels between the ends of a side; then the carrier is cut out along whole pixels, unblurred

Method = Literal["ladder", "otsu", "contours"]
View: TypeAlias = NDArray[np.uint8]
Corners: TypeAlias = NDArray[np.float64]
Outline: TypeAlias = NDArray[np.int32]
_SHARE = (0.25, 0.99)  # of the picture that a carrier covers
_FULL = 0.9  # share of its rectangle that a carrier's outline encloses
# A hand that reaches in from the surroundings takes away more. But then the outline's hull is a clean rectangle.
_HAND_INSIDE, _CLEAN = 0.6, 0.97
_CRUMB = 0.02  # share of the picture that may be cut off whatever it shows: white strips and frames
_BAND = 0.015  # of the longest side; where the carrier's edge itself is rich in detail
_SMOOTHER = 0.95  # detail of the surroundings, relative to that of the carrier
_BESIDE = 0.02  # of the longest side: how far from an edge the grey levels on both of its sides are compared
_POINTS = 100  # on an edge
_STEP, _WHOLE = 3, 0.95  # grey levels of a step, and the share of a carrier's edge along which there is one
_LIMB = 4  # grey levels by which an edge within a limb may exceed the difference of surroundings and carrier
_RUNGS = 4
_SMOOTHING = 5  # pixels; removes the grain of films
_PUBLISHED_SIDE = 512  # pixels; for pictures of this size the published area below was chosen
_PUBLISHED_AREA = 100_000  # square pixels
_PUBLISHED_COSINE = 0.45
_PUBLISHED_THRESHOLDS = range(26, 256, 26)


class CarrierCrop(Step):
    """Crop a picture to its image carrier, which may be tilted (arXiv 2001.10883, section on preprocessing).

    The carrier is looked for on a small view and cut out at full resolution. If none is found the picture passes; that
    is normal, many pictures show nothing but the carrier.

    Args:
        method: Method of the search, see :func:`find_carrier`: ``ladder``, or as published ``otsu`` (the paper) or
            ``contours`` (its code).
        frames: Number of carriers within one another that are taken off; films on films exist.
        margin: Share of the carrier's shorter side that is trimmed on each side, so that nothing of its edge stays.
        portrait: Whether a carrier that is wider than high is turned clockwise by a quarter, as in the published code.

    Raises:
        XrayError: A setting is unknown or out of range.
    """

    version = 2

    def __init__(
        self, method: Method = "ladder", frames: int = 2, margin: float = 0.006, *, portrait: bool = False
    ) -> None:
        if method not in get_args(Method):
            raise XrayError(f"The carrier crop's method is {method!r}; choose one of {', '.join(get_args(Method))}.")
        if frames < 1:
            raise XrayError(f"The setting frames is {frames}; it must be at least 1.")
        if not 0 <= margin <= 0.2:
            raise XrayError(f"The setting margin is {margin}; it is a share from 0 to 0.2.")
        self.method: Method = method
        self.frames = frames
        self.margin = margin
        self.portrait = portrait

    def plan(self, image: Radiograph) -> Plan:
        """Find the ``corners`` of the rest, clockwise from the future top left one, and its ``size``."""
        corners = self._find(image) if max(image.shape) <= _LARGEST else None
        if corners is None:
            return Plan()
        if np.ptp(corners[[0, 3], 0]) < _UPRIGHT and np.ptp(corners[[0, 1], 1]) < _UPRIGHT:
            corners = np.rint(corners)
        width, height = _sides(corners)
        if self.portrait and width > height:
            corners = np.roll(corners, 1, axis=0)
            width, height = height, width
        return Plan({"corners": corners.round(2).tolist(), "size": [round(height) + 1, round(width) + 1]})

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Cut out the carrier; where it leaves the picture, the picture's border is repeated."""
        return cast("Radiograph", _cut(image, self.matrix(plan), plan.parameters["size"]))

    def matrix(self, plan: Plan) -> Matrix:
        """The turn and shift that sets the carrier upright."""
        return _upright_matrix(np.array(plan.parameters["corners"]), plan.parameters["size"])

    def _find(self, image: Radiograph) -> Corners | None:
        """The corners of the innermost carrier, trimmed, in the picture's coordinates; None without a carrier."""
        view = small_view(image)
        to_picture = scaling(view.shape, image.shape)
        found = None
        for _ in range(self.frames):
            corners = find_carrier(view, self.method)
            if corners is None:
                break
            corners = _trimmed(corners, self.margin)
            moved = np.column_stack([corners, np.ones(4)]) @ to_picture.T
            found = np.asarray(moved[:, :2] / moved[:, 2:])
            width, height = _sides(corners)
            size = [round(height) + 1, round(width) + 1]
            inwards = _upright_matrix(corners, size)
            view = np.asarray(_cut(view, inwards, size), np.uint8)
            to_picture = np.asarray(to_picture @ np.linalg.inv(inwards), np.float64)
        return found


def _sides(corners: Corners) -> tuple[float, float]:
    """Width and height of an upright rectangle."""
    return float(np.linalg.norm(corners[1] - corners[0])), float(np.linalg.norm(corners[3] - corners[0]))


def _trimmed(corners: Corners, margin: float) -> Corners:
    """The rectangle without a margin, given as a share of its shorter side."""
    sides = np.array(_sides(corners))
    along, down = (corners[1] - corners[0]) / sides[0], (corners[3] - corners[0]) / sides[1]
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    inwards = signs[:, :1] * along + signs[:, 1:] * down
    return np.asarray(corners + margin * sides.min() * inwards)


def _upright_matrix(corners: Corners, size: list[int]) -> Matrix:
    """The matrix from a rectangle's corners to those of a picture of a height and width."""
    bottom, right = size[0] - 1, size[1] - 1
    targets = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(corners.astype(np.float32), targets), np.float64)


def _cut(image: Radiograph, matrix: Matrix, size: list[int]) -> cv2.typing.MatLike:
    """The part of a picture that a matrix leads to a picture of a height and width."""
    left, top = np.rint(-matrix[:2, 2]).astype(int).tolist()
    is_shift = np.allclose(matrix, [[1, 0, -left], [0, 1, -top], [0, 0, 1]], atol=1e-4)
    if is_shift and min(left, top) >= 0 and top + size[0] <= image.shape[0] and left + size[1] <= image.shape[1]:
        return image[top : top + size[0], left : left + size[1]].copy()
    return cv2.warpPerspective(
        image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def find_carrier(view: View, method: Method) -> Corners | None:
    """The corners (4, 2) of the image carrier in a view, clockwise from the top left one; None if none is found.

    ``ladder`` applies Otsu's threshold, then Otsu's threshold on the pixels below it, and so on, because the first one
    often parts the hand from the carrier and only a later one the carrier from its surroundings. It does the same with
    the inverted picture for dark carriers, and at last takes everything that has another grey level than most of the
    picture's border. The first region that is a rectangle of a plausible size is the carrier, if its surroundings are
    smoother than itself and none of its edges is a bone's or a limb's: otherwise a limb would be cut.

    ``otsu`` is the first of these thresholds alone (arXiv 2001.10883, section on preprocessing).

    ``contours`` is the rule of that paper's public code: the first convex polygon with nearly right angles and at least
    100,000 pixels (of a picture of 512) among the edges and the regions above nine thresholds. There the whole picture
    counts as a carrier too, which changes nothing; here it does not.
    """
    if method == "contours":
        outline = _first_polygon(view)
        return None if outline is None else _upright(cv2.boxPoints(cv2.minAreaRect(outline)))
    if method == "otsu":
        return next(map(_rectangle, _otsu_regions(_smooth(view), rungs=1)), None)
    found = (_rectangle(region) for region in _regions(view))
    return next((corners for corners in found if corners is not None and _may_be_cut(view, corners)), None)


def _regions(view: View) -> Iterator[View]:
    """Regions (H, W) of 0 and 1, each of which may be the carrier."""
    smooth = _smooth(view)
    yield from _otsu_regions(smooth, _RUNGS)
    yield from _otsu_regions(np.asarray(cv2.bitwise_not(smooth), np.uint8), _RUNGS)
    border = np.concatenate([view[0], view[-1], view[:, 0], view[:, -1]])
    yield _smooth((view != np.bincount(border).argmax()).astype(np.uint8))


def _otsu_regions(view: View, rungs: int) -> Iterator[View]:
    """The pixels brighter than Otsu's threshold, then those brighter than the threshold of the rest, and so on."""
    darker = view.reshape(1, -1)
    for _ in range(rungs):
        if darker.min() == darker.max():
            return
        threshold, _ = cv2.threshold(darker, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        yield (view > threshold).astype(np.uint8)
        darker = darker[darker <= threshold].reshape(1, -1)


def _rectangle(region: View) -> Corners | None:
    """The corners of a region's largest part, if that is a rectangle of a plausible size."""
    outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    outline = max(outlines, key=cv2.contourArea)
    rectangle = cv2.minAreaRect(outline)
    area = rectangle[1][0] * rectangle[1][1]
    if not _SHARE[0] <= area / _area(region) <= _SHARE[1]:
        return None
    full = cv2.contourArea(outline) / area
    clean = cv2.contourArea(cv2.convexHull(outline)) / area
    if full < _FULL and not (full >= _HAND_INSIDE and clean >= _CLEAN):
        return None
    return _upright(cv2.boxPoints(rectangle))


def _may_be_cut(view: View, corners: Corners) -> bool:
    """Whether a picture has less detail around a rectangle than in it, and no edge of it runs through a limb."""
    carrier = np.zeros(view.shape, np.uint8)
    cv2.fillConvexPoly(carrier, np.rint(corners).astype(np.int32), 1)
    side = 2 * round(_BAND * max(view.shape)) + 1
    band = np.ones((side, side), np.uint8)
    inside, outside = cv2.erode(carrier, band) > 0, cv2.dilate(carrier, band) == 0
    if outside.mean() < _CRUMB:
        return True
    fine = detail(view)
    if fine[outside].mean() >= _SMOOTHER * fine[inside].mean():
        return False
    return not _cuts_a_limb(view, corners, abs(np.percentile(view[inside], 25) - np.percentile(view[outside], 25)))


def _cuts_a_limb(view: View, corners: Corners, difference: float) -> bool:
    """Whether an edge is one of a bone or a limb instead: not all along it, and more of a step than there is reason to.

    Args:
        view: (h, w).
        corners: Of a rectangle, (4, 2), clockwise.
        difference: Grey levels between the surroundings and the carrier, where neither shows a limb.
    """
    grey, reach = cv2.GaussianBlur(view, (0, 0), 1.5), _BESIDE * max(view.shape)
    along = np.linspace(0.03, 0.97, _POINTS)[:, np.newaxis]
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        outwards = np.array([end[1] - start[1], start[0] - end[0]]) / max(float(np.linalg.norm(end - start)), 1)
        points = start + along * (end - start)
        outer, inner = (_levels(grey, points + side * reach * outwards) for side in (1, -1))
        step = outer - inner
        rising = step if np.median(step) > 0 else -step
        if (rising > _STEP).mean() < _WHOLE and np.median(rising) > _LIMB + difference:
            return True
    return False


def _levels(view: cv2.typing.MatLike, points: Corners) -> NDArray[np.float32]:
    """The grey levels (K,) of a view at points (K, 2); those outside of it have the level of its border."""
    x, y = np.split(points.astype(np.float32), 2, axis=1)
    levels = cv2.remap(view, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(levels, np.float32).ravel()


def _first_polygon(view: View) -> Outline | None:
    """The first quadrangle or other convex polygon that the published rule takes for the carrier."""
    least_area = _PUBLISHED_AREA * (max(view.shape) / _PUBLISHED_SIDE) ** 2
    for region in _published_regions(np.asarray(cv2.GaussianBlur(view, (5, 5), 0), np.uint8)):
        outlines, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        for outline in outlines:
            polygon = np.asarray(cv2.approxPolyDP(outline, 0.02 * cv2.arcLength(outline, True), True), np.int32)
            if (
                len(polygon) >= 4
                and least_area <= cv2.contourArea(polygon) <= _SHARE[1] * _area(view)
                and cv2.isContourConvex(polygon)
                and _largest_cosine(polygon) < _PUBLISHED_COSINE
            ):
                return polygon
    return None


def _published_regions(blurred: View) -> Iterator[View]:
    """The edges, then the pixels brighter than each threshold."""
    edges = cv2.Canny(blurred, 0, 50, apertureSize=5)
    yield np.asarray(cv2.dilate(edges, np.ones((3, 3), np.uint8)), np.uint8)
    for threshold in _PUBLISHED_THRESHOLDS:
        yield (blurred > threshold).astype(np.uint8)


def _largest_cosine(polygon: Outline) -> float:
    """The largest absolute cosine of the angles at a polygon's first four corners."""
    corners = polygon.reshape(-1, 2).astype(np.float64)
    before, after = np.roll(corners, 1, axis=0) - corners, np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosines = np.abs((before * after).sum(axis=1)) / lengths
    return float(cosines[:4].max())


def _upright(box: cv2.typing.MatLike) -> Corners:
    """A rectangle's corners, clockwise from the one at which its most level side begins."""
    corners = np.asarray(box, np.float64)
    aside, along = (corners - corners.mean(axis=0)).T
    corners = corners[np.argsort(np.arctan2(along, aside))]
    sides = np.roll(corners, -1, axis=0) - corners
    return np.roll(corners, -int(np.argmax(sides[:, 0] - np.abs(sides[:, 1]))), axis=0)


def _area(view: View) -> int:
    """The area of the outline of a whole picture: outlines run through the centres of pixels."""
    height, width = view.shape
    return max(int((height - 1) * (width - 1)), 1)


def _smooth(view: View) -> View:
    return np.asarray(cv2.medianBlur(view, _SMOOTHING), np.uint8)
