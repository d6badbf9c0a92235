"""Waveform to MFCC: every step against librosa or scipy in double precision."""

import librosa
import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.features import audio

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
RATE = 16_000
FEATURES = [audio.log_mel, audio.mfcc]
WAVES = {
    "peak": audio.peak_normalize, "rms": audio.rms_normalize, "frame": lambda x: audio.frame(x, 16, 5),
    "spectrogram": lambda x: audio.spectrogram(x, 16, 8), "log_mel": lambda x: audio.log_mel(x, RATE, 4, 16, 8),
    "mfcc": lambda x: audio.mfcc(x, RATE, 3, 4, 16, 8),
}  # fmt: skip
KERNELS = WAVES | {
    "scales": lambda x: audio.to_hz(audio.to_mel(1e4 * x.abs()) + 1), "decibels": lambda x: audio.decibels(x.square()),
    "dct": lambda x: audio.dct(x, 3),
}  # fmt: skip
"""Each on ``[..., L]``, L at least 16."""

pytestmark = pytest.mark.filterwarnings("ignore:n_fft=")


def noise(*shape: int, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float64) -> torch.Tensor:
    wave = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (0.2 * wave).to(device, dtype)


def close(ours: torch.Tensor, reference: np.ndarray, **tolerance: float) -> None:
    torch.testing.assert_close(ours, torch.from_numpy(np.ascontiguousarray(reference)), **tolerance)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 900), n=st.integers(1, 300).map(lambda half: 2 * half), hop=st.integers(1, 300))
def test_spectrogram_is_librosas(length, n, hop):
    x = noise(length)
    S = np.abs(librosa.stft(x.numpy(), n_fft=n, hop_length=hop, pad_mode="constant", dtype=np.complex128)) ** 2
    ours = audio.spectrogram(x, n, hop)
    assert ours.shape == (1 + length // hop, n // 2 + 1)
    close(ours, S.T, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Empty filters")
@settings(max_examples=25, deadline=None)
@given(rate=st.sampled_from([8_000, 16_000, 22_050]), n=st.sampled_from([256, 400, 1024]), bands=st.integers(1, 90),
       scale=st.sampled_from(["slaney", "htk"]), share=st.floats(0.2, 1))
def test_filters_are_librosas(rate, n, bands, scale, share):
    top = share * rate / 2
    ours = audio.mel_filters(rate, n, bands, scale, highest=top, dtype=torch.float64)
    close(ours, librosa.filters.mel(sr=rate, n_fft=n, n_mels=bands, fmax=top, htk=scale == "htk", dtype=np.float64),
          rtol=1e-9, atol=1e-12)


def test_linear_filters_are_evenly_spaced():
    W = audio.mel_filters(RATE, 400, 9, "linear", dtype=torch.float64)
    assert W.argmax(1).tolist() == [20 * (m + 1) for m in range(9)]
    torch.testing.assert_close(W.sum(1) * RATE / 400, torch.ones(9, dtype=torch.float64))


@pytest.mark.parametrize("htk", [False, True])
def test_scales_are_librosas_and_inverse(htk):
    f, scale = torch.linspace(0, 11_025, 400, dtype=torch.float64), "htk" if htk else "slaney"
    m = audio.to_mel(f, scale)
    close(m, librosa.hz_to_mel(f.numpy(), htk=htk))
    close(audio.to_hz(m, scale), librosa.mel_to_hz(m.numpy(), htk=htk))
    torch.testing.assert_close(audio.to_hz(m, scale), f)
    assert audio.to_mel(f, "linear") is f


@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 6_000), bands=st.integers(1, 64), scale=st.sampled_from(["slaney", "htk"]), data=st.data())
def test_log_mel_and_mfcc_are_librosas(length, bands, scale, data):
    size = data.draw(st.integers(1, bands))
    x = noise(length) * torch.linspace(0, 1, length, dtype=torch.float64) ** 6  # beyond 80 dB from loud to quiet
    setting = dict(sr=RATE, n_fft=400, hop_length=160, n_mels=bands, htk=scale == "htk", pad_mode="constant", dtype=np.float64)
    S = np.abs(librosa.stft(x.numpy(), n_fft=400, hop_length=160, pad_mode="constant", dtype=np.complex128)) ** 2
    d = librosa.power_to_db(librosa.feature.melspectrogram(S=S, **setting), ref=1.0, amin=1e-10, top_db=80)
    close(audio.log_mel(x, RATE, bands, scale=scale), d.T, rtol=1e-8, atol=1e-8)
    close(audio.mfcc(x, RATE, size, bands, scale=scale), librosa.feature.mfcc(S=d, n_mfcc=size).T, rtol=1e-8, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(bands=st.integers(1, 50), data=st.data())
def test_dct_is_scipys(bands, data):
    size, x = data.draw(st.integers(1, bands)), noise(3, bands)
    close(audio.dct(x, size), scipy.fft.dct(x.numpy(), type=2, norm="ortho")[:, :size])
    close(audio.dct(x, bands) @ audio.dct(torch.eye(bands, dtype=torch.float64), bands).T, x.numpy())


@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(1, 3), max_size=2), length=st.integers(1, 99), data=st.data())
def test_frames_and_loudness_are_librosas_and_numpys(shape, length, data):
    n, hop, x = data.draw(st.integers(1, length)), data.draw(st.integers(1, 20)), noise(*shape, length)
    close(audio.frame(x, n, hop), librosa.util.frame(x.numpy(), frame_length=n, hop_length=hop).swapaxes(-1, -2).copy())
    close(audio.peak_normalize(x, 0.9), 0.9 * librosa.util.normalize(x.numpy(), axis=-1))
    rms = np.sqrt(np.mean(x.numpy() ** 2, axis=-1, keepdims=True))
    close(audio.rms_normalize(x, -26), x.numpy() / rms * 10 ** (-26 / 20))


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=10, deadline=None)
@given(shape=st.lists(st.integers(1, 3), min_size=1, max_size=2), length=st.integers(16, 99))
def test_single_precision_is_kept_and_close_to_double(name, shape, length):
    x = noise(*shape, length)
    single, double = KERNELS[name](x.float()), KERNELS[name](x)
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("gain", [1e-4, 1.0, 30.0])
def test_normalizing_forgets_the_gain(gain):
    x = torch.stack((noise(500), noise(500, seed=1) ** 3))
    for function in (audio.peak_normalize, audio.rms_normalize):
        torch.testing.assert_close(function(gain * x), function(x))
        assert not function(torch.zeros(2, 5)).any()
    torch.testing.assert_close(audio.peak_normalize(x, 0.9).abs().amax(1), torch.full((2,), 0.9, dtype=torch.float64))
    power = audio.rms_normalize(x, -26).square().mean(1)
    torch.testing.assert_close(10 * power.log10(), torch.full((2,), -26.0, dtype=torch.float64))


