"""Representations shared by modalities: contrastive alignment, autoencoders, adversarial learning, distillation."""
