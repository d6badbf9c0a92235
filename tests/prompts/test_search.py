"""The policy gradient against a bandit whose every prompt is enumerated, and the searches against what they may see."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical

from src.prompts.search import (
    Ledger,
    coordinate_search,
    entropy,
    leave_one_out,
    log_prob,
    policy_gradient,
    random_search,
    reinforce,
    sample,
    uniform_logits,
)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3)
SEEDS = st.integers(0, 99)
SIZES = (3, 2, 4)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def bandit(sizes, seed=0):
    """θ, all actions ``[Π A_l, L]`` and their rewards, in float64."""
    theta = uniform_logits(sizes) + torch.randn(len(sizes), max(sizes), generator=seeded(seed), dtype=torch.float64)
    every = torch.tensor(list(itertools.product(*map(range, sizes))))
    return theta, every, torch.randn(len(every), generator=seeded(seed + 1), dtype=torch.float64)


def lookup(sizes, rewards):
    table = rewards.view(*sizes)
    return lambda actions: table[tuple(actions.T)]


def exact_gradient(theta, every, rewards):
    """∇ Σ_a π(a) R(a) by autograd."""
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad((log_prob(theta, every).exp() * rewards).sum(), theta)[0]


@settings(max_examples=40, deadline=None)
@given(SHAPES, SEEDS)
def test_log_prob_is_torchs(sizes, seed):
    theta, every, _ = bandit(sizes, seed)
    expected = sum(Categorical(logits=row).log_prob(every[:, place]) for place, row in enumerate(theta))
    torch.testing.assert_close(log_prob(theta, every), expected)
    torch.testing.assert_close(log_prob(theta, every).exp().sum(), theta.new_ones(()))
    torch.testing.assert_close(entropy(theta), -(expected.exp() * expected).sum())


@settings(max_examples=40, deadline=None)
@given(SHAPES, SEEDS, st.floats(-3, 3))
def test_expected_estimate_is_the_exact_gradient(sizes, seed, b):
    """Σ_a π(a) times the estimate from the one sample a is ∇E[R], with every baseline."""
    theta, every, rewards = bandit(sizes, seed)
    p = log_prob(theta, every).exp()
    single = [policy_gradient(theta, row[None], (reward - b)[None]) for row, reward in zip(every, rewards, strict=True)]
    expected = exact_gradient(theta, every, rewards)
    torch.testing.assert_close(torch.einsum("a,alk->lk", p, torch.stack(single)), expected, atol=1e-12, rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(SHAPES, SEEDS)
def test_estimate_is_the_gradient_of_the_surrogate(sizes, seed):
    theta, every, rewards = bandit(sizes, seed)
    own = theta.clone().requires_grad_()
    surrogate = (rewards * log_prob(own, every)).mean()
    torch.testing.assert_close(policy_gradient(theta, every, rewards), torch.autograd.grad(surrogate, own)[0])


def test_closed_form_of_one_slot():
    """∂E[R] / ∂θ_k = π_k (R_k − E[R])."""
    theta, every, rewards = bandit((5,))
    p = theta[0].softmax(0)
    torch.testing.assert_close(exact_gradient(theta, every, rewards)[0], p * (rewards - p @ rewards))


def pairs_of(theta, every, rewards, advantages):
    """The mean estimate over all pairs of samples, each weighted by its probability."""
    p, total = log_prob(theta, every).exp(), torch.zeros_like(theta)
    for i, j in itertools.product(range(len(every)), repeat=2):
        total += p[i] * p[j] * policy_gradient(theta, every[[i, j]], advantages(rewards[[i, j]]))
    return total


def test_baseline_of_the_others_is_unbiased_and_that_of_all_is_not():
    theta, every, rewards = bandit((3, 2))
    expected = exact_gradient(theta, every, rewards)
    torch.testing.assert_close(pairs_of(theta, every, rewards, leave_one_out), expected)
    torch.testing.assert_close(pairs_of(theta, every, rewards, lambda r: r - r.mean()), expected / 2)


@pytest.mark.parametrize("baseline", ["none", "others"])
def test_mean_of_many_samples_is_within_its_standard_error(baseline):
    theta, every, rewards = bandit(SIZES)
    actions, reward = sample(theta, 40_000, seeded(0)), lookup(SIZES, rewards)
    values = reward(actions).view(-1, 4)
    advantages = values if baseline == "none" else torch.stack([leave_one_out(row) for row in values])
    estimates = torch.stack([policy_gradient(theta, a, v) for a, v in zip(actions.view(-1, 4, 3), advantages, strict=True)])
    error = (estimates.mean(0) - exact_gradient(theta, every, rewards)) / (estimates.std(0) / 100).clamp_min(1e-12)
    assert error.abs().max() < 4 and error.square().sum() < 30


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=2, max_size=6))
def test_leave_one_out_by_hand(values):
    r = torch.tensor(values, dtype=torch.float64)
    expected = [r[m] - torch.cat([r[:m], r[m + 1:]]).mean() for m in range(len(r))]
    torch.testing.assert_close(leave_one_out(r), torch.stack(expected), atol=1e-12, rtol=1e-12)


def test_samples_follow_the_policy_and_stay_in_their_slots():
    theta = uniform_logits(SIZES)
    theta[2, 3] = 2
    actions = sample(theta, 30_000, seeded(0))
    assert actions.shape == (30_000, 3) and (actions.max(0).values < torch.tensor(SIZES)).all()
    shares = torch.stack([actions[:, slot].bincount(minlength=4) for slot in range(3)]) / 30_000
    torch.testing.assert_close(shares.double(), theta.softmax(-1), atol=0.012, rtol=0)
    assert not torch.equal(actions[:, 0] % 2, actions[:, 1])
    assert torch.equal(sample(theta, 5, seeded(3)), sample(theta, 5, seeded(3)))


def test_gradients():
    theta, every, _ = bandit((3, 3))
    theta = theta.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: (log_prob(t, every), entropy(t)), theta)
    short = uniform_logits((2, 3)).requires_grad_()
    assert torch.autograd.grad(entropy(short), short)[0].isfinite().all()


@pytest.mark.parametrize("device", DEVICES)
def test_compiles_and_runs_on_every_device(device):
    theta, every, rewards = (one.to(device) for one in bandit((3, 3)))

    def everything(theta, rewards):
        return log_prob(theta, every), entropy(theta), policy_gradient(theta, every, leave_one_out(rewards))

    expected = [value.cpu() for value in everything(theta.cpu(), rewards.cpu())] if device == "cpu" else None
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")(theta, rewards)
    for have, want in zip(compiled, expected or everything(theta, rewards), strict=True):
        torch.testing.assert_close(have, want)


def test_ledger_charges_each_prompt_once():
    asked = []

    def reward(actions):
        asked.extend(actions.tolist())
        return actions.sum(1).double()

    ledger = Ledger(reward, 3)
    assert ledger(torch.tensor([[0, 1], [0, 1], [2, 2]])).tolist() == [1, 1, 4] and ledger.left == 1
    assert ledger(torch.tensor([[2, 2], [0, 1]])).tolist() == [4, 1] and ledger.left == 1
    ledger(torch.tensor([[1, 1], [9, 9]]))
    assert asked == [[0, 1], [2, 2], [1, 1], [9, 9]] and ledger.left == 0
    assert ledger.curve().tolist() == [1, 4, 4]
    assert ledger.top(2).tolist() == [[2, 2], [1, 1]]


def test_ledger_without_memory_charges_every_request():
    noise = iter(range(9))
    ledger = Ledger(lambda actions: torch.tensor([float(next(noise)) for _ in actions]), 5, cached=False)
    assert ledger(torch.tensor([[0], [0], [1]])).tolist() == [0, 1, 2]
    assert ledger.left == 2 and ledger.curve().tolist() == [0, 1, 2, 2, 2]
    assert ledger.top(5).tolist() == [[1], [0]]


def every_search():
    return {"random": random_search, "coordinate": coordinate_search, "reinforce": reinforce}


@pytest.mark.parametrize("name", ["random", "coordinate", "reinforce"])
def test_searches_repeat_with_their_seed_and_stay_in_the_space(name):
    _, _, rewards = bandit(SIZES)
    found = []
    for seed in (0, 0, 1):
        ledger = Ledger(lookup(SIZES, rewards), 12)
        every_search()[name](ledger, SIZES, seeded(seed))
        found.append(ledger.asked)
        assert ledger.left == 0 and len(set(ledger.asked)) == len(ledger.asked)
        assert ledger.curve()[-1] == max(ledger.paid[:12])
    assert found[0] == found[1] != found[2]


def test_coordinate_search_solves_what_is_a_sum():
    """A reward that adds up over the slots is solved by one sweep, whatever the start."""
    parts = [torch.randn(size, generator=seeded(size), dtype=torch.float64) for size in (5, 6, 7)]
    for seed in range(5):
        ledger = Ledger(lambda a: sum(part[a[:, slot]] for slot, part in enumerate(parts)), 5 + 6 + 7)
        coordinate_search(ledger, (5, 6, 7), seeded(seed))
        assert ledger.top(1)[0].tolist() == [int(part.argmax()) for part in parts]


def test_coordinate_search_sweeps_until_no_slot_gets_better():
    """Leading ones: each gain opens the next slot, so that one climb of several sweeps ends at the best prompt."""
    for seed in range(5):
        ledger = Ledger(lambda a: a.cumprod(1).sum(1).double(), 12 * 12 + 1)
        coordinate_search(ledger, (2,) * 12, seeded(seed))
        assert ledger.curve()[-1] == 12


def test_reinforce_climbs_and_sharpens():
    parts = [torch.linspace(0, 1, 8, dtype=torch.float64) for _ in range(4)]
    for seed in range(3):
        ledger = Ledger(lambda a: sum(part[a[:, slot]] for slot, part in enumerate(parts)), 1200)
        theta, told = reinforce(ledger, (8,) * 4, seeded(seed), steps=150)
        assert theta.argmax(1).tolist() == [7] * 4 and theta.shape == (4, 8)
        assert told[-1, 1] > 3.5 > 2.5 > told[0, 1] and told[-1, 2] < 1 < 8 < told[0, 2]
        assert told[:, 0].diff().ge(0).all() and told[0, 0] == 0


def test_bonus_keeps_the_entropy():
    ends = []
    for bonus in (0.0, 1.0):
        ledger = Ledger(lambda a: a.sum(1).double(), 10**6)
        ends.append(reinforce(ledger, (4, 4), seeded(0), bonus=bonus, steps=80)[1][-1, 2])
    assert ends[0] < 0.3 < 1 < ends[1]


def test_other_arguments_are_refused():
    theta, every, rewards = bandit(SIZES)
    for sizes in ((), (3, 0)):
        with pytest.raises(ValueError, match="sizes: got"):
            uniform_logits(sizes)
    for actions in (every[:, :2], every[:0], every[0]):
        with pytest.raises(ValueError, match=r"theta, actions: got \[3, 4\], .*expected \[L, A\], \[M, L\] with M ≥ 1"):
            log_prob(theta, actions)
    for actions in (every + 4, every - 4):
        with pytest.raises(ValueError, match=r"actions: got .*expected 0 … 3"):
            policy_gradient(theta, actions, rewards)
    with pytest.raises(ValueError, match=r"advantages: got \[2\], expected \[24\]"):
        policy_gradient(theta, every, rewards[:2])
    with pytest.raises(ValueError, match="advantages: got NaN"):
        policy_gradient(theta, every, rewards * torch.nan)
    for bad in (torch.zeros(1), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="rewards: got"):
            leave_one_out(bad)
    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        Ledger(lambda actions: actions, 0)
