"""Attacks on anything: images within the budget and in [0, 1], or one sentence; never NaN, never torch's own words."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from answers import answer_or_sentence, drawn, odd_numbers, one_odd, some
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mocse_timm.attacks import autoattack, pgd_l2, pgd_linf, router_attack, trades_attack
from mocse_timm.checks import BadInput

SHAPES = [(2, 3, 4, 4), (1, 1, 2, 5), (3, 7), (0, 3, 4, 4), (2, 3, 0, 0), (2, 0, 4, 4), (5,), (), (1, 1)]
WRONGS = [None, None, None, "nan", "inf", "bytes", "halves", "doubles", "above", "below", "numpy"]
LABELS = [None, None, None, "float", "short", "too large", "negative", "ignored", "matrix", "int32", "list"]
MODELS = [None, None, None, "nan", "flat", "too few", "constant", "int"]


class Toy(nn.Module):
    """A linear model of 5 classes, with a router of 2 experts; ``fault`` says what is wrong with it."""

    def __init__(self, fault: str | None) -> None:
        super().__init__()
        self.fault = fault

    def _linear(self, x: Tensor, classes: int) -> Tensor:
        generator = torch.Generator().manual_seed(classes)
        flat = x.flatten(1)
        logits = flat @ torch.randn(flat.shape[1], classes, generator=generator).to(x.dtype)
        if self.fault == "nan":
            return logits * math.nan
        if self.fault == "flat":
            return logits.flatten()
        if self.fault == "too few":
            return logits[:-1]
        if self.fault == "constant":
            return logits.detach()
        return logits.round().long() if self.fault == "int" else logits

    def forward(self, x: Tensor) -> Tensor:
        return self._linear(x, 5)

    def route(self, x: Tensor) -> Tensor:
        return self._linear(x, 2)


def images_of(shape: tuple[int, ...], wrong: str | None) -> Any:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    if wrong == "bytes":
        return (images * 255).to(torch.uint8)
    if wrong in ("halves", "doubles"):
        return images.to(torch.float16 if wrong == "halves" else torch.float64)
    if wrong == "numpy":
        return images.numpy()
    spoiled = {"nan": math.nan, "inf": math.inf, "above": 1.5, "below": -0.1}
    if wrong in spoiled and images.numel():
        images.view(-1)[-1] = spoiled[wrong]
    return images


def labels_of(count: int, wrong: str | None) -> Any:
    labels = torch.arange(count) % 5
    changes: dict[str | None, Any] = {
        "float": labels.float(),
        "short": labels[:-1],
        "too large": labels + 5,
        "negative": labels - 1,
        "ignored": labels * 0 - 100,
        "matrix": labels[:, None],
        "int32": labels.int(),
        "list": labels.tolist(),
    }
    return changes.get(wrong, labels)


numbers = st.fixed_dictionaries(
    {
        "epsilon": st.one_of(drawn(8 / 255, 0.3, 0.1), drawn(8 / 255, 0.3, 0.0), odd_numbers),
        "steps": drawn(1, 1, 2, 3, 2, 2, 2, 0, -1, 2.5),
        "step_size": st.one_of(drawn(0.01, 0.1), drawn(0.01, 0.3), odd_numbers),
    }
)


def check(attacked: Tensor | None, images: Any, epsilon: float, norm: str) -> bool:
    """Whether there was an answer, which has to be a right one."""
    if attacked is None:
        return False
    assert attacked.shape == images.shape and attacked.dtype == images.dtype and not attacked.requires_grad
    assert attacked.isfinite().all() and ((attacked >= 0) & (attacked <= 1)).all()
    change = (attacked - images).double().flatten(1) if attacked.ndim > 1 else attacked
    slack = 1e-2 if images.dtype == torch.float16 else 1e-5
    if change.numel():
        length = change.abs().amax() if norm == "linf" else change.norm(dim=1).amax()
        assert length <= epsilon + slack
    return True


@some(4)
@given(one_odd(SHAPES, WRONGS, LABELS, MODELS), drawn("linf", "l2"), numbers, st.data())
def test_pgd(faults, norm, options, data) -> None:
    shape, wrong, wrong_labels, fault = faults
    images, labels = images_of(shape, wrong), labels_of(shape[0] if shape else 1, wrong_labels)
    more = {"random_start": data.draw(st.booleans()), "restarts": data.draw(drawn(1, 1, 2, 0))}
    attack = partial(pgd_linf if norm == "linf" else pgd_l2, early_stop=data.draw(st.booleans()), **more)
    answered = check(
        answer_or_sentence(lambda: attack(Toy(fault), images, labels, **options)), images, options["epsilon"], norm
    )
    in_budget = 0 <= options["epsilon"] <= 1 and 0 <= options["step_size"] <= 2 and options["steps"] in (1, 2, 3)
    whole = wrong in (None, "doubles") and wrong_labels is None and fault is None and len(shape) > 1
    if in_budget and whole and more["restarts"]:
        assert answered
    moves = len(shape) > 1 and shape[0] > 1 and math.prod(shape) and options["epsilon"] > 0
    if moves and (wrong_labels is not None or fault is not None):
        assert not answered, "an attack that learns nothing must say so"


@some(4)
@given(one_odd(SHAPES, WRONGS, MODELS), drawn("linf", "linf", "l2", "l1"), numbers, st.booleans())
def test_attacks_without_labels(faults, norm, options, on_the_route) -> None:
    shape, wrong, fault = faults
    images, model = images_of(shape, wrong), Toy(fault)
    attack = router_attack if on_the_route else trades_attack
    answered = check(
        answer_or_sentence(lambda: attack(model, images, norm=norm, **options)), images, options["epsilon"], norm
    )
    in_budget = 0 <= options["epsilon"] <= 1 and 0 <= options["step_size"] <= 2 and options["steps"] in (1, 2, 3)
    if in_budget and wrong in (None, "doubles") and fault is None and len(shape) > 1 and norm != "l1":
        assert answered
    if fault is not None and len(shape) > 1 and math.prod(shape) and options["epsilon"] > 0:
        assert not answered, "an attack that learns nothing must say so"


@some(0.5)
@given(drawn(*SHAPES), drawn(*WRONGS[3:]), drawn(*LABELS), odd_numbers, drawn("linf", "l2", "l1"))
def test_autoattack_refuses_as_the_others_do(shape, wrong, wrong_labels, epsilon, norm) -> None:
    images, labels = images_of(shape, wrong), labels_of(shape[0] if shape else 1, wrong_labels)
    if wrong in ("halves", "doubles") and wrong_labels is None and len(shape) > 1:
        epsilon = 0.0  # AutoAttack itself takes minutes
    answer = answer_or_sentence(
        lambda: autoattack(Toy(None), images, labels, epsilon=epsilon if wrong_labels is None else 0.0, norm=norm)
    )
    assert answer is None or torch.equal(answer, images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("early_stop", [None, False, True])
@pytest.mark.parametrize("on_the_route", [False, True])
def test_gradients_that_are_no_numbers_are_not_mistaken_for_robustness(norm, early_stop, on_the_route) -> None:
    """The sign of NaN is 0 in torch: such an attack would not move."""
    images, budget = images_of(SHAPES[0], None), {"epsilon": 0.1, "steps": 2, "step_size": 0.1}
    with pytest.raises(BadInput, match="gradients are NaN or infinite on 2 of 2 images"):
        if early_stop is None:
            (router_attack if on_the_route else trades_attack)(Toy("nan"), images, norm=norm, **budget)
        else:
            attack = pgd_linf if norm == "linf" else pgd_l2
            attack(Toy("nan"), images, labels_of(2, None), early_stop=early_stop, restarts=1 + on_the_route, **budget)
