"""Multimodal autoencoders: one latent for all modalities, any of which may be missing (row R13).

Chapter: chapters/representation/autoencoder.ipynb. M modalities x_m ``[B, D_m]`` share one latent z ``[B, D]``; present
``[B, M]`` says which of them an example has. What stands in the place of an absent one is never read, not even NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.runtime import check_finite


def shared_latent(z: Tensor, present: Tensor) -> Tensor:
    """z = Σ_m o_m z_m / Σ_m o_m, the mean over the modalities that are there (eq-autoencoder-shared).

    Args:
        z: z_m, ``[B, M, D]``, the latents of the modalities.
        present: o, bool ``[B, M]``.

    Returns:
        ``[B, D]``.

    Raises:
        ValueError: shapes that do not fit or are empty, present not bool, a row without any modality, NaN or infinite
            values in a present one.
    """
    _check_experts(present, z=z)
    _check_some(present)
    there = present[..., None]  # [B, M, 1]
    return z.masked_fill(~there, 0).sum(1) / there.sum(1)


def drop_modalities(present: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Modality dropout: each present modality goes with probability ``rate``, but one of a row always stays.

    One u_m ~ U(0, 1) is drawn for each; those with u_m ≥ rate stay, and so does the largest of the row. It is the noise
    of a denoising autoencoder (Vincent et al., ICML 2008), put on whole modalities as in Ngiam et al. (ICML 2011).

    Args:
        present: bool ``[B, M]``.
        rate: 0 (drop nothing) … 1 (leave exactly one).
        generator: where the numbers come from; torch's own where None.

    Returns:
        bool ``[B, M]``, a subset of present.

    Raises:
        ValueError: present is not a bool matrix, is empty or has a row without any modality, rate outside 0 … 1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: got {rate}, expected 0 … 1, the probability of dropping a modality")
    _check_present(present)
    _check_some(present)
    source = present.device if generator is None else generator.device
    u = torch.rand(present.shape, generator=generator, device=source).to(present.device)  # [B, M]
    u = u.masked_fill(~present, -1)
    return present & ((u >= rate) | (u == u.amax(1, keepdim=True)))


def reconstruction_error(
    x: Sequence[Tensor], x_hat: Sequence[Tensor], weights: Sequence[float], present: Tensor | None = None
) -> Tensor:
    """Σ_m λ_m ‖x_m − x̂_m‖² of each example (eq-autoencoder-loss).

    With λ_m = 1 / (2 σ_m²) it is −Σ_m log N(x_m; x̂_m, σ_m² I) up to a constant.

    Args:
        x: M targets ``[B, D_m]``.
        x_hat: M reconstructions of the same shapes.
        weights: λ, M numbers ≥ 0.
        present: bool ``[B, M]``, the targets that count; all of them where None.

    Returns:
        ``[B]``.

    Raises:
        ValueError: numbers of modalities or shapes that differ, empty shapes, a negative weight, present of another
            shape, NaN or infinite values in what counts.
    """
    shapes, theirs = [list(each.shape) for each in x], [list(each.shape) for each in x_hat]
    if not shapes or shapes != theirs or {len(s) for s in shapes} != {2} or len({s[0] for s in shapes}) > 1:
        raise ValueError(f"x, x_hat: got {shapes}, {theirs}, expected the same M ≥ 1 shapes [B, D_m] twice")
    if 0 in sum(shapes, []):
        raise ValueError(f"x: got {shapes}, expected at least one row and one column")
    if len(weights) != len(shapes) or not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError(f"weights: got {list(weights)}, expected {len(shapes)} numbers ≥ 0, one for each modality")
    if present is not None:
        _check_present(present, (shapes[0][0], len(shapes)))
    errors = []
    for m, (target, guess) in enumerate(zip(x, x_hat, strict=True)):
        gap = target - guess  # [B, D_m]
        if present is not None:
            gap = gap.masked_fill(~present[:, m, None], 0)
        check_finite(**{f"x[{m}] − x_hat[{m}]": gap})
        errors.append(weights[m] * gap.square().sum(1))
    return torch.stack(errors).sum(0)


def gaussian_kl(mu: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(μ, diag v) ‖ N(0, I)) = ½ Σ_d (μ_d² + v_d − 1 − log v_d) (eq-autoencoder-kl).

    Args:
        mu: μ, ``[B, D]``.
        log_var: log v, ``[B, D]``.

    Returns:
        ``[B]``, in nats, not negative.

    Raises:
        ValueError: shapes that differ, are empty or have not two axes, NaN or infinite values.
    """
    _check_gaussian(mu, log_var)
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)


