"""The language model's tokenizer with a tiny random network in float64, and the model itself; each loaded once."""

from __future__ import annotations

import pytest
import torch

from src import pretrained

CONTEXT = 256


@pytest.fixture(scope="session")
def language() -> pretrained.LanguageModel:
    return pretrained.language_model(device="cpu")


@pytest.fixture(scope="session")
def tiny(language) -> pretrained.LanguageModel:
    """Two layers of random weights, so that wrong positions, masks and caches change every number."""
    return tiny_model(language.tokenizer)


def tiny_model(tokenizer, device: str = "cpu", dtype: torch.dtype = torch.float64) -> pretrained.LanguageModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT, pad_token_id=2)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return pretrained.LanguageModel(model.to(device, dtype), tokenizer, "tiny", CONTEXT)
