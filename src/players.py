"""Sounds on a page: players that carry their sound, so that the page asks for no other file."""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML
    from torch import Tensor

LEAST_RATE, MOST_RATE = 3000, 96000
"""Samples a second that browsers play."""

PLAYER = ('<figure style="margin:0"><figcaption>{title}</figcaption><audio controls preload="metadata" aria-label="{title}" '
          'style="width:100%" src="data:audio/wav;base64,{sound}"></audio></figure>')
GRID = '<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:0.5rem">{players}</div>'


def play_sounds(waves: Sequence[Tensor], rate: int, titles: Sequence[str]) -> HTML:
    """Players for sounds float ``[T]`` in −1 … 1 at ``rate`` samples a second, each below its title.

    Louder values are clipped, silence stays silent. Raises ValueError for a sound that is no such tensor, for a rate that
    browsers do not play, and when there is not one title for each sound.
    """
    from IPython.display import HTML

    if len(titles) != len(waves) or not len(waves):
        raise ValueError(f"titles: got {len(titles)} for {len(waves)} sounds; give at least one sound and a title for each")
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise ValueError(f"rate: got {rate}, expected {LEAST_RATE} to {MOST_RATE} samples a second")
    sounds = [base64.b64encode(_wav(samples, rate)).decode("ascii") for samples in waves]
    players = [PLAYER.format(title=html.escape(title), sound=sound) for title, sound in zip(titles, sounds, strict=True)]
    return HTML(GRID.format(players="".join(players)))


def _wav(samples: Tensor, rate: int) -> bytes:
    """A mono WAV file of 16 bits."""
    if samples.ndim != 1 or not samples.is_floating_point() or not len(samples) or not samples.isfinite().all():
        raise ValueError(f"waves: got {samples.dtype} {list(samples.shape)}, expected finite floating [T] with T ≥ 1")
    values = (samples.float().clamp(-1, 1) * 32767).round().short().cpu().numpy()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", ""))
        writer.writeframes(values.astype("<i2").tobytes())
    return file.getvalue()
