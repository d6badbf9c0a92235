"""Instruction tuning: data, loss, low-rank adaptation, training and evaluation (rows R22 to R25)."""
