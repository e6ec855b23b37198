"""Non-negative matrix factorisation as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anomalib.models import AnomalibModule

from anomalib_xray.detectors import DetectorBank
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import EXTRA_SCORES, RECONSTRUCTION_SCORES
from anomalib_xray.training.fitted_model import DetectorModel
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray_plugins.nmf.per_image import OUTLIER_COLUMNS, Outliers, PerImageModel
from anomalib_xray_plugins.nmf.torch_model import Dictionary, Init, NmfModel


class Nmf(ReconstructionModel, DetectorModel, AnomalibModule):
    """Non-negative matrix factorisation: parts that normal radiographs are made of, added up and never subtracted.

    What the parts cannot make up is unusual, and so is an unusual mixture of them. The parts are fitted by scikit-learn
    in one epoch. ``per_image`` is what was published: each image is factorised on its own and its unusual rows and
    columns are counted.

    Sources: Lee and Seung 1999, "Learning the parts of objects by non-negative matrix factorization"; per image the
    static methods of the report on MURA's hands.

    Args:
        resolution: Side of the images that are factorised, which are averaged down to it.
        components: Number of parts (50 as published).
        init: Start of the factorisation: ``random`` (as published) or ``nndsvda``.
        tolerance: Where the factorisation ends, scikit-learn's ``tol`` (5e-3 as published).
        updates: Steps of the non-negative least squares that find an image's mixture of parts.
        code_components: Principal components of the mixtures that detectors see, their share of the variance if below
            1, or none for all.
        per_image: Whether each image is factorised on its own, as published; there are no detectors then.
        outliers: What finds unusual rows and columns of an image, with ``per_image``: ``dbscan`` or ``one_class_svm``.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` or ``gradient``, each
            also with ``_top_k``, or a detector; with ``per_image`` ``outlier_columns`` in place of detectors.

    Raises:
        XrayError: A setting that the model does not have.

    Example:
        >>> "outlier_columns" in Nmf(components=4, per_image=True).scores
        True
    """

    def __init__(
        self,
        resolution: int = 64,
        components: int = 50,
        init: Init = "random",
        tolerance: float = 5e-3,
        updates: int = 100,
        code_components: float | None = None,
        per_image: bool = False,
        outliers: Outliers = "dbscan",
        score: str = "mse_top_k",
        **settings: Any,
    ) -> None:
        super().__init__(score=score, **settings)
        self.per_image = per_image
        if resolution < 1 or self.image_size % resolution:
            size = self.image_size
            raise XrayError(f"resolution is {resolution}, but it divides the image size, {size}; choose {size // 2}.")
        if components < 1 or updates < 1:
            msg = f"components is {components} and updates {updates}, but there is at least 1 of each."
            raise XrayError(msg)
        scorer, seed = self.make_scorer(), self.seed or 0
        self.model: NmfModel | PerImageModel
        if per_image:
            self.model = PerImageModel(resolution, components, init, tolerance, outliers, scorer, seed)
        else:
            bank = DetectorBank(self.detectors, self.detector_settings(code_components))
            self.model = NmfModel(resolution, Dictionary(components, init, tolerance, updates, seed), bank, scorer)

    @property
    def scores(self) -> Sequence[str]:
        """Names of the scores, without detectors where images are factorised on their own."""
        others = (OUTLIER_COLUMNS,) if self.hparams["per_image"] else self.detectors
        return (*RECONSTRUCTION_SCORES, *others, *EXTRA_SCORES)

    def why_not_exportable(self) -> str | None:
        """Each image is factorised on its own."""
        if not self.per_image:
            return None
        return (
            "Nmf with per_image factorises each image by scikit-learn, which an exported model cannot do; train it "
            "with per_image: false, whose codes take a fixed number of steps, and export that."
        )
