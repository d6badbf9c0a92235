"""The packaged models: what they can do without a network, features against a plain loop, bad input."""

import copy
import json
import subprocess
import sys
import time
import warnings

import pytest
import torch
import torch.nn.functional as F

from src import pretrained
from src.datasets import emoji
from src.runtime import available_devices, root

TEXTS = ["A cat.", "", "多模态模型把图像和文字放在一起。", "word " * 100, "A cat.", "Two dogs run in the park."]


@pytest.fixture(scope="module")
def offline_answers() -> dict:
    done = subprocess.run([sys.executable, "-m", "tests.pretrained.offline_models"], cwd=root(), capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_language_model_knows_a_capital(offline_answers):
    assert "Paris" in offline_answers["answer"]


@pytest.mark.slow
def test_paraphrases_are_nearer_than_strangers(offline_answers):
    similarity = offline_answers["similarity"]
    assert min(similarity[:3]) > max(similarity[3:]) + 0.2


@pytest.mark.slow
def test_photographs_are_recognised(offline_answers):
    temple, flower = offline_answers["classes"]
    assert "palace" in temple and "daisy" in flower


@pytest.mark.slow
def test_features_beat_pixels_on_emoji_groups(vision):
    """Concepts never seen in training; each probe with the better of two strengths of regularisation."""
    found = emoji.load(["noto"])
    pictures = emoji.over(found.images["noto"])
    groups = sorted({concept.group for concept in found.concepts})
    labels = torch.tensor([groups.index(concept.group) for concept in found.concepts])
    split = emoji.split_concepts(found.concepts, 0.3)
    features = vision.encode(pictures, size=96, progress=False)
    pixels = F.avg_pool2d(pictures.float(), 4).flatten(1)
    assert probe(features, labels, *split) > probe(pixels, labels, *split) + 0.1


def probe(values, labels, train, test) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for strength in (3e-4, 3e-3):
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
        fitted.fit(values[train].numpy(), labels[train].numpy())
        scores.append(fitted.score(values[test].numpy(), labels[test].numpy()))
    return max(scores)


@pytest.mark.slow
def test_the_converted_copy_is_the_packaged_model(language):
    """Weights as transformers reads them from the package, to within float16."""
    from transformers import AutoModelForCausalLM

    from src.weights import locate

    path = locate(pretrained.LANGUAGE)
    packaged = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    own = language.model.state_dict()
    assert own.keys() == packaged.state_dict().keys()
    for name, tensor in packaged.state_dict().items():
        assert torch.equal(own[name], tensor.half().float()), name


def test_chat_format(language):
    text = language.tokenizer.decode(language.prompt("Hi")[0])
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert language.tokenizer.decode(language.prompt(messages)[0]).startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_answers_are_reproducible_and_as_long_as_allowed(language):
    question = "Name three colours."
    first = language.answer(question, 8)
    assert language.answer(question, 8) == first
    assert len(language.tokenizer(first)["input_ids"]) <= 8


def test_a_prompt_longer_than_the_context(language):
    with pytest.raises(ValueError, match=r"messages take 9,\d{3} tokens .* more than the 8,192 of SmolLM2"):
        language.prompt("word " * 9000)
    language.prompt("word " * 100, room=8000)
    with pytest.raises(ValueError, match="ask for fewer new tokens"):
        language.answer("word " * 100, max_new_tokens=8100)


def test_sentences_are_as_transformers_makes_them(sentences):
    """One text at a time, without padding, through the library's own classes."""
    encoded = sentences.encode(TEXTS, cache=False, progress=False)
    assert encoded.shape == (6, 384) and encoded.dtype == torch.float32
    for text, vector in zip(TEXTS, encoded, strict=True):
        tokens = sentences.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = sentences.transformer(**tokens).last_hidden_state[0]
        torch.testing.assert_close(vector, F.normalize(states.mean(0), dim=0), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("budget", [1, 64, 10_000])
def test_batches_do_not_change_the_vectors(sentences, budget):
    expected = sentences.encode(TEXTS, cache=False, progress=False)
    torch.testing.assert_close(sentences.encode(TEXTS, budget=budget, cache=False, progress=False), expected,
                               atol=2e-6, rtol=1e-4)


def test_a_text_longer_than_the_context(sentences):
    long = ["short", "word " * 300]
    with pytest.raises(ValueError, match=r"texts\[1\] has 302 tokens, more than the 256 of all-MiniLM-L6-v2"):
        sentences.encode(long, cache=False)
    cut = sentences.encode(long, truncate=True, cache=False, progress=False)
    assert torch.allclose(cut[1], sentences.encode(["word " * 254], cache=False, progress=False)[0], atol=2e-6)


@pytest.mark.parametrize("texts", ["one string", []])
def test_texts_must_be_several(sentences, texts):
    with pytest.raises(ValueError, match="texts must be a sequence of at least one string"):
        sentences.encode(texts)


def pictures(count: int = 5, size: int = 64) -> torch.Tensor:
    return emoji.over(emoji.load(["noto"]).images["noto"][:count * 50:50, :, :size, :size])


def test_pictures_one_by_one_and_in_batches(vision):
    from torchvision.transforms.v2 import functional as transforms

    encoded = vision.encode(pictures(), size=96, cache=False, progress=False)
    assert encoded.shape == (5, 1280) and encoded.dtype == torch.float32
    for picture, features in zip(pictures(), encoded, strict=True):
        with torch.no_grad():
            alone = vision(transforms.resize(picture[None], [96, 96], antialias=True))[0]
        torch.testing.assert_close(features, alone, atol=1e-4, rtol=1e-3)


def test_folding_changes_no_output(vision):
    """Against the package's own network, with its batch normalisation."""
    from efficientnet_lite_pytorch import EfficientNet

    from src.weights import locate

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(locate(pretrained.VISION), weights_only=True))
    inputs = pictures(2)
    with torch.no_grad():
        expected = network((inputs / 255 - 127 / 255) / (128 / 255))
        torch.testing.assert_close(vision.head(vision(inputs)), expected, atol=1e-4, rtol=1e-3)


def test_bytes_and_fractions_are_the_same_picture(vision):
    with torch.no_grad():
        torch.testing.assert_close(vision(pictures()), vision(pictures() / 255), atol=1e-4, rtol=1e-3)


def test_the_encoder_is_frozen_but_pictures_get_gradients(vision):
    assert not any(parameter.requires_grad for parameter in vision.parameters())
    inputs = (pictures(1) / 255).requires_grad_()
    vision(inputs).sum().backward()
    assert inputs.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 64, 64, dtype=torch.uint8), r"\[B, 3, H, W\] .* got \[3, 64, 64\]"),
        (torch.zeros(1, 4, 64, 64, dtype=torch.uint8), r"got \[1, 4, 64, 64\]"),
        (torch.zeros(1, 3, 16, 64, dtype=torch.uint8), "at least 32"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "uint8 or floating .* got torch.int64"),
    ],
)
def test_wrong_pictures(vision, wrong, message):
    with pytest.raises(ValueError, match=message):
        vision(wrong)


