"""The slot that carries paths to layers: through threads, copies, nested and repeated passes."""

import copy
import pickle
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mocse_timm.checks import BadInput
from mocse_timm.models.expert_layers import ExpertLinear
from mocse_timm.models.routing import Dispatch, RoutingSlot, route_batch


class Network(nn.Module):
    """Two expert layers under activation checkpointing, or not."""

    def __init__(self, checkpointing: bool = False, reentrant: bool = False):
        super().__init__()
        self.slot = RoutingSlot()
        self.first = ExpertLinear(4, 8, num_experts=3, slot=self.slot)
        self.second = ExpertLinear(8, 2, num_experts=3, slot=self.slot)
        self.router = nn.Linear(4, 3)
        self.checkpointing, self.reentrant = checkpointing, reentrant

    def body(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())

    def forward(self, x: Tensor) -> Tensor:
        def run(x: Tensor) -> Tensor:
            return checkpoint(self.body, x, use_reentrant=self.reentrant) if self.checkpointing else self.body(x)

        return route_batch(self.slot, self.router(x), x, run)


def network(**options: bool) -> Network:
    torch.manual_seed(0)
    return Network(**options)


def images(seed: int, count: int = 12) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) * 3


def dispatch(expert: int) -> Dispatch:
    return Dispatch(torch.tensor([expert]), None, tuple(int(e == expert) for e in range(3)))


def test_all_experts_are_in_use_in_these_tests() -> None:
    for seed in range(3):
        assert len(network().router(images(seed)).argmax(dim=1).unique()) == 3


def test_an_empty_slot_is_an_error() -> None:
    model = network()
    with pytest.raises(RuntimeError, match="ran outside its network"):
        model.first(images(0))
    model(images(0))
    with pytest.raises(RuntimeError, match="ran outside its network"):
        model.first(images(0))


def test_blocks_nest_and_an_exception_empties_them() -> None:
    slot, outer, inner = RoutingSlot(), dispatch(0), dispatch(1)
    with slot.filled(outer):
        with pytest.raises(ZeroDivisionError), slot.filled(inner):
            assert slot.read() is inner
            raise ZeroDivisionError
        assert slot.read() is outer
    with pytest.raises(RuntimeError):
        slot.read()


def test_each_thread_has_its_own_paths() -> None:
    """Two threads run the network at the same time, each stopped inside its pass until the other is inside too."""
    model, meeting = network().eval(), threading.Barrier(2, timeout=30)
    expected = [model(images(seed)).detach() for seed in (0, 1)]

    def meet(*_: object) -> None:
        meeting.wait()

    model.first.register_forward_hook(meet)
    found: dict[int, Tensor] = {}

    def run(seed: int) -> None:
        with torch.no_grad():
            found[seed] = model(images(seed))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        torch.testing.assert_close(found[seed], expected[seed])


def test_copies_made_after_a_pass_are_independent() -> None:
    model = network()
    expected = model(images(0))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.slot is twin.first.slot is twin.second.slot
        assert twin.slot is not model.slot
        torch.testing.assert_close(twin(images(0)), expected)


def gradients(model: Network, *batches: Tensor) -> list[Tensor]:
    losses = [model(batch).square().sum() * weight for weight, batch in enumerate(batches, start=1)]
    return list(torch.autograd.grad(sum(losses, torch.zeros(())), list(model.parameters())))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_passes_recompute_with_their_own_paths(reentrant: bool) -> None:
    """Two passes, then one backward pass through both: clean and attacked images of one loss."""
    batches = [images(seed).requires_grad_() for seed in (0, 1)]
    expected = gradients(network(), *batches)
    model = network(checkpointing=True, reentrant=reentrant)
    if reentrant:  # torch's older form cannot be used under autograd.grad
        torch.stack(
            [model(batch).square().sum() * weight for weight, batch in enumerate(batches, start=1)]
        ).sum().backward()
        found = [parameter.grad for parameter in model.parameters()]
    else:
        found = gradients(model, *batches)
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(one, two)
    with pytest.raises(RuntimeError, match="ran outside its network"):  # nothing is left behind
        model.first(images(0))


def test_a_pass_inside_a_pass_keeps_both() -> None:
    """As when a network is attacked while another pass of it waits for its gradients."""
    model, twin = network(checkpointing=True), network()
    results = []
    for net in (model, twin):
        waiting = net(images(0).requires_grad_()).square().sum()
        inner = images(1).requires_grad_()
        (slope,) = torch.autograd.grad(net(inner).square().sum(), inner)
        waiting.backward()
        results.append([slope, *(parameter.grad for parameter in net.parameters())])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)


def test_structures_of_outputs_come_back_in_order() -> None:
    slot, x = RoutingSlot(), images(0)
    scores = network().router(x)
    first, (second, name) = route_batch(slot, scores, x, lambda x: (x, [2 * x, "name"]))
    assert torch.equal(first, x) and torch.equal(second, 2 * x) and name == "name"


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_choose_no_path(broken: float) -> None:
    routed = network()
    with torch.no_grad():
        routed.router.weight[1, 2] = broken
    with pytest.raises(BadInput, match="router's scores are NaN or infinite for 12 of 12 images"):
        routed(images(0))
