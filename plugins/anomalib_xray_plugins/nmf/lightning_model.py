"""Non-negative matrix factorisation as an anomalib model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import Tensor, nn

from anomalib_xray.components import FittedModel
from anomalib_xray.detectors import DETECTORS, DetectorBank, DetectorSettings, Gamma, check_detectors
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import EXTRA_SCORES, RECONSTRUCTION_SCORES, ReconstructionScorer
from anomalib_xray_plugins.nmf.dictionary import Dictionary, Init
from anomalib_xray_plugins.nmf.per_image import OUTLIER_COLUMNS, Outliers, PerImageModel
from anomalib_xray_plugins.nmf.torch_model import NmfModel

NOT_EXPORTABLE = (
    "Nmf with per_image factorises each image by scikit-learn, which an exported model cannot do; train it with "
    "per_image: false, whose codes take a fixed number of steps, and export that."
)
"""Why there is no export."""


class Nmf(FittedModel, AnomalibModule):
    """Non-negative matrix factorisation: parts that normal radiographs are made of, added up and never subtracted.

    What the parts cannot make up is unusual, and so is an unusual mixture of them. The parts are fitted by scikit-learn
    in one epoch. ``per_image`` is what was published: each image is factorised on its own and its unusual rows and
    columns are counted.

    Sources: Lee and Seung 1999, "Learning the parts of objects by non-negative matrix factorization"; per image the
    static methods of the report on MURA's hands.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        resolution: Side of the images that are factorised, which are averaged down to it.
        components: Number of parts (50 as published).
        init: Start of the factorisation: ``random`` (as published) or ``nndsvda``.
        tolerance: Where the factorisation ends, scikit-learn's ``tol`` (5e-3 as published).
        updates: Steps of the non-negative least squares that find an image's mixture of parts.
        references: Largest number of training images that are factorised, a random choice.
        detectors: Detectors of unusual mixtures, all if left out: ``knn``, ``mahalanobis``, ``one_class_svm``,
            ``dbscan``.
        code_components: Principal components of the mixtures that detectors see, their share of the variance if below
            1, or none for all.
        whiten: Whether these are scaled to unit variance.
        neighbours: Number of nearest training images of ``knn``.
        nu: Share of the training images that may lie beyond the boundary of ``one_class_svm``.
        gamma: Width of its kernel: a number, ``scale`` or ``sweep``.
        eps: Radius of ``dbscan``; fits the training images if left out.
        min_samples: Images within this radius that ``dbscan`` calls dense.
        per_image: Whether each image is factorised on its own, as published; there are no detectors then.
        outliers: What finds unusual rows and columns of an image, with ``per_image``: ``dbscan`` or ``one_class_svm``.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` or ``gradient``, each
            also with ``_top_k``, or a detector; with ``per_image`` ``outlier_columns`` in place of detectors.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        seed: Seed of the factorisation, shuffling and augmentation; none leaves the last two random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: A setting that the model does not have.
    """

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = None,
        resolution: int = 64,
        components: int = 50,
        init: Init = "random",
        tolerance: float = 5e-3,
        updates: int = 100,
        references: int = 2048,
        detectors: list[str] | None = None,
        code_components: float | None = None,
        whiten: bool = False,
        neighbours: int = 5,
        nu: float = 0.1,
        gamma: float | Gamma = "sweep",
        eps: float | None = None,
        min_samples: int = 5,
        per_image: bool = False,
        outliers: Outliers = "dbscan",
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        seed: int | None = 42,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        names = DETECTORS if detectors is None else tuple(detectors)
        check_detectors(names)
        self.start((*RECONSTRUCTION_SCORES, *((OUTLIER_COLUMNS,) if per_image else names), *EXTRA_SCORES))
        if resolution < 1 or image_size % resolution:
            msg = f"resolution is {resolution}, but it divides the image size, {image_size}; choose {image_size // 2}."
            raise XrayError(msg)
        if components < 1 or updates < 1:
            msg = f"components is {components} and updates {updates}, but there is at least 1 of each."
            raise XrayError(msg)
        scorer = ReconstructionScorer(score, top_k, map_sigma, extra_scores)
        self.model: NmfModel | PerImageModel
        if per_image:
            self.model = PerImageModel(resolution, components, init, tolerance, outliers, scorer, seed or 0)
        else:
            settings = DetectorSettings(
                code_components, whiten, neighbours, nu=nu, gamma=gamma, eps=eps, min_samples=min_samples
            )
            dictionary = Dictionary(components, init, tolerance, updates, seed or 0)
            self.model = NmfModel(resolution, dictionary, DetectorBank(names, settings), scorer)

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images and their reconstructions, in turn by rows."""
        return self.reconstruction_rows(image, self.model.reconstruct(image))

    def to_onnx(self, *arguments: Any, **settings: Any) -> Path:  # type: ignore[override]  # noqa: ANN401  # as the mixin's
        """Exports to ONNX; arguments as anomalib's.

        Raises:
            XrayError: Each image is factorised on its own.
        """
        self._check_exportable()
        return super().to_onnx(*arguments, **settings)

    def to_openvino(self, *arguments: Any, **settings: Any) -> Path:  # noqa: ANN401  # as the mixin's
        """Exports to OpenVINO; arguments as anomalib's.

        Raises:
            XrayError: Each image is factorised on its own.
        """
        self._check_exportable()
        return super().to_openvino(*arguments, **settings)

    def _check_exportable(self) -> None:
        if self.hparams["per_image"]:
            raise XrayError(NOT_EXPORTABLE)