def reparametrise(mu: Tensor, log_var: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """z = μ + √v ⊙ ε, ε ~ N(0, I): gradients reach μ and v (eq-autoencoder-sample; Kingma and Welling, ICLR 2014).

    Args:
        mu: μ, ``[B, D]``.
        log_var: log v, ``[B, D]``.
        generator: where ε comes from; torch's own where None.

    Returns:
        ``[B, D]``.

    Raises:
        ValueError: as in ``gaussian_kl``.
    """
    _check_gaussian(mu, log_var)
    source = mu.device if generator is None else generator.device
    noise = torch.randn(mu.shape, generator=generator, device=source, dtype=mu.dtype).to(mu.device)
    return mu + (log_var / 2).exp() * noise


def product_of_experts(mu: Tensor, log_var: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """N(0, I) Π_m N(μ_m, v_m)^o_m, renormalised: again a Gaussian (eq-autoencoder-poe; Wu and Goodman, NeurIPS 2018).

    Precisions add up, 1/v = 1 + Σ_m o_m/v_m, and μ = v Σ_m o_m μ_m/v_m. The standard normal is the prior, itself an
    expert; it is all that is left where no modality is present.

    Args:
        mu: μ_m, ``[B, M, D]``.
        log_var: log v_m, ``[B, M, D]``.
        present: o, bool ``[B, M]``.

    Returns:
        μ and log v, each ``[B, D]``.

    Raises:
        ValueError: shapes that do not fit or are empty, present not bool, NaN or infinite values in a present modality.
    """
    _check_experts(present, mu=mu, log_var=log_var)
    absent = ~present[..., None]  # [B, M, 1]
    prior = torch.zeros_like(mu[:, :1])  # [B, 1, D], mean 0 and log precision 0
    means = torch.cat([prior, mu.masked_fill(absent, 0)], 1)  # [B, 1 + M, D]
    log_precisions = torch.cat([prior, (-log_var).masked_fill(absent, -torch.inf)], 1)  # [B, 1 + M, D]
    return (log_precisions.softmax(1) * means).sum(1), -log_precisions.logsumexp(1)


class MultimodalAutoencoder(nn.Module):
    """An encoder and a decoder for each modality, and one latent between them (eq-autoencoder-shared).

    Args:
        dims: D_m, the width of each modality.
        latent: D, the width of z.
        hidden: units of the one hidden layer in each encoder and decoder.

    Raises:
        ValueError: no modality, or a width below 1.
    """

    def __init__(self, dims: Sequence[int], latent: int, hidden: int):
        super().__init__()
        if not dims or min(*dims, latent, hidden) < 1:
            raise ValueError(
                f"dims, latent, hidden: got {list(dims)}, {latent}, {hidden}, expected at least one modality and widths ≥ 1"
            )
        self.dims = tuple(dims)
        self.encoders = nn.ModuleList(_mlp(dim, hidden, latent) for dim in dims)
        self.decoders = nn.ModuleList(_mlp(latent, hidden, dim) for dim in dims)

    def encode_each(self, x: Sequence[Tensor], present: Tensor) -> Tensor:
        """Latents ``[B, M, D]`` of the M inputs ``[B, D_m]``; absent ones are encoded as zeros, whatever they hold.

        Raises:
            ValueError: another number of modalities, other shapes, present not bool ``[B, M]``, NaN or infinite values
                in a present modality.
        """
        shapes = [list(each.shape) for each in x]
        if [shape[1:] for shape in shapes] != [[dim] for dim in self.dims] or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"x: got {shapes}, expected [B, D_m] with the same B and D_m = {list(self.dims)}")
        _check_present(present, (shapes[0][0], len(shapes)))
        codes = []
        for m, (encoder, each) in enumerate(zip(self.encoders, x, strict=True)):
            blanked = each.masked_fill(~present[:, m, None], 0)  # 0 · NaN would be NaN in the gradient
            check_finite(**{f"x[{m}]": blanked})
            codes.append(encoder(blanked))
        return torch.stack(codes, 1)  # [B, M, D]

    def encode(self, x: Sequence[Tensor], present: Tensor) -> Tensor:
        """The shared latent ``[B, D]`` of the present modalities; errors of ``encode_each`` and ``shared_latent``."""
        return shared_latent(self.encode_each(x, present), present)

    def decode(self, z: Tensor) -> list[Tensor]:
        """Every modality from one latent: ``[B, D]`` → M × ``[B, D_m]``."""
        return [decoder(z) for decoder in self.decoders]

    def forward(self, x: Sequence[Tensor], present: Tensor) -> tuple[list[Tensor], Tensor]:
        """(reconstructions of all M modalities, z)."""
        z = self.encode(x, present)
        return self.decode(z), z


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _check_present(present: Tensor, shape: tuple[int, int] | None = None) -> None:
    if present.dtype != torch.bool or present.ndim != 2 or 0 in present.shape:
        raise ValueError(f"present: got {present.dtype} {list(present.shape)}, expected bool [B, M] with B, M ≥ 1")
    if shape is not None and tuple(present.shape) != shape:
        raise ValueError(f"present: got {list(present.shape)}, expected {list(shape)}, a mark for each row and modality")


def _check_some(present: Tensor) -> None:
    if torch.compiler.is_compiling():
        return
    empty = ~present.any(1)
    if empty.any():
        raise ValueError(
            f"present: got no modality in row {empty.nonzero()[0].item()}, expected at least one; leave such rows out"
        )


def _check_experts(present: Tensor, **tensors: Tensor) -> None:
    shapes = [list(each.shape) for each in tensors.values()]
    if len(shapes[0]) != 3 or 0 in shapes[0] or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"{', '.join(tensors)}: got {', '.join(map(str, shapes))}, expected [B, M, D], all ≥ 1")
    _check_present(present, tuple(shapes[0][:2]))
    check_finite(**{name: each.masked_fill(~present[..., None], 0) for name, each in tensors.items()})


def _check_gaussian(mu: Tensor, log_var: Tensor) -> None:
    if mu.ndim != 2 or mu.shape != log_var.shape or 0 in mu.shape:
        raise ValueError(f"mu, log_var: got {list(mu.shape)}, {list(log_var.shape)}, expected two equal [B, D], all ≥ 1")
    check_finite(mu=mu, log_var=log_var)
