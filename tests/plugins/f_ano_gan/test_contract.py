from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import FAnoGan
from anomalib_xray.testing import ModelContract


class TestFAnoGan(ModelContract):
    """Without a division of the epochs, so that every one trains the encoder; the phases have tests of their own.

    Rates are high: the encoder's error falls in few steps only if the generator learns in few.
    """

    model = FAnoGan
    settings: ClassVar = {
        "image_size": 64,
        "width": 4,
        "latent_size": 16,
        "latent": "tanh",
        "adversarial_loss": "hinge",
        "critic_steps": 1,
        "encoder_share": 0.0,
        "feature_weight": 0.1,
        "learning_rate": 5e-3,
        "discriminator_learning_rate": 5e-4,
        "encoder_learning_rate": 2e-3,
        "betas": (0.5, 0.999),
    }
    falling_loss = "train_reconstruction_l1"
