"""Encoders of images to feature maps or codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.frozen_backbone import FrozenBackbone
from anomalib_xray.networks.latent import HasLatent
from anomalib_xray.plugins import setting_names
from anomalib_xray.training.checkpoint import load_model, random_state, restore_random_state


class BackboneEncoder(nn.Module):
    """Feature maps of one or several networks of timm.

    Args:
        names: Convolutional networks or vision transformers of timm.
        layers: Which of their feature maps, in rising order; the same of each.
        image_size: Side of the images.

    Raises:
        XrayError: There is no network, timm has none of a name, or one has no such layers.

    Example:
        >>> encoder = BackboneEncoder(["test_resnet", "test_vit"], layers=[1], image_size=64)
        >>> [tuple(features.shape) for features in encoder(torch.zeros(1, 1, 64, 64))]
        [(1, 32, 16, 16), (1, 64, 4, 4)]
    """

    def __init__(self, names: Sequence[str], layers: Sequence[int], image_size: int) -> None:
        super().__init__()
        if not names:
            raise XrayError("backbone names no network; name one of timm, or several, such as [resnet18, resnet34].")
        self.backbone, *others = (FrozenBackbone(name, layers, image_size) for name in names)
        self.others = nn.ModuleList(others)  # apart, since checkpoints know the first one by its name

    def prepare(self, weights: Sequence[str]) -> None:
        """Reads the weights of each network before training; without any they stay random.

        Raises:
            XrayError: There are files, but not one for each network, or one does not hold its network.
        """
        backbones: list[Any] = [self.backbone, *self.others]
        if weights and len(weights) != len(backbones):
            raise XrayError(
                f"weights names {len(weights)} files for {len(backbones)} backbones; name one for each, in their order."
            )
        for backbone, file in zip_longest(backbones, weights):
            backbone.prepare(file)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images ``(N, 1, S, S)`` in [0, 1] to a map ``(N, C, h, w)`` per network and layer."""
        return [features for backbone in (self.backbone, *self.others) for features in backbone(image)]


class PluginEncoder(nn.Module):
    """Codes of a trained model plugin whose network has a ``latent`` method.

    Only the parts of the network that encode are kept.

    Args:
        model_name: Name of the plugin.
        settings: Arguments of its constructor, plain data.
        network: Its network.

    Raises:
        XrayError: The network has no codes.
    """

    def __init__(self, model_name: str, settings: Mapping[str, Any], network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, HasLatent):
            msg = (
                f"{model_name} has no encoder whose codes could be used; give the checkpoint of one that has, such as "
                "Cae, Vae or Bigan."
            )
            raise XrayError(msg)
        self.model_name = model_name
        self.settings = dict(settings)
        self.network = network
        self.requires_grad_(False)
        self.eval()
        _drop_unused(network, int(settings["image_size"]))

    @classmethod
    def of_checkpoint(cls, path: str | Path, image_size: int, equalize: bool) -> PluginEncoder:
        """Reads the encoder of a checkpoint, in evaluation and on the CPU, without running code from it.

        Raises:
            XrayError: There is no such checkpoint, its model has no codes, or it was trained on other images.
        """
        state = random_state()  # the constructor of a plugin seeds all generators
        model = load_model(Path(path))
        restore_random_state(state)
        for name, wanted in {"image_size": image_size, "equalize": equalize}.items():
            if model.hparams[name] != wanted:
                msg = (
                    f"{name} is {wanted}, but the {model.name} of {path} was trained with {model.hparams[name]}; "
                    "give it the same."
                )
                raise XrayError(msg)
        return cls(model.name, model.hparams, model.model)

    @classmethod
    def of_description(cls, description: Mapping[str, Any]) -> PluginEncoder:
        """Builds an encoder that :meth:`description` describes; its weights are still to be loaded.

        Raises:
            XrayError: The plugin is not installed.
        """
        import anomalib_xray.models as plugins

        name, settings = description["model_name"], description["settings"]
        if name not in plugins.__all__:
            raise XrayError(f"The encoder is that of {name}, which works here no more: install its plugin.")
        plugin = getattr(plugins, name)
        known = {key: value for key, value in settings.items() if key in setting_names(plugin)}
        state = random_state()
        model = plugin(**known)
        restore_random_state(state)
        return cls(name, settings, model.model)

    def description(self) -> dict[str, Any]:
        """Plain data for :meth:`of_description`."""
        return {"model_name": self.model_name, "settings": self.settings}

    def train(self, mode: bool = True) -> PluginEncoder:
        """Stays in evaluation."""
        del mode
        super().train(False)
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images ``(N, 1, S, S)`` in [0, 1] to their codes, ``(N, Z)`` or ``(N, Z, h, w)``."""
        assert isinstance(self.network, HasLatent)
        return [self.network.latent(image)]


@torch.no_grad()
def _drop_unused(network: nn.Module, image_size: int) -> None:
    """Removes the parts of a network that its codes do not need, such as a decoder or a discriminator."""
    assert isinstance(network, HasLatent)
    used: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: used.add(module)) for module in network.modules()]
    network.latent(torch.zeros(1, 1, image_size, image_size))
    for hook in hooks:
        hook.remove()
    _drop(network, used)


def _drop(network: nn.Module, used: set[nn.Module]) -> None:
    """Removes what was not called; a module that was called needs all its parts."""
    for name, child in list(network.named_children()):
        if used.isdisjoint(child.modules()):
            delattr(network, name)
        elif child not in used:
            _drop(child, used)
