"""Models that whole chapters train: residual networks, classifiers, captioners, a small multimodal language model."""
