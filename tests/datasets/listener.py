"""A small recogniser for the tests: a convolutional network on log-mel spectrograms."""

from __future__ import annotations

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.datasets.speech import Speech

BANDS = 40
FRAMES = 32
HOP = 160
WINDOW = 400


def log_mel(speech: Speech, highest: int = 8_000) -> Tensor:
    """Each wave stretched to 32 frames, mean 0 in each band and deviation 1 over all, ``[N, 1, 40, 32]``."""
    filters = torch.from_numpy(librosa.filters.mel(sr=speech.rate, n_fft=512, n_mels=BANDS, fmax=highest))
    window = torch.hann_window(WINDOW)
    pictures = torch.stack([_frames(wave, filters, window) for wave in speech.waves])
    pictures = pictures - pictures.mean(2, keepdim=True)
    return (pictures / pictures.std((1, 2), keepdim=True)).unsqueeze(1)


def _frames(wave: Tensor, filters: Tensor, window: Tensor) -> Tensor:
    spectrum = torch.stft(wave, 512, HOP, WINDOW, window, pad_mode="constant", return_complex=True)
    power = filters @ spectrum.abs() ** 2
    return F.adaptive_avg_pool1d((power + 1e-4 * power.mean()).log(), FRAMES)


def network(classes: int) -> nn.Sequential:
    layers, width = [], 1
    for wider in (8, 16, 32):
        layers += [nn.Conv2d(width, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2)]
        width = wider
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.4), nn.Linear(32 * 5 * 4, classes))


def varied(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Each picture moved up or down by up to three bands and in time by up to two frames, with a little noise."""
    for axis, most in ((2, 3), (3, 2)):
        shift = torch.randint(-most, most + 1, (len(pictures), 1, 1, 1), generator=random)
        size = pictures.shape[axis]
        place = torch.arange(size).view([size if a == axis else 1 for a in range(4)]) + shift
        pictures = pictures.gather(axis, place.clamp(0, size - 1).expand(pictures.shape))
    return pictures + 0.2 * torch.randn(pictures.shape, generator=random)


def trained(pictures: Tensor, labels: Tensor, classes: int, seed: int, steps: int) -> nn.Sequential:
    """A network trained on log-mel pictures; the random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _fitted(network(classes), pictures, labels, seed, steps)


def _fitted(model: nn.Sequential, pictures: Tensor, labels: Tensor, seed: int, steps: int) -> nn.Sequential:
    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(labels), (64,), generator=random)
        loss = F.cross_entropy(model(varied(pictures[rows], random)), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Sequential, pictures: Tensor, labels: Tensor) -> float:
    return float((model(pictures).argmax(1) == labels).float().mean())


def heard(train: Speech, test: Speech, seed: int, steps: int, highest: int = 8_000) -> float:
    """Accuracy on ``test`` of a network trained on ``train``, both up to ``highest`` Hz."""
    model = trained(log_mel(train, highest), train.labels, len(train.classes), seed, steps)
    return accuracy(model, log_mel(test, highest), test.labels)
