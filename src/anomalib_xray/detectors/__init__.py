"""Classical detectors: fitted to vectors of normal images by scikit-learn, scored in torch."""

from anomalib_xray.detectors.bank import DETECTORS, DetectorBank, DetectorSettings, check_detectors
from anomalib_xray.detectors.dbscan import Dbscan
from anomalib_xray.detectors.detector import Detector
from anomalib_xray.detectors.mahalanobis import Mahalanobis
from anomalib_xray.detectors.nearest_neighbours import NearestNeighbours, Subset
from anomalib_xray.detectors.one_class_svm import Gamma, OneClassSvm
from anomalib_xray.detectors.projection import Projection
from anomalib_xray.detectors.reservoir import Reservoir

__all__ = [
    "DETECTORS",
    "Dbscan",
    "Detector",
    "DetectorBank",
    "DetectorSettings",
    "Gamma",
    "Mahalanobis",
    "NearestNeighbours",
    "OneClassSvm",
    "Projection",
    "Reservoir",
    "Subset",
    "check_detectors",
]
