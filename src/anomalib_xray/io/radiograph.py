"""The type of a radiograph in memory."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Radiograph: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""Grey levels (H, W), with 0 for black."""
