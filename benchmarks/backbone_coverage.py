"""Which timm backbones can MoCSE surround? ``python benchmarks/backbone_coverage.py`` tries one of every timm module.

For the smallest model of each module: three experts, forward and backward on real tensors, saved, reloaded, and the
logits compared bit for bit. One line a module; exit code 1 if any failed.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Annotated, Any

import timm
import torch
import torch.nn.functional as F
import tyro
from timm.models import save_for_hf

import mocse_timm
from mocse_timm.checks import BadInput, command, nearest

CLASSES = 3


@dataclass(frozen=True)
class Outcome:
    """One line of the table."""

    module: str
    backbone: str = "?"
    parameters: float = 0.0  # millions, of the backbone alone
    result: str = "ok"
    seconds: float = 0.0


def timm_modules() -> list[str]:
    """Return the modules of models that timm itself brings."""
    names = (name for name in timm.list_models() if timm.model_entrypoint(name).__module__.startswith("timm."))
    return sorted({timm.model_entrypoint(name).__module__.split(".")[-1] for name in names})


def count_parameters(name: str) -> int:
    """Return the number of parameters, counted without memory for them."""
    return sum(parameter.numel() for parameter in timm.create_model(name, device="meta").parameters())


def smallest_input(cfg: dict[str, Any]) -> tuple[int, int, int]:
    """Return the smallest (channels, height, width) the cfg says the model accepts."""
    fixed = cfg.get("fixed_input_size")
    return tuple(cfg["input_size"] if fixed else cfg.get("min_input_size") or cfg["input_size"])


def try_backbone(name: str) -> None:
    """Train, save and reload MoCSE around the backbone ``name``.

    Raises:
        AssertionError: if a result is not what it should be; whatever else the model raises.
    """
    torch.manual_seed(0)
    model: Any = timm.create_model("mocse", backbone=name, num_classes=CLASSES).train()
    images, labels = torch.rand(2, *smallest_input(model.pretrained_cfg)), torch.tensor([0, 2])
    scores = model(images)
    assert scores.shape == (2, CLASSES), f"scores have shape {tuple(scores.shape)}"
    loss = F.cross_entropy(scores, labels)
    assert loss.isfinite(), f"the loss is {loss.item()}"
    loss.backward()
    for index, expert in enumerate(model.experts):
        gradients = [parameter.grad for parameter in expert.parameters() if parameter.grad is not None]
        assert gradients, f"expert {index} has no gradients"
        assert all(gradient.isfinite().all() for gradient in gradients), f"expert {index} has gradients not finite"
        assert any(gradient.any() for gradient in gradients), f"all gradients of expert {index} are 0"
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        save_for_hf(model, folder, safe_serialization=True)
        reloaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        assert torch.equal(reloaded(images), model.eval()(images)), "the reloaded model gives other logits"


def cover(module: str) -> Outcome:
    """Try the smallest model of ``module``."""
    started = time.perf_counter()
    sizes = {name: count_parameters(name) for name in timm.list_models(module=module)}
    backbone = min(sizes, key=lambda name: sizes[name])
    outcome = Outcome(module, backbone, sizes[backbone] / 1e6)
    try:
        try_backbone(backbone)
    except Exception as error:  # whatever a backbone raises is the finding
        outcome = replace(outcome, result=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return replace(outcome, seconds=time.perf_counter() - started)


def cover_apart(module: str) -> Outcome:
    """Run :func:`cover` in a process of its own, which gives all memory back and may crash alone."""
    # MKL rounds by where tensors lie in memory: a plain timm twins_svt_small and its own copy differ by 1e-7. In its
    # strict mode they do not, so that the comparison below can ask for equal bits. Read when the process starts.
    os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["timm", mocse_timm.__name__])  # imported once, not once a module
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(cover, module).result()
    except BrokenProcessPool:
        return Outcome(module, result="the process died: out of memory?")


@command
def main(modules: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()) -> None:
    """Try MoCSE around the smallest model of every timm module.

    Args:
        modules: names of timm modules; all when none is given.
    """
    known = timm_modules()
    for module in modules:
        if module not in known:
            raise BadInput(f"--modules: {module!r} is no module of timm's{nearest(module, known)}")
    chosen = list(modules) or known
    failed = 0
    for number, module in enumerate(chosen, start=1):
        outcome = cover_apart(module)
        failed += outcome.result != "ok"
        name = f"[{number:3}/{len(chosen)}] {module:26} {outcome.backbone:40}"
        print(f"{name} {outcome.parameters:8.2f} M {outcome.seconds:6.1f} s  {outcome.result}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} modules pass")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
