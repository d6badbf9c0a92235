"""Texts that look like places, braces and control tokens, for hypothesis."""

from hypothesis import strategies as st

CONTROLS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<empty_output>")
DROPPED = "\4\6\x13\x14\x16\x1d"
TEXTS = st.text(st.characters(exclude_categories=("Cs",), max_codepoint=0x3FFFF, exclude_characters=DROPPED), max_size=30)
"""The tokenizer has no token for the bytes of a few control characters, nor for those of planes that hold no character."""
NASTY = st.lists(st.one_of(TEXTS, st.sampled_from([*CONTROLS, "{", "}", "{text}", "{{", "\ue0000\ue000", "\n"])),
                 max_size=6).map("".join)  # fmt: skip
