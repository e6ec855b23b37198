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


class SelfAttention(nn.Module):
    """Self-attention with its whole matrix in memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Conv2d(channels, channels // 8, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Adds to each position the values that it attends to."""
        query, key, value = (layer(features).flatten(2) for layer in (self.query, self.key, self.value))
        attention = (query.transpose(1, 2) @ key).softmax(2)
        attended = (value @ attention.transpose(1, 2)).view(features.shape)
        return self.gamma * attended + features


def attentive_generator() -> nn.Sequential:
    """Generator of BiGAN and α-GAN: codes ``(N, 100, 1, 1)`` to images of 128 pixels."""
    layers: list[nn.Module] = []
    for number, (wide, narrow) in enumerate(pairwise([100, 1024, 512, 256, 128, 64])):
        stride, padding = (2, 1) if number else (1, 0)
        convolution = nn.ConvTranspose2d(wide, narrow, 4, stride, padding)
        layers += [spectral_norm(convolution, dim=0), nn.BatchNorm2d(narrow), nn.ReLU()]
        if narrow <= 128:
            layers.append(SelfAttention(narrow))
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Tanh())


def attentive_trunk() -> nn.Sequential:
    """The way down of their encoders and discriminators, to ``(N, 1024, 4, 4)``."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise([1, 64, 128, 256, 512, 1024]):
        layers += [spectral_norm(nn.Conv2d(narrow, wide, 4, 2, 1), dim=0), nn.LeakyReLU(0.1)]
        if wide >= 512:
            layers.append(SelfAttention(wide))
    return nn.Sequential(*layers)


def step_within_graph(optimizer: Adam) -> None:
    """Steps while a graph is kept that holds the weights, as the torch of that time allowed.

    The backward passes that follow go through the new weights and the old activations.
    """
    weights = tuple(optimizer.param_groups[0]["params"])
    with torch.autograd._unsafe_preserve_version_counter(weights):  # type: ignore[attr-defined]  # exists, unlisted
        optimizer.step()


class PairDiscriminator(nn.Module):
    """Discriminator of the BiGAN."""

    def __init__(self) -> None:
        super().__init__()
        self.of_image = nn.Sequential(attentive_trunk(), spectral_norm(nn.Conv2d(1024, 1024, 4)), nn.LeakyReLU(0.1))
        self.of_code = nn.Sequential(
            *(spectral_norm(nn.Conv2d(100, 512, 1)), nn.LeakyReLU(0.1)),
            *(spectral_norm(nn.Conv2d(512, 512, 1)), nn.LeakyReLU(0.1)),
        )
        self.joint = nn.Sequential(
            *(spectral_norm(nn.Conv2d(1536, 1024, 1)), nn.LeakyReLU(0.1)),
            *(spectral_norm(nn.Conv2d(1024, 1024, 1)), nn.LeakyReLU(0.1)),
            *(nn.Conv2d(1024, 1, 1), nn.Sigmoid(), nn.Flatten(0)),
        )

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Probability that the code was encoded, ``(N,)``."""
        encoded: Tensor = self.joint(torch.cat([self.of_image(images), self.of_code(codes)], 1))
        return encoded


def bigan(images: Tensor) -> Published:
    """BiGAN: the discriminator, then generator and encoder with the gradients that it has left there."""
    generator, discriminator = attentive_generator(), PairDiscriminator()
    encoder = nn.Sequential(attentive_trunk(), nn.Conv2d(1024, 100, 4))
    both = nn.ModuleList([generator, encoder])
    of_both = Adam(both.parameters(), lr=1e-3, betas=(0.5, 0.999))
    of_discriminator = Adam(discriminator.parameters(), lr=5e-6, betas=(0.5, 0.999))
    images = 2 * images - 1

    def step() -> None:
        drawn = torch.randn(len(images), 100, 1, 1)
        made = generator(drawn)
        real = discriminator(images + 0.04 * torch.randn_like(images), encoder(images))
        fake = discriminator(made + 0.04 * torch.randn_like(made), drawn)
        of_discriminator.zero_grad()
        of_both.zero_grad()
        (-(real + 1e-10).log() - (1 - fake + 1e-10).log()).mean().backward(retain_graph=True)
        step_within_graph(of_discriminator)
        (-(fake + 1e-10).log() - (1 - real + 1e-10).log()).mean().backward()
        of_both.step()

    return Published(nn.ModuleList([both, discriminator]), step)


class ComparingDiscriminator(nn.Module):
    """Discriminator of the α-GAN, whose minibatch discrimination has 268 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = attentive_trunk()
        self.minibatch = GluedDiscrimination(16384, 64, 256)
        self.last = spectral_norm(nn.Conv2d(1028, 1, 4))

    def forward(self, images: Tensor) -> Tensor:
        """Probability of a real image, ``(N,)``."""
        features = self.minibatch(self.trunk(images).flatten(1))
        real: Tensor = self.last(features.view(-1, 1028, 4, 4)).sigmoid().flatten()
        return real


def alpha_gan(images: Tensor) -> Published:
    """α-GAN: one forward pass, and four backward passes and steps through its graph."""
    generator, discriminator, trunk = attentive_generator(), ComparingDiscriminator(), attentive_trunk()
    mean, deviation = (nn.Sequential(nn.Conv2d(1024, 100, 4), nn.Tanh()) for _ in range(2))
    encoder = nn.ModuleList([trunk, mean, deviation])
    units = [nn.Linear(100, 50), nn.LeakyReLU(0.1), nn.Linear(50, 25), nn.LeakyReLU(0.1), nn.Linear(25, 1)]
    of_codes = nn.Sequential(nn.Flatten(), *units, nn.Sigmoid(), nn.Flatten(0))
    players, rates = [encoder, generator, discriminator, of_codes], [1e-3, 1e-3, 5e-6, 5e-6]
    optimizers = [Adam(p.parameters(), lr=rate, betas=(0.5, 0.999)) for p, rate in zip(players, rates, strict=True)]
    images = 2 * images - 1

    def says(probability: Tensor, label: float) -> Tensor:
        return binary_cross_entropy(probability, torch.full_like(probability, label))

    def step() -> None:
        features = trunk(images)
        code = mean(features) + deviation(features) * torch.randn(len(images), 100, 1, 1)
        drawn = torch.randn_like(code)
        rebuilt, made = generator(code), generator(drawn)
        real, *fakes = (discriminator(shown) for shown in (images, rebuilt, made))
        of_code, of_drawn = of_codes(code), of_codes(drawn)
        error = 0.01 * (images - rebuilt).abs().mean()
        losses = [
            error + says(of_code, 1) - says(of_code, 0),
            error + sum(says(fake, 1) - says(fake, 0) for fake in fakes),
            says(real, 1) + sum(says(fake, 0) for fake in fakes),
            says(of_drawn, 1) + says(of_code, 0),
        ]
        for number, (loss, optimizer) in enumerate(zip(losses, optimizers, strict=True)):
            optimizer.zero_grad()
            loss.backward(retain_graph=number < len(losses) - 1)
            step_within_graph(optimizer)

    return Published(nn.ModuleList(players), step)


STEPS: dict[str, Callable[[Tensor], Published]] = {
    "paper/bae": bae,
    "paper/vae": vae,
    "paper/cae": cae,
    "paper/dcgan": dcgan,
    "paper/bigan": bigan,
    "paper/alphagan": alpha_gan,
}
"""Published models by the configuration that stands for them here."""
