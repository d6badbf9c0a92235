"""Reading sound files of every kind, and what comes of the bad ones."""

import io
import math
import struct

import numpy as np
import pytest
import soundfile
import torch

from src.datasets.waves import padded, read_wave, resampled, with_noise


def written(samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    data = io.BytesIO()
    soundfile.write(data, samples, rate, subtype, format=kind)
    return data.getvalue()


def wav(samples: bytes, bits: int, channels: int = 1, rate: int = 16_000, tag: int = 1) -> bytes:
    """A WAV file put together by hand, so that its numbers are known."""
    frame = channels * bits // 8
    about = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(about)) + about + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tone(frequency: float, rate: int, seconds: float = 0.5) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(int(seconds * rate)) / rate)


def test_eight_bit():
    wave, rate = read_wave(wav(bytes([0, 64, 128, 129, 255]), 8))
    assert rate == 16_000 and wave.dtype == torch.float32
    assert wave.tolist() == [-1.0, -0.5, 0.0, 1 / 128, 127 / 128]


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_wider_numbers(bits):
    numbers = [-(2 ** (bits - 1)), -(2 ** (bits - 2)), 0, 2 ** (bits - 2), 2 ** (bits - 1) - 2 ** (bits - 16)]
    data = b"".join(number.to_bytes(bits // 8, "little", signed=True) for number in numbers)
    assert read_wave(wav(data, bits))[0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1 - 2**-15]


@pytest.mark.parametrize("code", ["f", "d"])
def test_floats_are_kept_and_clipped(code):
    data = struct.pack(f"<4{code}", 0.25, -0.125, 1.5, -1.01)
    assert read_wave(wav(data, 8 * struct.calcsize(code), tag=3))[0].tolist() == [0.25, -0.125, 1.0, -1.0]


def test_channels_are_averaged():
    left_right = struct.pack("<6h", 8192, 16384, -32768, 32767, 100, -100)
    assert read_wave(wav(left_right, 16, channels=2))[0].tolist() == [0.375, -0.5 / 32768, 0.0]
    surround = struct.pack("<6h", 6000, 0, 0, 0, 0, 0)
    assert read_wave(wav(surround, 16, channels=6))[0].tolist() == pytest.approx([1000 / 32768])


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates(rate):
    wave, found = read_wave(written(tone(1_000, rate).numpy(), rate, "FLOAT"))
    expected = tone(1_000, 16_000)
    assert found == 16_000 and abs(len(wave) - len(expected)) <= 1
    inside = slice(200, 7_700)
    assert (wave[inside] - expected[inside]).abs().max() < 5e-3


def test_too_high_frequencies_do_not_come_back_as_others():
    wave, _ = read_wave(written(tone(11_000, 44_100).numpy(), 44_100, "FLOAT"))
    assert wave[200:-200].abs().max() < 5e-3


def test_own_rate():
    wave, rate = read_wave(written(tone(440, 22_050).numpy(), 22_050, "FLOAT"), rate=None)
    assert rate == 22_050 and torch.equal(wave, tone(440, 22_050))
    assert resampled(wave, 22_050, 22_050) is wave


@pytest.mark.parametrize("kind, subtype", [("FLAC", "PCM_16"), ("OGG", "OPUS"), ("OGG", "VORBIS"),
                                           ("MP3", "MPEG_LAYER_III")])
def test_other_formats(tmp_path, kind, subtype):
    path = tmp_path / "a.sound"
    path.write_bytes(written(tone(500, 16_000).numpy(), 16_000, subtype, kind))
    wave, _ = read_wave(path)
    assert wave.shape == (8_000,) and (wave - tone(500, 16_000))[400:-400].abs().max() < 0.05


def test_silence_comes_back_as_zeros():
    for data in (wav(bytes(400), 16), wav(bytes(800), 16, rate=44_100), wav(bytes([128]) * 100, 8)):
        wave, _ = read_wave(data)
        assert len(wave) and not wave.any()


def test_streamed_wav_without_a_length():
    data = bytearray(wav(bytes(400), 16))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert len(read_wave(bytes(data))[0]) == 200


@pytest.mark.parametrize("samples", [[0.0, float("nan")], [0.1, float("inf")]])
def test_not_a_number(samples):
    with pytest.raises(ValueError, match="a file of 52 bytes holds NaN or infinite samples"):
        read_wave(wav(struct.pack("<2f", *samples), 32, tag=3))


def test_sixteen_bit_numbers_kept_as_floats():
    with pytest.raises(ValueError, match=r"reaches 12,000\.0, expected −1 … 1: divide it by its full scale"):
        read_wave(wav(struct.pack("<f", 12_000), 32, tag=3))


def test_no_samples(tmp_path):
    path = tmp_path / "none.wav"
    path.write_bytes(wav(b"", 16))
    with pytest.raises(ValueError, match=r"none\.wav holds no samples"):
        read_wave(path)


@pytest.mark.parametrize("data", [b"", b"hello, I am no sound\n" * 50, b"\x89PNG\r\n\x1a\n" + bytes(100), b"RIFF"])
def test_foreign_files(tmp_path, data):
    path = tmp_path / "foreign.wav"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"foreign\.wav cannot be read as sound .*no WAV, FLAC, Ogg or MP3"):
        read_wave(path)


@pytest.mark.parametrize("kind, subtype", [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("FLAC", "PCM_16"), ("OGG", "OPUS"),
                                           ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.98])
def test_truncated_files(tmp_path, kind, subtype, share):
    data = written(torch.rand(8_000, generator=torch.Generator().manual_seed(0)).numpy() - 0.5, 16_000, subtype, kind)
    path = tmp_path / "cut.wav"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"cut\.wav cannot be read as sound .*truncated, damaged"):
        read_wave(path)


