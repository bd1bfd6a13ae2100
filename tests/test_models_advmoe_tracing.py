"""AdvMoE under torch's tracers, which follow the masked form; each against the eager, sorted one."""

from pathlib import Path
from typing import Any, cast

import onnxruntime
import pytest
import timm
import torch
from routers import bright_and_dark, spread
from torch import fx

import mocse_timm.models  # noqa: F401  (registers the models)

IMAGES = bright_and_dark(6)


def build(**arguments: Any) -> Any:
    torch.manual_seed(0)
    arguments = {"width": 0.125, "num_experts": 3} | arguments
    model = spread(timm.create_model("advmoe_resnet18", **arguments)).eval()
    model.router.train()  # gradients for it
    return model


def test_compiled_without_a_graph_break() -> None:
    model = build()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


def test_compiled_training_has_the_same_gradients() -> None:
    results = []
    for compiling in (False, True):
        model = build().train()
        call = torch.compile(model, backend="aot_eager", fullgraph=True) if compiling else model
        call(IMAGES).logsumexp(dim=1).sum().backward()
        results.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-5)


def test_exported_for_any_batch() -> None:
    model = build()
    program = torch.export.export(model, (IMAGES,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},))
    for images in (IMAGES, IMAGES[:3]):
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch 2.6's ONNX exporter fails on both networks")
@pytest.mark.parametrize("name", ["advmoe_resnet18", "mocse_preact18"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the exporter's own code
def test_exported_to_onnx_for_any_batch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = build() if name.startswith("advmoe") else timm.create_model(name, num_classes=3, expert_width=0.125)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=1024)},)
    file = tmp_path / "model.onnx"
    torch.onnx.export(model.eval(), (IMAGES,), str(file), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for images in (IMAGES, IMAGES[:3], IMAGES[:1]):
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.as_tensor(logits), model(images).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_traced_by_torchscript() -> None:
    model = build().eval()  # gradients for the router would be traced or not, by whether they are asked for
    traced = cast(Any, torch.jit.trace(model, IMAGES))
    other = IMAGES.flip(0)
    torch.testing.assert_close(traced(other), model(other), rtol=1e-4, atol=1e-5)


def test_symbolically_traced_with_gradients_for_the_router() -> None:
    model = build()
    traced = cast(Any, fx.symbolic_trace(model))
    torch.testing.assert_close(traced(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    traced(IMAGES).sum().backward()
    assert model.router.slope.grad.abs().max() > 0


def test_built_and_run_on_the_meta_device() -> None:
    model: Any = timm.create_model("advmoe_resnet18", width=0.125, device="meta")
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
