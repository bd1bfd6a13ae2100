"""Which timm backbones can hold experts? ``python benchmarks/backbone_coverage.py`` tries one of every timm module.

For the smallest model of each module, inside ``mocse`` with three experts and inside ``advmoe`` with two a layer:
forward and backward on real tensors, saved, reloaded, and the logits compared bit for bit. In ``advmoe`` two images on
two paths must also get the logits that each gets alone. One line a module; exit code 1 if any failed.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import timm
import torch
import torch.nn.functional as F
import tyro
from timm.models import save_for_hf

import mocse_timm
from mocse_timm.checks import BadInput, command, nearest

CLASSES = 3
TOLERANCE = 1e-3  # of logits, between a batch of two and one image after the other


@dataclass(frozen=True)
class Outcome:
    """One line of the table."""

    module: str
    backbone: str = "?"
    parameters: float = 0.0  # millions, of the backbone alone
    results: dict[str, str] = field(default_factory=dict)  # "ok", or what went wrong, by the name of our model
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


def expert_parameters(model: Any) -> list[list[torch.nn.Parameter]]:
    """Return the parameters that must learn, by expert for MoCSE and by layer for AdvMoE."""
    if hasattr(model, "experts"):
        return [list(expert.parameters()) for expert in model.experts]
    return [list(model.body.get_submodule(name).parameters()) for name in model.expert_layers]


def wake(model: Any) -> None:
    """Draw parameters that start at zero or nearly so, down to the classifier: behind them no layer learns at first."""
    with torch.no_grad():
        for parameter in model.body.parameters():
            if parameter.abs().max() < 1e-3:
                largest = 0.3 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.3
                parameter.uniform_(-largest, largest)


def check_paths(model: Any, images: torch.Tensor) -> None:
    """Send two images to two experts of an AdvMoE, together and one by one.

    Raises:
        AssertionError: if an image's logits depend on the other one.
    """
    with torch.no_grad():
        model.router.forward = lambda _: torch.eye(2)
        together = model(images)
        alone = []
        for index in range(2):
            model.router.forward = lambda _, index=index: torch.eye(2)[index : index + 1]
            alone.append(model(images[index : index + 1]))
        del model.router.forward
    difference = (together - torch.cat(alone)).abs().max() / together.abs().max()
    assert difference < TOLERANCE, f"an image's logits depend on the rest of the batch, by {difference:.2g}"


def try_backbone(name: str, kind: str) -> None:
    """Train, save and reload a model of ours, ``kind``, around the backbone ``name``.

    Raises:
        AssertionError: if a result is not what it should be; whatever else the model raises.
    """
    torch.manual_seed(0)
    model: Any = timm.create_model(kind, backbone=name, num_classes=CLASSES).train()
    if kind == "advmoe":
        wake(model)
    images, labels = torch.rand(2, *smallest_input(model.pretrained_cfg)), torch.tensor([0, 2])
    scores = model(images)
    assert scores.shape == (2, CLASSES), f"scores have shape {tuple(scores.shape)}"
    loss = F.cross_entropy(scores, labels)
    assert loss.isfinite(), f"the loss is {loss.item()}"
    loss.backward()
    learning = 0
    for index, parameters in enumerate(expert_parameters(model)):
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        assert gradients, f"expert {index} has no gradients"
        assert all(gradient.isfinite().all() for gradient in gradients), f"expert {index} has gradients not finite"
        learning += any(gradient.any() for gradient in gradients)
    idle = len(expert_parameters(model)) - learning
    assert idle == 0, f"all gradients of {idle} experts or expert layers are 0"
    if kind == "advmoe":
        check_paths(model.eval(), images)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        save_for_hf(model, folder, safe_serialization=True)
        reloaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        assert torch.equal(reloaded(images), model.eval()(images)), "the reloaded model gives other logits"


def cover(module: str, models: Sequence[str]) -> Outcome:
    """Try the smallest model of ``module`` inside each of our models."""
    started = time.perf_counter()
    sizes = {name: count_parameters(name) for name in timm.list_models(module=module)}
    backbone = min(sizes, key=lambda name: sizes[name])
    results = {}
    for kind in models:
        try:
            try_backbone(backbone, kind)
            results[kind] = "ok"
        except Exception as error:  # whatever a backbone raises is the finding
            results[kind] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Outcome(module, backbone, sizes[backbone] / 1e6, results, time.perf_counter() - started)


def cover_apart(module: str, models: Sequence[str]) -> Outcome:
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
            return pool.submit(cover, module, models).result()
    except BrokenProcessPool:
        return Outcome(module, results=dict.fromkeys(models, "the process died: out of memory?"))


@command
def main(
    modules: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = (),
    models: tuple[Literal["mocse", "advmoe"], ...] = ("mocse", "advmoe"),
) -> None:
    """Try our models around the smallest model of every timm module.

    Args:
        modules: names of timm modules; all when none is given.
        models: which of ours to try.
    """
    known = timm_modules()
    for module in modules:
        if module not in known:
            raise BadInput(f"--modules: {module!r} is no module of timm's{nearest(module, known)}")
    chosen = list(modules) or known
    passed: dict[str, int] = dict.fromkeys(models, 0)
    for number, module in enumerate(chosen, start=1):
        outcome = cover_apart(module, models)
        for kind, result in outcome.results.items():
            passed[kind] += result == "ok"
        results = "   ".join(f"{kind}: {result}" for kind, result in outcome.results.items())
        name = f"[{number:3}/{len(chosen)}] {module:26} {outcome.backbone:40}"
        print(f"{name} {outcome.parameters:8.2f} M {outcome.seconds:6.1f} s  {results}", flush=True)
    for kind, count in passed.items():
        print(f"{kind}: {count} of {len(chosen)} modules pass")
    if min(passed.values()) < len(chosen):
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