@pytest.mark.parametrize("function", FEATURES)
def test_a_batch_is_its_recordings(function):
    x = noise(2, 3, 800) * torch.tensor([1e-4, 1.0, 10.0], dtype=torch.float64)[:, None]
    each = torch.stack([torch.stack([function(wave, RATE) for wave in waves]) for waves in x])
    torch.testing.assert_close(function(x, RATE), each)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients(name):
    assert torch.autograd.gradcheck(KERNELS[name], noise(2, 64).requires_grad_())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", KERNELS)
def test_compiles_and_autocasts(name, device):
    kernel, x = KERNELS[name], noise(2, 800, device=device, dtype=torch.float32)
    expected = kernel(x)
    compiled = torch.compile(kernel, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-3)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype):
            found = kernel(x)
        assert found.dtype == torch.float32 and found.device.type == device
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", KERNELS)
def test_gpu_agrees(name):
    x = noise(3, 4_000)
    torch.testing.assert_close(KERNELS[name](x.cuda()).cpu(), KERNELS[name](x), rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize("name", WAVES)
@pytest.mark.parametrize(("wave", "message"), [
    (torch.zeros(0), r"x: got shape \[0\], expected \[..., L\]"),
    (torch.tensor(0.5), r"x: got shape \[\], expected"),
    (torch.zeros(99, dtype=torch.int16), "x: got torch.int16, expected float32 or float64 in −1 … 1; divide"),
    (torch.zeros(99).bfloat16(), "x: got torch.bfloat16"),
    (torch.full((99,), torch.nan), "x: got NaN or infinite values"),
    (torch.tensor([0.1] * 98 + [-torch.inf]), "x: got NaN or infinite values"),
])
def test_waves_that_are_none_are_refused(name, wave, message):
    with pytest.raises(ValueError, match=message):
        WAVES[name](wave)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: audio.frame(torch.zeros(7), 8, 2), "x: got 7 samples, expected at least one frame of 8"),
    (lambda: audio.frame(torch.zeros(7), 4, 0), "n, hop: got 4, 0"),
    (lambda: audio.mel_filters(RATE, 400, 0), "bands, n, highest: got 0"),
    (lambda: audio.mel_filters(RATE, 0), "bands, n, highest: got 40, 0"),
    (lambda: audio.mel_filters(RATE, highest=9_000), "bands, n, highest: got 40, 400, 9000"),
    (lambda: audio.mel_filters(RATE, scale="bark"), "scale must be one of slaney, htk, linear, got 'bark'"),
    (lambda: audio.to_mel(torch.tensor([1.0, torch.nan])), "f: got NaN"),
    (lambda: audio.to_hz(torch.tensor([1.0, torch.inf])), "m: got NaN"),
    (lambda: audio.decibels(torch.zeros(5)), r"power: got shape \[5\], expected \[..., T, D\]"),
    (lambda: audio.decibels(torch.zeros(0, 5)), "at least one frame"),
    (lambda: audio.decibels(torch.full((2, 5), torch.nan)), "power: got NaN"),
    (lambda: audio.dct(torch.zeros(5), 6), "size: got 6, expected 1 to 5"),
    (lambda: audio.dct(torch.zeros(2, 0), 1), "size: got 1, expected 1 to 0"),
    (lambda: audio.dct(torch.full((5,), torch.nan), 2), "x: got NaN"),
    (lambda: audio.mfcc(torch.zeros(500), RATE, 13, bands=12), "size: got 13, expected 1 to 12"),
])
def test_settings_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_silence_has_features():
    assert (audio.log_mel(torch.zeros(800), RATE) == -100).all()
    assert audio.mfcc(torch.zeros(800), RATE).isfinite().all()
