"""Data modules for radiographs: MURA, FracAtlas, chests, generated phantoms, and any table of images."""

from anomalib_xray.data.chest_folder import ChestFolder
from anomalib_xray.data.dataset import RadiographFolder
from anomalib_xray.data.fracatlas import FracAtlas
from anomalib_xray.data.mura import Mura
from anomalib_xray.data.phantom import Phantom
from anomalib_xray.data.pool import UnlabelledPool
from anomalib_xray.data.radiographs import Radiographs
from anomalib_xray.data.rsna_pneumonia import RsnaPneumonia
from anomalib_xray.data.splits import SplitSizes
from anomalib_xray.data.stock_command import adapt_stock_command
from anomalib_xray.data.vinbigdata import VinBigData

__all__ = [
    "ChestFolder",
    "FracAtlas",
    "Mura",
    "Phantom",
    "RadiographFolder",
    "Radiographs",
    "RsnaPneumonia",
    "SplitSizes",
    "UnlabelledPool",
    "VinBigData",
]

# A data module is used with models of others too, so it cannot count on anomalib_xray.models for this.
adapt_stock_command()
