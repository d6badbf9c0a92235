"""Scenes drawn a second at 64 pixels, in blocks and one at a time with Pillow."""

from __future__ import annotations

import torch
from PIL import Image

from src.datasets import emoji, scenes
from src.datasets.things import THINGS
from src.runtime import timer

COUNT = 4000
ONE_BY_ONE = 400


def main() -> None:
    scenes.draw("train", 200)
    rates = []
    for _ in range(3):
        with timer() as timing:
            drawn = scenes.draw("train", COUNT)
        rates.append(COUNT / timing.seconds)
    with timer() as timing:
        one_by_one(drawn)
    loop = ONE_BY_ONE / timing.seconds
    print(f"{torch.get_num_threads()} threads: {max(rates):,.0f} scenes a second (goal 2,000), "
          f"Pillow one by one {loop:,.0f}, {max(rates) / loop:.1f}×")


def one_by_one(drawn: scenes.Scenes) -> None:
    """Paste the same things at the same places on a textured background, as a loop over pictures would."""
    found = emoji.load()
    random = torch.Generator().manual_seed(0)
    for item in range(ONE_BY_ONE):
        picture = background(random, drawn.size)
        style = emoji.STYLES[drawn.styles[item]]
        for row, (x0, y0, x1, y1) in zip(drawn.things[item].tolist(), drawn.boxes[item].int().tolist(), strict=True):
            if row >= 0:
                image = found.images[style][int(found.find(THINGS[row].codepoint))]
                thing = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((x1 - x0, y1 - y0))
                picture.paste(thing, (x0, y0), thing)


def background(random: torch.Generator, size: int) -> Image.Image:
    """Coloured clouds and noise."""
    coarse = torch.randint(0, 256, (6, 6, 3), generator=random, dtype=torch.uint8)
    clouds = Image.fromarray(coarse.numpy()).resize((size, size))
    noise = torch.randint(0, 256, (size, size, 3), generator=random, dtype=torch.uint8)
    return Image.blend(clouds, Image.fromarray(noise.numpy()), 0.1)


if __name__ == "__main__":
    main()
