from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from anomalib.data import ImageBatch

from anomalib_xray.training.compile import CompileNetworks
from anomalib_xray_plugins.alpha_gan import AlphaGan
from anomalib_xray_plugins.cae import Cae

IMAGE = torch.rand(2, 1, 64, 64).repeat(1, 3, 1, 1)


def compiled(model: Any) -> dict[str, bool]:
    return {name: network._compiled_call_impl is not None for name, network in model.model.named_children()}


def test_networks_are_compiled_for_training_only() -> None:
    model = AlphaGan(image_size=64, width=8, latent_size=16, ema_decay=0.9)
    names = set(model.state_dict())
    callback = CompileNetworks(backend="eager")
    callback.setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]  # it is not looked at
    assert compiled(model) == {
        "encoder": True,
        "generator": True,
        "discriminator": True,
        "code_discriminator": True,
        "average": False,  # it does not learn
        "scorer": False,
    }
    assert set(model.state_dict()) == names
    callback.teardown(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]  # as above
    assert not any(compiled(model).values())


def test_nothing_is_compiled_to_test() -> None:
    model = Cae(image_size=64, width=4)
    CompileNetworks(backend="eager").setup(SimpleNamespace(), model, "test")  # type: ignore[arg-type]  # as above
    assert not any(compiled(model).values())


def test_a_compiled_network_computes_the_same() -> None:
    model = Cae(image_size=64, width=4).train()
    expected = model.training_step(ImageBatch(image=IMAGE))
    # Captures the graph of the forward and of the backward pass, and needs no compiler.
    CompileNetworks(backend="aot_eager").setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]  # as above
    found = model.training_step(ImageBatch(image=IMAGE))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all(weight.grad is not None for weight in model.parameters())
