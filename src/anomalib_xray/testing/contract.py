"""The whole contract of a model plugin."""

from __future__ import annotations

from anomalib_xray.testing.discovery import DiscoveryContract
from anomalib_xray.testing.export import ExportContract
from anomalib_xray.testing.scoring import ScoringContract
from anomalib_xray.testing.storage import StorageContract
from anomalib_xray.testing.training import TrainingContract


class ModelContract(DiscoveryContract, TrainingContract, ScoringContract, StorageContract, ExportContract):
    """Base of a test class that checks one model plugin; a subclass names the plugin and small settings.

    The plugin's distribution must be installed, so that its entry point is found. Everything runs on the CPU and on
    generated hands; with an image size of 64 and narrow layers the whole contract takes about a minute. One part alone
    runs with ``pytest -k export``.

    Attributes:
        model: The plugin's class.
        settings: Arguments of its constructor; small ones, so that a step takes milliseconds.
        falling_loss: Logged loss that must fall within ``steps`` steps on one batch. An adversarial loss need not
            fall: name the reconstruction's. ``None`` for a model that is fitted without one.
        steps: Number of these steps.
        exportable: Whether the model can be exported. One that cannot, for example because it needs a gradient to
            score, must refuse with an :class:`~anomalib_xray.errors.XrayError` that names it, and write nothing.

    Example:
        ::

            class TestAlphaGan(ModelContract):
                model = AlphaGan
                settings = {"image_size": 64, "width": 4, "latent_size": 16}
                falling_loss = "train_reconstruction_l1"

        A plugin whose construction needs more than arguments overrides :meth:`make_model` instead of ``settings``.
    """
