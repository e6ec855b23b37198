"""Training steps of the published models, rewritten as plain torch from the descriptions of their layers.

``training_step.py --published`` runs them beside the project's. They are not the published code: layers, losses, order
of the updates and optimisers are those of arXiv 2001.10883 and of the descriptions of its code, written as one would
write them without a thought for speed, with default Adam and every gradient that a plain backward pass computes. A bare
step has no logs, no pictures, and no detection of anomalies, which the published training had on.

A function here takes images ``(N, 1, S, S)`` in [0, 1] and returns the networks and a function that makes one step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, max_pool2d, max_unpool2d
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import Adam


class Published(NamedTuple):
    """A published model in training: its networks, and one step of it on the images that it was made for."""

    networks: nn.Module
    step: Callable[[], None]


def masked_error(made: Tensor, images: Tensor) -> Tensor:
    """Squared error over the foreground of a whole batch."""
    mask = (images > 0).float()
    return ((made - images) ** 2 * mask).sum() / mask.sum()


def autoencoder(network: nn.Module, images: Tensor) -> Published:
    """Steps of an autoencoder by its masked squared error."""
    optimizer = Adam(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        masked_error(network(images), images).backward()
        optimizer.step()

    return Published(network, step)


def level(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


def cae(images: Tensor) -> Published:
    """CAE: 3 x 3 convolutions between those of stride 2; transposed ones on the way up; ReLU and tanh at the end."""
    channels = [16, 32, 64, 128, 256]
    layers: list[nn.Module] = [level(nn.Conv2d(1, 16, 3, 1, 1, bias=False))]
    for narrow, wide in pairwise(channels):
        layers.append(level(nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)))
        layers.append(level(nn.Conv2d(wide, wide, 3, 1, 1, bias=False)))
    layers.append(level(nn.Conv2d(256, 512, 4, 2, 1, bias=False)))
    for wide, narrow in pairwise([512, 256, 128, 64, 32, 16]):
        layers.append(level(nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)))
    layers += [nn.ConvTranspose2d(16, 1, 3, 1, 1, bias=False), nn.ReLU(), nn.Tanh()]
    return autoencoder(nn.Sequential(*layers), images)


class PublishedBae(nn.Module):
    """BAE of the public code: max-pooling down, and up by the positions of the encoder's maxima."""

    def __init__(self) -> None:
        super().__init__()
        channels = [16, 32, 64, 128, 256]
        self.down = nn.ModuleList([nn.Conv2d(1, 16, 3, 1, 1, bias=False)])
        self.down.extend(nn.Conv2d(narrow, wide, 4, 2, 1, bias=False) for narrow, wide in pairwise(channels))
        self.code = nn.Sequential(nn.Conv2d(256, 256, 1, 1, 1, bias=False), nn.BatchNorm2d(256), nn.Tanh())
        self.up = nn.ModuleList([nn.ConvTranspose2d(256, 256, 1, 1, 1, bias=False)])
        self.up.extend(
            nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False) for wide, narrow in pairwise(channels[::-1])
        )
        self.norms_down = nn.ModuleList(nn.BatchNorm2d(count) for count in channels)
        self.norms_up = nn.ModuleList(nn.BatchNorm2d(count) for count in channels[::-1])
        self.last = nn.ConvTranspose2d(16, 1, 3, 1, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructs."""
        features, places = images, []
        for convolution, norm in zip(self.down, self.norms_down, strict=True):
            features, where = max_pool2d(convolution(features), 2, return_indices=True)
            places.append(where)
            features = norm(features).tanh()
        features = self.code(features)
        for convolution, norm in zip(self.up, self.norms_up, strict=True):
            features = norm(max_unpool2d(convolution(features), places.pop(), [2, 2])).tanh()
        made: Tensor = self.last(features).sigmoid()
        return made


def bae(images: Tensor) -> Published:
    """BAE."""
    return autoencoder(PublishedBae(), images)


class PublishedVae(nn.Module):
    """VAE: convolutions without padding, a drawn code of 1024 numbers."""

    def __init__(self) -> None:
        super().__init__()
        channels = [8, 16, 32, 64, 128, 256, 512]
        self.encoder = nn.Sequential(
            *(level(nn.Conv2d(narrow, wide, 4, 2)) for narrow, wide in pairwise([1, *channels])), nn.Flatten()
        )
        self.mean, self.log_variance = nn.Linear(2048, 1024), nn.Linear(2048, 1024)
        self.decoder = nn.Sequential(
            nn.Linear(1024, 2048),
            nn.Unflatten(1, (512, 2, 2)),
            *(level(nn.ConvTranspose2d(wide, narrow, 4, 2)) for wide, narrow in pairwise(channels[::-1])),
            nn.ConvTranspose2d(8, 1, 6, 2),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstructs from a drawn code; the second and third are the code's mean and log-variance."""
        features = self.encoder(images)
        mean, log_variance = self.mean(features), self.log_variance(features)
        code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.decoder(code), mean, log_variance


def vae(images: Tensor) -> Published:
    """VAE: cross-entropy of a mean pixel plus the divergence summed over batch and code."""
    network = PublishedVae()
    optimizer = Adam(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        made, mean, log_variance = network(images)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        (binary_cross_entropy(made, images) + divergence).backward()
        optimizer.step()

    return Published(network, step)


class GluedDiscrimination(nn.Module):
    """Minibatch discrimination of full rank, of the features of four images glued together, as in the public code."""

    def __init__(self, features: int, kernels: int, kernel_size: int) -> None:
        super().__init__()
        self.tensor = nn.Parameter(torch.randn(features, kernels * kernel_size))
        self.shape = (kernels, kernel_size)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(N, F)`` with their closeness to the others of the batch, ``(N, F + kernels)``."""
        rows = (features @ self.tensor).view(-1, *self.shape)
        closeness = (-(rows[None] - rows[:, None]).abs().sum(3)).exp().sum(1) - 1
        return torch.cat([features, closeness], 1)


class PublishedDiscriminator(nn.Module):
    """Discriminator of the DCGAN."""

    def __init__(self) -> None:
        super().__init__()
        channels = [1, 4, 8, 16, 32, 64, 128, 256]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(channels):
            layers += [spectral_norm(nn.Conv2d(narrow, wide, 4, 2, 1), dim=0), nn.LeakyReLU(0.01)]
        layers += [spectral_norm(nn.Conv2d(256, 512, 4), dim=0), nn.LeakyReLU(0.01)]
        self.layers = nn.Sequential(*layers)
        self.minibatch = GluedDiscrimination(2048, 64, 128)
        self.last = nn.Linear(528, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Probability of a fake, ``(N,)``."""
        glued = self.minibatch(self.layers(images).view(-1, 2048))
        fake: Tensor = self.last(glued.view(-1, 528)).sigmoid().flatten()
        return fake


def dcgan(images: Tensor) -> Published:
    """DCGAN: discriminator on real and on generated images, then the generator through the new discriminator."""
    channels = [1024, 512, 256, 128, 64, 32, 16]
    layers: list[nn.Module] = [spectral_norm(nn.ConvTranspose2d(2048, 1024, 4), dim=0), nn.LeakyReLU(0.01)]
    for wide, narrow in pairwise(channels):
        layers += [spectral_norm(nn.ConvTranspose2d(wide, narrow, 4, 2, 1), dim=0), nn.LeakyReLU(0.01)]
    layers += [spectral_norm(nn.ConvTranspose2d(16, 1, 4, 2, 1), dim=0), nn.Tanh()]
    generator, discriminator = nn.Sequential(*layers), PublishedDiscriminator()
    of_generator = Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    of_discriminator = Adam(discriminator.parameters(), lr=1e-5, betas=(0.5, 0.999))
    images = 2 * images - 1

    def loss(judged: Tensor, label: Tensor) -> Tensor:
        return binary_cross_entropy(discriminator(judged), label)

    def step() -> None:
        soft = 0.01 * torch.rand(len(images))
        of_discriminator.zero_grad()
        loss(images, soft).backward()
        made = generator(torch.randn(len(images), 2048, 1, 1))
        loss(made.detach(), 1 - soft).backward()
        of_discriminator.step()
        of_generator.zero_grad()
        loss(made, torch.zeros(len(images))).backward()
        of_generator.step()

    return Published(nn.ModuleList([generator, discriminator]), step)


STEPS: dict[str, Callable[[Tensor], Published]] = {
    "paper/bae": bae,
    "paper/vae": vae,
    "paper/cae": cae,
    "paper/dcgan": dcgan,
}
"""Published models by the configuration that stands for them here."""