def test_ogg_without_its_last_page():
    data = written(tone(500, 16_000, 3).numpy(), 16_000, "OPUS", "OGG")
    with pytest.raises(ValueError, match="cannot be read as sound .its end is missing."):
        read_wave(data[: data.rindex(b"OggS")])


def test_a_header_that_promises_more_than_memory_holds(monkeypatch):
    """A damaged MP3 claimed 2·10¹² samples."""

    def greedy(*_, **__):
        raise MemoryError("Unable to allocate 7.70 TiB")

    monkeypatch.setattr(soundfile.SoundFile, "read", greedy)
    with pytest.raises(ValueError, match="cannot be read as sound .Unable to allocate 7.70 TiB.: it is truncated, damaged"):
        read_wave(wav(bytes(400), 16))


@pytest.mark.parametrize("rate", [1, 999, 2_000_000_000])
def test_a_rate_that_no_recorder_has(rate):
    with pytest.raises(ValueError, match=f"it claims {rate:,} samples a second"):
        read_wave(wav(bytes(400), 16, rate=rate))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        read_wave(tmp_path / "missing.wav")


def test_wrong_rate():
    with pytest.raises(ValueError, match="rate must be at least 1 Hz, got 0"):
        read_wave(wav(bytes(4), 16), rate=0)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_has_exactly_the_power_asked_for(snr):
    wave = 0.2 * tone(300, 16_000)
    noisy = with_noise(wave, snr, torch.Generator().manual_seed(0))
    noise = noisy - wave
    assert 10 * math.log10(wave.square().sum() / noise.square().sum()) == pytest.approx(snr, abs=1e-3)
    assert torch.equal(noisy, with_noise(wave, snr, torch.Generator().manual_seed(0)))
    assert not torch.equal(noisy, with_noise(wave, snr, torch.Generator().manual_seed(1)))


def test_noise_stays_within_full_scale_and_leaves_silence_alone():
    random = torch.Generator().manual_seed(0)
    loud = with_noise(torch.ones(1_000), 0.0, random)
    assert loud.abs().max() == 1 and loud.std() > 0.1
    assert not with_noise(torch.zeros(100), 10.0, random).any()
    with pytest.raises(ValueError, match="snr must be a finite number of decibels, got nan"):
        with_noise(loud, math.nan, random)


def test_padded():
    waves, lengths = padded([torch.ones(3), torch.ones(1), torch.ones(2)])
    assert waves.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]] and lengths.tolist() == [3, 1, 2]
    with pytest.raises(ValueError, match="waves is empty"):
        padded([])
