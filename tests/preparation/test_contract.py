"""Every step of this project keeps the contract that is asked of others."""

from __future__ import annotations

from typing import ClassVar

from anomalib_xray.preparation.steps.carrier_crop import CarrierCrop
from anomalib_xray.preparation.steps.clahe import Clahe
from anomalib_xray.preparation.steps.exposures import Exposures
from anomalib_xray.preparation.steps.foreground import Foreground
from anomalib_xray.preparation.steps.hands import Hands
from anomalib_xray.preparation.steps.inversion import Inversion
from anomalib_xray.preparation.steps.marker_removal import MarkerRemoval
from anomalib_xray.preparation.steps.median_filter import MedianFilter
from anomalib_xray.preparation.steps.otsu_filter import OtsuFilter
from anomalib_xray.preparation.steps.recognise import Recognise
from anomalib_xray.preparation.steps.resize import Resize
from anomalib_xray.preparation.steps.upright import Upright
from anomalib_xray.testing import StepContract


class TestInversion(StepContract):
    step = Inversion


class TestPublishedInversion(StepContract):
    step = Inversion
    settings: ClassVar[dict[str, object]] = {"method": "published"}


class TestCarrierCrop(StepContract):
    step = CarrierCrop


class TestOtsuCarrierCrop(StepContract):
    step = CarrierCrop
    settings: ClassVar[dict[str, object]] = {"method": "otsu"}


class TestContoursCarrierCrop(StepContract):
    step = CarrierCrop
    settings: ClassVar[dict[str, object]] = {"method": "contours"}


class TestMarkerRemoval(StepContract):
    step = MarkerRemoval


class TestBrightMarkerRemoval(StepContract):
    step = MarkerRemoval
    settings: ClassVar[dict[str, object]] = {"detector": "bright"}


class TestExposures(StepContract):
    step = Exposures


class TestForeground(StepContract):
    step = Foreground


class TestFlatForeground(StepContract):
    step = Foreground
    settings: ClassVar[dict[str, object]] = {"method": "flat"}


class TestHands(StepContract):
    step = Hands


class TestMedianFilter(StepContract):
    step = MedianFilter
    settings: ClassVar[dict[str, object]] = {"kernel": 5}


class TestClahe(StepContract):
    step = Clahe


class TestOtsuFilter(StepContract):
    step = OtsuFilter


class TestRecognise(StepContract):
    step = Recognise


class TestResize(StepContract):
    step = Resize


class TestSmallResize(StepContract):
    step = Resize
    settings: ClassVar[dict[str, object]] = {"longest_side": 200}


class TestLargeResize(StepContract):
    step = Resize
    settings: ClassVar[dict[str, object]] = {"longest_side": 700, "enlarge": True}


class TestUpright(StepContract):
    step = Upright


class TestMirroringUpright(StepContract):
    step = Upright
    settings: ClassVar[dict[str, object]] = {"mirror": "left"}
