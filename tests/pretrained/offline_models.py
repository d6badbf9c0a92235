"""Load each model in a process without a network and print what it answers as JSON."""

import json

from tests import offline

offline.block()

import torch  # noqa: E402
from sklearn.datasets import load_sample_images  # noqa: E402

from src import pretrained  # noqa: E402

STATEMENT = "A man is playing the guitar."
PARAPHRASES = ["Someone plays music on a guitar.", "A guitarist is performing.", "The man strums his guitar."]
STRANGERS = ["A woman is playing football.", "The stock market fell today.", "The dog sleeps on the sofa."]

vectors = pretrained.sentence_encoder().encode([STATEMENT, *PARAPHRASES, *STRANGERS], cache=False, progress=False)
vision = pretrained.vision_encoder()
photographs = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
found = {
    "answer": pretrained.language_model().answer("What is the capital of France?"),
    "similarity": (vectors[1:] @ vectors[0]).tolist(),
    "classes": [[name for name, _ in vision.classify(photograph)] for photograph in photographs],
}
print(json.dumps(found))
