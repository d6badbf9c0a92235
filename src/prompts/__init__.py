"""Prompts: templates, scored answers, retrieved examples, searched and learned prompts; the model's weights stay fixed."""
