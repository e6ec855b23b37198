"""Data modules for radiographs: MURA, generated phantoms, and any table of images."""

from anomalib_xray.data.mura import Mura
from anomalib_xray.data.phantom import Phantom
from anomalib_xray.data.radiographs import Radiographs
from anomalib_xray.errors import print_plainly_under_anomalib

__all__ = ["Mura", "Phantom", "Radiographs"]

# A data module is used with models of others too, so it cannot count on anomalib_xray.models for this.
print_plainly_under_anomalib()
