"""Online transforms of radiographs: geometry, equalisation, scaling and augmentation.

Every transform here keeps the promise that the foreground travels inside the image: background pixels are exactly 0,
foreground pixels are at least one grey level (1/255).
"""

from anomalib_xray.transforms.augmentation import Augmentation
from anomalib_xray.transforms.geometry import PadResize, SquarePad
from anomalib_xray.transforms.grey_levels import EqualizeForeground, MinMax
from anomalib_xray.transforms.pre_processor import XrayPreProcessor

__all__ = ["Augmentation", "EqualizeForeground", "MinMax", "PadResize", "SquarePad", "XrayPreProcessor"]
