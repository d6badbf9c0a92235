"""Search for a prompt as for a sequence of discrete actions: policy gradient, random search, coordinate search.

Chapter: chapters/prompts/search.ipynb (R18). The searches see nothing but the rewards of the prompts that they ask for,
and a ``Ledger`` counts what they asked. Actions are int64 ``[M, L]``: M prompts, one piece for each of L slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from src.runtime import check_finite


def uniform_logits(sizes: Sequence[int]) -> Tensor:
    """θ ``[L, A]`` float64 of the uniform policy: 0 for the pieces of a slot, −∞ behind them when it has fewer than A."""
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes: got {list(sizes)}, expected the number of pieces of each slot, at least one.")
    taken = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    return torch.zeros(taken.shape, dtype=torch.float64).masked_fill(~taken, -torch.inf)


def log_prob(theta: Tensor, actions: Tensor) -> Tensor:
    """log π_θ(a) = Σ_l log softmax(θ_l)[a_l], ``[M]`` (eq-search-policy).

    Args:
        theta: ``[L, A]``, −∞ for a piece that the slot does not have.
        actions: int64 ``[M, L]``.

    Raises:
        ValueError: other shapes, actions outside 0 … A − 1.
    """
    _check(theta, actions)
    return theta.log_softmax(-1).expand(len(actions), -1, -1).gather(-1, actions[..., None])[..., 0].sum(-1)  # [M]


def sample(theta: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Actions ``[count, L]`` drawn from π_θ."""
    return torch.multinomial(theta.softmax(-1), count, replacement=True, generator=generator).T.contiguous()


def entropy(theta: Tensor) -> Tensor:
    """H(π_θ) in nats, a scalar: the sum of the slots' entropies (eq-search-entropy)."""
    log_p = theta.log_softmax(-1)
    return -(log_p.exp() * log_p.masked_fill(theta == -torch.inf, 0)).sum()


def leave_one_out(rewards: Tensor) -> Tensor:
    """Advantages ``[M]``: each reward minus the mean of the M − 1 others, a baseline that does not know it (eq-search-loo)."""
    if rewards.ndim != 1 or len(rewards) < 2:
        raise ValueError(f"rewards: got {list(rewards.shape)}, expected [M] with M ≥ 2.")
    return (rewards - rewards.mean()) * (len(rewards) / (len(rewards) - 1))