def test_encode_wants_bytes(vision):
    with pytest.raises(ValueError, match=r"pictures must be uint8 \[N, 3, H, W\], got torch.float32 \[1, 3, 64, 64\]"):
        vision.encode(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="got 0 items"):
        vision.encode(torch.zeros(0, 3, 64, 64, dtype=torch.uint8), cache=False)


def test_features_are_kept_for_the_same_data_and_model(vision, sentences, cache, monkeypatch):
    first = vision.encode(pictures(), size=32, progress=False)
    texts = sentences.encode(TEXTS, progress=False)
    for encoder in (vision, sentences):
        monkeypatch.setattr(encoder, "_encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(vision.encode(pictures(), size=32), first)
    assert torch.equal(sentences.encode(TEXTS), texts)
    for other in (lambda: vision.encode(pictures(), size=64), lambda: vision.encode(pictures(4), size=32),
                  lambda: sentences.encode(TEXTS[::-1]), lambda: sentences.encode(TEXTS, truncate=True)):  # fmt: skip
        with pytest.raises(pytest.fail.Exception, match="encoded again"):
            other()


def test_features_of_other_weights_are_not_taken_for_these(vision, sentences, cache):
    """An encoder that was trained further, or that drops out, is another encoder."""
    for encoder, layer, items in ((vision, "body.0", pictures(2)), (sentences, "transformer.embeddings", TEXTS)):
        before = encoder.encode(items, progress=False)
        changed = copy.deepcopy(encoder)
        next(changed.get_submodule(layer).parameters()).data.mul_(1.5)
        assert not torch.allclose(changed.encode(items, progress=False), before, atol=1e-4)
        assert torch.equal(encoder.encode(items, progress=False), before)
    noisy = copy.deepcopy(sentences)
    noisy.transformer.train()
    assert not torch.equal(noisy.encode(TEXTS, progress=False), sentences.encode(TEXTS, progress=False))


@pytest.mark.parametrize("load", [pretrained.language_model, pretrained.sentence_encoder, pretrained.vision_encoder])
def test_the_hub_needs_a_network(load, cache, monkeypatch, tmp_path):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    torch.hub.set_dir(tmp_path)
    with warnings.catch_warnings(), pytest.raises(ConnectionError, match="leave source out for the weights that were"):
        warnings.simplefilter("ignore")
        load("hub")


def test_unknown_vision_encoder():
    with pytest.raises(ValueError, match="source must be one of package, hub, resnet18, .* got 'vit'"):
        pretrained.vision_encoder("vit")


def test_an_unknown_device():
    with pytest.raises(ValueError, match="device: got 'cuda:99'"):
        pretrained.vision_encoder(device="cuda:99")


def test_torchvision_networks_give_their_own_logits(monkeypatch):
    """The same path as with downloaded weights, on random ones."""
    from torchvision import models

    torch.manual_seed(0)
    network = models.resnet18().eval()
    weights = models.ResNet18_Weights.DEFAULT
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: network.state_dict())
    encoder = pretrained.vision_encoder("resnet18")
    inputs = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (weights.transforms().mean, weights.transforms().std))
    with torch.no_grad():
        torch.testing.assert_close(encoder.head(encoder(inputs)), network((inputs - mean) / std), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision(sentences, dtype):
    encoder = pretrained.sentence_encoder(device="cpu", dtype=dtype)
    assert encoder.transformer.dtype == dtype
    close = encoder.encode(TEXTS, cache=False, progress=False)
    assert (close * sentences.encode(TEXTS, cache=False, progress=False)).sum(1).min() > 0.99


@pytest.mark.skipif("cuda:0" not in available_devices(), reason="needs a CUDA device")
def test_cpu_and_gpu_agree(vision, sentences, language):
    on_gpu = copy.deepcopy(vision).to("cuda")
    torch.testing.assert_close(on_gpu.encode(pictures(), cache=False), vision.encode(pictures(), cache=False),
                               atol=5e-2, rtol=1e-2)
    encoded = copy.deepcopy(sentences).to("cuda").encode(TEXTS, cache=False)
    torch.testing.assert_close(encoded, sentences.encode(TEXTS, cache=False), atol=1e-3, rtol=1e-2)
    assert pretrained.language_model(device="cuda").answer("What is the capital of France?") == language.answer(
        "What is the capital of France?")  # fmt: skip
