"""Sound files as float waveforms: any width, any number of channels, any rate, and clear errors for the rest."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

STREAMED = 0x7FFFF000
"""Sizes from here on stand in WAV headers that were written before the length was known."""
LOUDEST = 2.0
RATES = (1_000, 768_000)
"""Samples a second that a file may claim: below and above, its header is damaged."""


def read_wave(source: str | os.PathLike[str] | bytes, rate: int | None = 16_000) -> tuple[Tensor, int]:
    """(waveform float32 ``[T]`` in −1 … 1, its rate in Hz) of a WAV, FLAC, Ogg or MP3 file, given by path or content.

    Channels are averaged. rate: what to resample to, None to keep the file's own. 8-, 16-, 24- and 32-bit numbers are
    divided by 2⁷, 2¹⁵, 2²³ and 2³¹; what float files, lossy coding or resampling put a little beyond ±1 is clipped.
    Silence comes back as zeros.

    Raises ValueError, naming the file, for one that is no sound file, is damaged or truncated, holds no samples, NaN or
    numbers far beyond ±1, and for a rate that is not positive; OSError for a path that cannot be opened.
    """
    if rate is not None and rate < 1:
        raise ValueError(f"rate must be at least 1 Hz, got {rate}; leave it out for 16,000 or give None for the file's.")
    name = f"a file of {len(source):,} bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    samples, own = _decode(data, name)
    _check(samples, name)
    wave = resampled(samples.mean(1), own, rate or own)
    return wave.clamp(-1, 1), rate or own


def _decode(data: bytes, name: str) -> tuple[Tensor, int]:
    """(samples float32 ``[T, channels]``, rate)."""
    import soundfile

    if _cut_short(data):
        raise _unreadable(name, "its end is missing")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples, frames, own = file.read(dtype="float32", always_2d=True), file.frames, file.samplerate
    except (soundfile.LibsndfileError, MemoryError) as error:
        raise _unreadable(name, getattr(error, "error_string", str(error))) from error
    if not RATES[0] <= own <= RATES[1]:
        raise _unreadable(name, f"it claims {own:,} samples a second")
    if len(samples) < frames:
        raise _unreadable(name, f"{len(samples):,} of {frames:,} samples are there")
    return torch.from_numpy(samples), own


def _cut_short(data: bytes) -> bool:
    """Whether a WAV file is shorter than its header says, or an Ogg stream ends before its last page does.

    libsndfile reads both as if they were whole.
    """
    if data[:4] == b"RIFF":
        return len(data) + 1 < int.from_bytes(data[4:8], "little") + 8 < STREAMED
    if data[:4] != b"OggS":
        return False
    page = data[data.rindex(b"OggS"):]
    body = 27 + page[26] if len(page) > 26 else len(page) + 1
    return len(page) < body + sum(page[27:body]) or not page[5] & 4


def _unreadable(name: str, reason: str) -> ValueError:
    return ValueError(f"{name} cannot be read as sound ({reason}): it is truncated, damaged or no WAV, FLAC, Ogg or MP3 "
                      "file; copy it again from its source or convert it.")


def _check(samples: Tensor, name: str) -> None:
    if len(samples) == 0:
        raise ValueError(f"{name} holds no samples: record it again or leave it out.")
    if not samples.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite samples: write it again from a sound source.")
    if (loudest := float(samples.abs().max())) > LOUDEST:
        raise ValueError(f"{name} reaches {loudest:,.1f}, expected −1 … 1: divide it by its full scale, "
                         "32,768 for 16-bit numbers kept as floats.")


def resampled(wave: Tensor, rate: int, new: int) -> Tensor:
    """Waveform float32 ``[T]`` at ``rate`` Hz → ``[⌈T · new / rate⌉]`` at ``new`` Hz, frequencies above new/2 removed."""
    if rate == new:
        return wave
    from scipy.signal import resample_poly

    common = math.gcd(rate, new)
    return torch.from_numpy(resample_poly(wave.numpy(), new // common, rate // common)).to(wave.dtype)


def with_noise(wave: Tensor, snr: float, random: torch.Generator) -> Tensor:
    """The waveform ``[T]`` plus white noise of exactly ``snr`` dB less power, scaled down where the sum exceeds ±1.

    SNR = 10 log₁₀(Σ wave² / Σ noise²). Silence has no power to compare with and stays silent.
    """
    if not math.isfinite(snr):
        raise ValueError(f"snr must be a finite number of decibels, got {snr}; leave the noise out for a clean wave.")
    noise = torch.randn(wave.shape, generator=random)
    noise *= wave.norm() / noise.norm() * 10 ** (-snr / 20)
    noisy = wave + noise
    return noisy / noisy.abs().max().clamp(min=1)


def padded(waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waveforms of several lengths as (float32 ``[N, T]`` with zeros at the ends, lengths int64 ``[N]``)."""
    if not waves:
        raise ValueError("waves is empty: give at least one waveform.")
    lengths = torch.tensor([len(wave) for wave in waves])
    return torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True), lengths
