"""Representations shared by modalities: contrastive alignment, distillation."""
