"""train.py on any flags, files and options: a training, or one sentence and nothing written."""

import tempfile
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from answers import drawn, some
from command_lines import LETTERS, WORDS, flags_of, run, tree
from hypothesis import example, given
from hypothesis import strategies as st
from images_on_disk import write_folder

from mocse_timm.checks import command
from mocse_timm.flags import parse_flags
from mocse_timm.training import run as training
from mocse_timm.training.config import TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # of timm and torch, on odd optimisers and schedules
SMALL = "--model cifar_preact18 --model-kwargs width=0.0625 --img-size 8 --epochs 1 -b 4 -j 0".split()
STARTED = ("the loss is", "NaN or infinit")  # a training may diverge, which nobody can see before
BETTER: dict[str, Any] = {
    "model": ["cifar_resnet18", "cifar_vgg16_bn", "advmoe_resnet18", "resnet1", "mocse"],
    "recipe": ["pgd", "trades", "advmoe"],
    "opt": ["adamw", "momentum", "lion", "sdg"],
    "sched": ["step", "none", "plateau", "cosin"],
    "amp_dtype": ["float16", "bfloat16"],
    "aa": ["rand-m9-mstd0.5", "original", "augmix-m3-w3"],
    "resume": ["auto", "/nowhere"],
    "dataset": ["digits", "cifar10", "folder:", "folder:/dev", "torch/x"],
    "opt_kwargs": ["betas=(0.9,0.95)", "betas=1", "eps=0"],
}
# compiled code takes minutes, trackers and downloads a network; the output is where this test looks
LEFT_OUT = ("torchcompile", "output", "dataset_download", "model_kwargs", "log_with", "pretrained", "data_dir")


@cache
def images() -> Path:
    root = Path(tempfile.mkdtemp())
    write_folder(root)
    return root


def train(*flags: str) -> int:
    with tempfile.TemporaryDirectory() as base, chdir(base):
        outcome = run(training.main, ["--dataset", f"folder:{images()}", *SMALL, "--output", f"{base}/out", *flags])
        if outcome.code == 2 and not any(words in line for line in outcome.errors for words in STARTED):
            assert not tree(Path(base)), (flags, outcome.errors)
    return outcome.code


@some(0.6)
@given(flags_of(TrainConfig, leave_out=LEFT_OUT, better=BETTER))
@example(["--epsilon", "1/0"])
@example(["--dataset", "folder:~nobody/x"])
@example(["--output", "a" * 300])
def test_flags(flags: list[str]) -> None:
    train(*flags)


options = drawn(
    *("width", "num_experts", "expert_width", "shared_stages", "aggregation", "backbone", "backbone_args", "ratio"),
    *("backbone_pretrained", "num_classes", "in_chans", "img_size", "drop_rate", "global_pool", "pretrained_cfg"),
    *("features_only", "norm_layer", "device", "dtype", "cache_dir", "pretrained", "scriptable", "checkpoint_path"),
    *("", "x", "no such", "depth"),
)
values = st.one_of(
    drawn("0", "-1", "1", "0.125", "1e30", "nan", "1e999", "None", "True", "[]", "{}", "()", "[0.1]", "'a'", "abc"),
    drawn("cifar_preact18", "mocse", "avg", "local-dir:/nowhere", "{[1]:2}", "[" * 200, "{'a':1}", "[0.1,0.1,0.1,0.1]"),
    drawn("1" * 30, "log_odds", "cuda:99", "meta", "float16", "/dev/null"),
    st.text(LETTERS, max_size=6),
)
MODELS = {
    "cifar_preact18": ["width=0.0625"],
    "mocse_preact18": ["expert_width=0.0625"],
    "mocse_preact18_shared": ["width=0.0625", "expert_width=0.0625"],
    "advmoe_resnet18": ["width=0.125"],
    "mocse": ["backbone=cifar_preact18", "backbone_args={'width':0.0625}"],
    "advmoe": ["backbone=cifar_resnet18", "backbone_args={'width':0.125}"],
}


@some(0.6)
@given(drawn(*MODELS), st.lists(st.tuples(options, values), max_size=3))
@example("cifar_preact18", [("global_pool", "0")])
@example("advmoe_resnet18", [("num_experts", "1" * 30)])
def test_model_options(model: str, chosen: list[tuple[str, str]]) -> None:
    """Built and not trained; sizes are small or beyond all memory: what lies between is a machine's to refuse."""
    with patch.object(training, "_train_epochs", return_value=None):
        train("--model", model, "--model-kwargs", *MODELS[model], *(f"{key}={value}" for key, value in chosen))


fields = st.sampled_from([field for field in TrainConfig.__dataclass_fields__ if field not in LEFT_OUT])
scalars = st.one_of(drawn(*WORDS), drawn(None, True, False, 0, -1, 1, 2.5, float("nan")), st.text(LETTERS, max_size=8))
contents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=6
)
files = st.one_of(
    st.dictionaries(st.one_of(fields, fields, scalars), contents, max_size=4).map(
        lambda values: yaml.safe_dump(values, allow_unicode=True).encode()
    ),
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    drawn(
        *(b"", b"- 1", b"epochs: 2024-13-45", b"[" * 3000, b"a: &a [*a]", b"? [1]\n: 2", b"lr: 0x", b"9" * 5000),
        *(b"!!binary x: 1", b"epochs: 1\nepochs: x", b"model_kwargs: {a: {b: 1}}", b"\xff\xfe"),
        b"seed: !!python/name:os.system",
    ),
)


@some()
@given(files)
def test_yaml_files(content: bytes) -> None:
    """Read only: what flags may say is the other tests' matter."""
    with tempfile.TemporaryDirectory() as base:
        file = Path(base) / "Einstellungen ü.yaml"
        file.write_bytes(content)

        def read(arguments: Any) -> int:
            return command(lambda: parse_flags(TrainConfig, arguments, description="drawn"))()

        run(read, ["--config", str(file)])
