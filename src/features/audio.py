"""From waveform to log-mel spectrogram and MFCC, each step a formula (row R05).

Chapter: chapters/features/audio.ipynb. Time runs along the last axis but one of what comes out, ``[..., T, D]``, as
in the rest of the book; librosa, which the tests compare with, has it last. Waveforms are float32 or float64, and
what comes out follows their type and device; NaN and infinite samples are refused (not looked for in compiled code).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from src.runtime import check_choice, check_finite

SCALES = ("slaney", "htk", "linear")


def peak_normalize(x: Tensor, peak: float = 1.0) -> Tensor:
    """x · peak / max|x|, (eq-audio-peak); waveform(s) ``[..., L]``, silence stays silent."""
    _check_wave(x)
    highest = x.abs().amax(-1, keepdim=True)
    return x * (peak / torch.where(highest > 0, highest, 1))


def rms_normalize(x: Tensor, level: float = -20.0) -> Tensor:
    """x · 10^(level/20) / RMS(x), (eq-audio-rms); waveform(s) ``[..., L]``, level in dB of full scale.

    Silence stays silent. Values may exceed ±1: look before writing them to a file.
    """
    _check_wave(x)
    power = x.square().mean(-1, keepdim=True)
    return x * (10 ** (level / 20) / torch.where(power > 0, power, 1).sqrt())


def frame(x: Tensor, n: int, hop: int) -> Tensor:
    """x_t[i] = x[t · hop + i], (eq-audio-frame): waveform(s) ``[..., L]`` → ``[..., T, n]``, T = 1 + ⌊(L − n) / hop⌋.

    Raises ValueError for a waveform shorter than a frame and for n or hop below 1.
    """
    _check_wave(x)
    if n < 1 or hop < 1:
        raise ValueError(f"n, hop: got {n}, {hop}, expected at least 1 sample each")
    if x.shape[-1] < n:
        raise ValueError(f"x: got {x.shape[-1]} samples, expected at least one frame of {n}; pad the waveform with zeros")
    return x.unfold(-1, n, hop)  # [..., T, n]


def spectrogram(x: Tensor, n: int = 400, hop: int = 160) -> Tensor:
    """Power |STFT|², (eq-audio-stft): waveform(s) ``[..., L]`` → ``[..., T, n // 2 + 1]``, T = 1 + ⌊L / hop⌋ for even n.

    Frames of n samples under a periodic Hann window, the waveform extended by n // 2 zeros at both ends, so that
    frame t is centred on sample t · hop.
    """
    _check_wave(x)
    window = torch.hann_window(n, dtype=x.dtype, device=x.device)
    frames = frame(F.pad(x, (n // 2, n // 2)), n, hop)  # [..., T, n]
    spectrum = torch.fft.rfft(frames * window)  # [..., T, n // 2 + 1]
    return spectrum.real.square() + spectrum.imag.square()


def to_mel(f: Tensor, scale: str = "slaney") -> Tensor:
    """Frequency in Hz → mel, (eq-audio-slaney) or (eq-audio-htk); "linear" leaves it as it is."""
    check_choice("scale", scale, SCALES)
    check_finite(f=f)
    if scale == "linear":
        return f
    if scale == "htk":
        return 2595 * torch.log10(1 + f / 700)
    return torch.where(f < 1000, f * 3 / 200, 15 + 27 / math.log(6.4) * torch.log(f.clamp_min(1000) / 1000))


def to_hz(m: Tensor, scale: str = "slaney") -> Tensor:
    """The inverse of `to_mel`."""
    check_choice("scale", scale, SCALES)
    check_finite(m=m)
    if scale == "linear":
        return m
    if scale == "htk":
        return 700 * (10 ** (m / 2595) - 1)
    return torch.where(m < 15, m * 200 / 3, 1000 * torch.exp((m - 15) * math.log(6.4) / 27))


def mel_filters(rate: int, n: int = 400, bands: int = 40, scale: str = "slaney", highest: float | None = None,
                dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Tensor:
    """Triangles of area one between bands + 2 corners that lie evenly on the scale, (eq-audio-triangle).

    Args:
        rate: samples a second.
        n: samples in a frame; bin k of its spectrum lies at k · rate / n Hz.
        bands: M.
        scale: one of ``SCALES``.
        highest: upper end of the last band in Hz, None for rate / 2.

    Returns:
        Weights ``[M, n // 2 + 1]``. A band narrower than the distance of two bins can be empty.

    Raises:
        ValueError: an unknown scale, bands or n below 1, or highest outside of 0 … rate / 2.
    """
    top = rate / 2 if highest is None else highest
    if min(bands, n) < 1 or not 0 < top <= rate / 2:
        raise ValueError(
            f"bands, n, highest: got {bands}, {n}, {top}, expected at least 1 band, 1 sample and 0 < highest ≤ {rate / 2}"
        )
    ends = to_mel(torch.tensor([0.0, top], dtype=torch.float64), scale)
    corner = to_hz(ends[1] * torch.linspace(0, 1, bands + 2, dtype=torch.float64), scale)  # [M + 2]
    f = torch.arange(n // 2 + 1, dtype=torch.float64) * rate / n  # [F]
    low, middle, high = corner[:-2, None], corner[1:-1, None], corner[2:, None]  # [M, 1]
    rising, falling = (f - low) / (middle - low), (high - f) / (high - middle)
    weights = torch.minimum(rising, falling).clamp_min(0) * 2 / (high - low)  # [M, F]
    return weights.to(device=device, dtype=dtype)


def decibels(power: Tensor, reach: float = 80.0) -> Tensor:
    """10 log₁₀ max(power, 10⁻¹⁰), nothing more than ``reach`` dB below the loudest, (eq-audio-db): ``[..., T, D]``.

    The loudest is that of each recording, the last two axes.
    """
    if power.ndim < 2 or 0 in power.shape[-2:]:
        raise ValueError(f"power: got shape {list(power.shape)}, expected [..., T, D] with at least one frame and one band")
    check_finite(power=power)
    d = 10 * power.clamp_min(1e-10).log10()
    return torch.maximum(d, d.amax((-2, -1), keepdim=True) - reach)


def log_mel(x: Tensor, rate: int, bands: int = 40, n: int = 400, hop: int = 160, scale: str = "slaney") -> Tensor:
    """Waveform(s) ``[..., L]`` → log-mel spectrogram in dB ``[..., T, M]``, M = bands, T = 1 + ⌊L / hop⌋ for even n."""
    power = spectrogram(x, n, hop)  # [..., T, F]
    filters = mel_filters(rate, n, bands, scale, dtype=x.dtype, device=x.device)
    with torch.autocast(x.device.type, enabled=False):  # half precision would lose what is quiet
        return decibels(power @ filters.T)  # [..., T, M]


def dct(x: Tensor, size: int) -> Tensor:
    """The first K = size coefficients of the orthonormal DCT-II of the last axis, (eq-audio-dct): ``[..., M]`` → ``[..., K]``."""
    check_finite(x=x)
    bands = x.shape[-1]
    if not 1 <= size <= bands:
        raise ValueError(f"size: got {size}, expected 1 to {bands}, as many coefficients as bands at most")
    m = torch.arange(bands, dtype=x.dtype, device=x.device) + 0.5  # [M]
    k = torch.arange(size, dtype=x.dtype, device=x.device)[:, None]  # [K, 1]
    basis = torch.cos(torch.pi * k * m / bands) * math.sqrt(2 / bands)  # [K, M]
    basis = torch.where(k == 0, basis / math.sqrt(2), basis)
    with torch.autocast(x.device.type, enabled=False):
        return x @ basis.T  # [..., K]


def mfcc(x: Tensor, rate: int, size: int = 13, bands: int = 40, n: int = 400, hop: int = 160,
         scale: str = "slaney") -> Tensor:
    """Waveform(s) ``[..., L]`` → mel-frequency cepstral coefficients ``[..., T, K]``, K = size: DCT of the log-mel."""
    return dct(log_mel(x, rate, bands, n, hop, scale), size)


def _check_wave(x: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x: got {x.dtype}, expected float32 or float64 in −1 … 1; divide 16-bit numbers by 32768")
    if x.ndim < 1 or x.numel() == 0:
        raise ValueError(f"x: got shape {list(x.shape)}, expected [..., L] with at least one sample")
    check_finite(x=x)