def policy_gradient(theta: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
    """The estimate of ∇_θ E[R], ``[L, A]``: the mean of advantage · (onehot(a_l) − softmax(θ_l)) (eq-search-reinforce).

    Args:
        theta: ``[L, A]``.
        actions: drawn from π_θ, ``[M, L]``.
        advantages: rewards minus a baseline, ``[M]``.

    Raises:
        ValueError: other shapes, actions outside 0 … A − 1, advantages that are not finite.
    """
    _check(theta, actions)
    if advantages.shape != actions.shape[:1]:
        raise ValueError(f"advantages: got {list(advantages.shape)}, expected [{len(actions)}], one for each row of actions.")
    check_finite(advantages=advantages)
    taken = torch.nn.functional.one_hot(actions, theta.shape[-1]).to(theta.dtype)  # [M, L, A]
    score = taken - theta.softmax(-1)  # [M, L, A]
    return torch.einsum("m,mla->la", advantages.to(theta.dtype), score) / len(actions)


def _check(theta: Tensor, actions: Tensor) -> None:
    if theta.ndim != 2 or actions.ndim != 2 or actions.shape[1] != len(theta) or not len(actions):
        raise ValueError(f"theta, actions: got {list(theta.shape)}, {list(actions.shape)}, expected [L, A], [M, L] with M ≥ 1.")
    if not torch.compiler.is_compiling() and not 0 <= actions.min() <= actions.max() < theta.shape[1]:
        raise ValueError(f"actions: got {actions.min()} … {actions.max()}, expected 0 … {theta.shape[1] - 1}.")


class Ledger:
    """Rewards on request, and the account of them: a call is a prompt whose reward was not known yet.

    A search may ask for more than is left, as it asks in batches; what comes after the budget does not count.

    Args:
        reward: from actions ``[M, L]`` to rewards ``[M]``.
        budget: calls that count.
        cached: False when the reward of a prompt is another each time (drawn sentences), so that each request is a call.
    """

    def __init__(self, reward: Callable[[Tensor], Tensor], budget: int, *, cached: bool = True) -> None:
        if budget < 1:
            raise ValueError(f"budget must be at least 1, got {budget}.")
        self.reward, self.budget, self.cached = reward, budget, cached
        self.asked: list[tuple[int, ...]] = []
        self.paid: list[float] = []
        self._known: dict[tuple[int, ...], float] = {}

    def __call__(self, actions: Tensor) -> Tensor:
        """Rewards ``[M]`` in float64."""
        keys = [tuple(row) for row in actions.tolist()]
        new = [key for key in dict.fromkeys(keys) if key not in self._known] if self.cached else keys
        values = self.reward(torch.tensor(new)).tolist() if new else []
        self.asked += new
        self.paid += values
        if not self.cached:
            return torch.tensor(values, dtype=torch.float64)
        self._known.update(zip(new, values, strict=True))
        return torch.tensor([self._known[key] for key in keys], dtype=torch.float64)

    @property
    def left(self) -> int:
        """Calls that may still be made."""
        return max(0, self.budget - len(self.paid))

    def curve(self) -> Tensor:
        """The best reward after 1, 2, … calls, ``[budget]``; what was not spent does not make it better."""
        best = torch.tensor(self.paid[: self.budget], dtype=torch.float64).cummax(0).values
        return torch.cat([best, best[-1:].expand(self.left)])

    def top(self, count: int) -> Tensor:
        """The prompts with the best rewards seen, int64 ``[count, L]`` or fewer, the best first, each once."""
        order = torch.tensor(self.paid[: self.budget], dtype=torch.float64).argsort(descending=True, stable=True).tolist()
        return torch.tensor(list(dict.fromkeys(self.asked[place] for place in order))[:count])


def random_search(ledger: Ledger, sizes: Sequence[int], generator: torch.Generator, *, batch: int = 16) -> None:
    """Ask for prompts drawn uniformly until the budget is spent; one drawn twice is free."""
    theta = uniform_logits(sizes)
    while ledger.left:
        ledger(sample(theta, batch, generator))


def coordinate_search(ledger: Ledger, sizes: Sequence[int], generator: torch.Generator) -> None:
    """Slot by slot try all pieces and keep the best; when no slot gets better, begin anew at another random prompt."""
    while ledger.left:
        actions, best = sample(uniform_logits(sizes), 1, generator)[0], -torch.inf
        slots, settled = torch.randperm(len(sizes), generator=generator).tolist(), 0
        while settled < len(sizes) and ledger.left:
            slot = slots[0]
            tried = actions.repeat(sizes[slot], 1)  # [A_l, L]
            tried[:, slot] = torch.arange(sizes[slot])
            value, place = ledger(tried).max(0)
            settled = settled + 1 if value <= best else 1
            actions, best = (actions, best) if value <= best else (tried[place], value)
            slots = slots[1:] + slots[:1]


def reinforce(ledger: Ledger, sizes: Sequence[int], generator: torch.Generator, *, batch: int = 16, lr: float = 0.2,
              bonus: float = 0.0, steps: int = 1000) -> tuple[Tensor, Tensor]:
    """Climb E[R] + bonus · H by Adam with ``policy_gradient`` and the baseline of ``leave_one_out``.

    Stops when the budget is spent, or after so many steps: a policy that always draws the same prompt asks for nothing new.

    Returns:
        θ ``[L, A]`` and, for each step, (calls before it, mean reward, entropy), float64 ``[steps, 3]``.
    """
    theta = uniform_logits(sizes).requires_grad_()
    optimiser = torch.optim.Adam([theta], lr, maximize=True)
    told = []
    while ledger.left and len(told) < steps:
        calls, now = len(ledger.paid), entropy(theta)
        actions = sample(theta.detach(), batch, generator)
        rewards = ledger(actions)
        theta.grad = policy_gradient(theta.detach(), actions, leave_one_out(rewards))
        if bonus:
            theta.grad += bonus * torch.autograd.grad(now, theta)[0]
        optimiser.step()
        told.append((calls, rewards.mean().item(), now.item()))
    return theta.detach(), torch.tensor(told, dtype=torch.float64)
