"""Shared parts of models on anomalib's side: their kinds, callbacks, score table, export, checkpoints."""

from anomalib_xray.training.autoencoder_model import (
    AUTOENCODER_SCORES,
    AutoencoderLoss,
    AutoencoderModel,
    NoiseKind,
    input_noise,
)
from anomalib_xray.training.fitted_model import (
    DetectorModel,
    FittedModel,
)
from anomalib_xray.training.gan_model import (
    GanModel,
    evaluating,
    generator_of,
)
from anomalib_xray.training.radiograph_model import (
    RadiographModel,
)
from anomalib_xray.training.reconstruction_model import (
    MapModel,
    ReconstructionModel,
)
from anomalib_xray.training.score_table import (
    ScoreTable,
    score_metrics,
)
from anomalib_xray.training.trained_model import (
    Phases,
    Schedule,
    TrainedModel,
    check_share,
)

__all__ = [
    "AUTOENCODER_SCORES",
    "AutoencoderLoss",
    "AutoencoderModel",
    "DetectorModel",
    "FittedModel",
    "GanModel",
    "MapModel",
    "NoiseKind",
    "Phases",
    "RadiographModel",
    "ReconstructionModel",
    "Schedule",
    "ScoreTable",
    "TrainedModel",
    "check_share",
    "evaluating",
    "generator_of",
    "input_noise",
    "score_metrics",
]
