"""Fusion of modalities: weighted sums, stages, attention."""
