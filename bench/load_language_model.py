"""Loading the packaged language model: the first time, when its weights are converted, and the second."""

from __future__ import annotations

import os
import tempfile

from src import pretrained
from src.runtime import CACHE_VARIABLE, timer


def main() -> None:
    import transformers.models.llama  # noqa: F401  the library's own import is not what is measured

    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        seconds = []
        for _ in range(4):
            with timer() as timing:
                pretrained.language_model(device="cpu")
            seconds.append(timing.seconds)
    print(f"language model: first load {seconds[0]:.1f} s, second load {seconds[1]:.2f} s (goal 2 s), "
          f"later {', '.join(f'{value:.2f}' for value in seconds[2:])} s")


if __name__ == "__main__":
    main()
