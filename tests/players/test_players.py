"""Players hold their own sound, exactly, and ask for nothing else."""

import base64
import io
import re

import pytest
import torch

from src.players import play_sounds


def sounds(markup: str) -> list[tuple[torch.Tensor, int]]:
    import soundfile

    found = re.findall(r'src="data:audio/wav;base64,([^"]+)"', markup)
    read = [soundfile.read(io.BytesIO(base64.b64decode(code)), dtype="int16") for code in found]
    return [(torch.from_numpy(values), rate) for values, rate in read]


def test_the_sound_is_in_the_page():
    tone = torch.sin(torch.arange(800) * 0.1)
    markup = play_sounds([tone, 2 * tone, torch.zeros(5)], 16000, ["一", "<二>", "三"]).data
    first, loud, silent = sounds(markup)
    assert all(rate == 16000 for _, rate in (first, loud, silent))
    assert torch.equal(first[0], (tone * 32767).round().short())
    assert torch.equal(loud[0], ((2 * tone).clamp(-1, 1) * 32767).round().short()) and not silent[0].any()
    assert markup.count("<audio") == 3 and 'aria-label="&lt;二&gt;"' in markup
    assert set(re.findall(r'(?:src|href)="(\w+):', markup)) == {"data"}


@pytest.mark.parametrize(
    ("waves", "rate", "titles", "message"),
    [
        ([torch.zeros(9)], 16000, [], "titles: got 0 for 1 sounds"),
        ([], 16000, [], "at least one sound"),
        ([torch.zeros(9)], 100, ["a"], "rate: got 100, expected 3000"),
        ([torch.zeros(2, 9)], 16000, ["a"], r"got torch.float32 \[2, 9\], expected finite floating \[T\]"),
        ([torch.zeros(0)], 16000, ["a"], r"got torch.float32 \[0\]"),
        ([torch.zeros(9, dtype=torch.int16)], 16000, ["a"], "got torch.int16"),
        ([torch.tensor([0.0, float("nan")])], 16000, ["a"], "finite"),
    ],
)
def test_wrong_sounds(waves, rate, titles, message):
    with pytest.raises(ValueError, match=message):
        play_sounds(waves, rate, titles)
