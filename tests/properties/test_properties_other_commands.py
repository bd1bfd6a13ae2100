"""validate.py, the corruptions and the Hub's commands on any words: work done, or one sentence and nothing written."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
from answers import drawn, some
from command_lines import flags_of, run, tree, words
from hypothesis import example, given
from hypothesis import strategies as st
from images_broken import png_of, write_truncated
from images_on_disk import write_folder

import mocse_timm.models  # noqa: F401
from mocse_timm.corruptions.command import main as corrupt
from mocse_timm.corruptions.config import CorruptionsConfig
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.run import main as validate
from mocse_timm.hub.command import main as hub
from mocse_timm.models.saving import save_model

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and matplotlib, on odd numbers
PLACES = ["RUN", "BROKEN", "EMPTY", "IMAGES", "FILE", "NOWHERE", "PICTURE", "HALF", "NOWHERE/deep/er"]


@cache
def originals() -> Path:
    """A trained model's folder, one whose weights are cut off, images, pictures, an empty folder and a text."""
    base = Path(tempfile.mkdtemp()) / "ein Platz ü"
    for name in ("RUN", "BROKEN", "EMPTY"):
        (base / name).mkdir(parents=True)
    for name in ("RUN", "BROKEN"):
        model = timm.create_model("cifar_preact18", width=0.0625, num_classes=2)
        save_model(model, base / name, class_names=("ant", "zebra"))
        (base / name / "config.yaml").write_text(f"dataset: folder:{base}/IMAGES\n")
    write_truncated(base / "BROKEN/model.safetensors")
    write_folder(base / "IMAGES", height=32, width=32)
    shutil.copy(base / "IMAGES/val/ant/0.png", base / "PICTURE")
    shutil.copy(base / "IMAGES/val/ant/0.png", base / "HALF")
    write_truncated(base / "HALF")
    (base / "BOMB").write_bytes(png_of(60_000, 60_000))
    (base / "FILE").write_text("a text\n")
    return base


@contextmanager
def a_place(arguments: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """A copy of :func:`originals`, and ``arguments`` with its names put for RUN, EMPTY and the others."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "Platz"
        shutil.copytree(originals(), base)
        with chdir(base):  # relative names are names there
            yield base, [str(base / word) if word.partition("/")[0] in PLACES else word for word in arguments]


def check(main: Any, arguments: list[str]) -> int:
    with a_place(arguments) as (base, placed):
        before = tree(base)
        outcome = run(main, placed)
        assert outcome.code == 0 or tree(base) == before, (placed, outcome.errors, tree(base) - before)
        return outcome.code


FILES = ["EMPTY/x.json", "EMPTY/x.csv", "EMPTY/x.md", "EMPTY/x.png", "NOWHERE/x.json", "FILE", "EMPTY"]
VALIDATE: dict[str, Any] = {
    "model": PLACES,
    "dataset": ["digits", "folder:", "folder:.", "cifar10"],
    "checkpoint": PLACES,
    "attack": ["pgd1", "pgd2,router", "pgd0", "autoattack"],
    "corruptions": ["fog", "brightness,contrast", "frost", "nois"],
    "severities": ["1", "1,5", "6", "1,1"],
    "corruption_source": ["archive", "generated"],
    "baseline": ["FILE", "RUN"],
    "attack_norm": ["l2"],
    "amp_dtype": ["float16"],
    "device": ["cpu", "cuda:99", "meta", "nonsense"],
    "model_kwargs": ["width=0.0625", "num_classes=3", "x=1"],
    "results_file": FILES,
    "heatmap": FILES,
    "corruption_table": FILES,
    "robustbench_json": FILES,
}


@some(0.6)
@given(
    drawn("RUN", "RUN", "RUN", *PLACES, "cifar_preact18", "hf-hub:nobody/nothing", "local-dir:x"),
    flags_of(ValidateConfig, leave_out=("model", "torchcompile", "dataset_download"), better=VALIDATE),
)
@example("RUN", ["--device", "meta"])
@example("RUN", ["--checkpoint", "a" * 300])
def test_validate(model: str, flags: list[str]) -> None:
    base = ["-j", "0", "--corruption-workers", "0"]
    base += ["--corruption-images", "3"] if "--corruptions" in flags else []  # alone it is refused
    check(validate, [model, *base, *flags])


def test_a_model_is_validated() -> None:
    """What the drawn flags stand beside is good in itself."""
    assert check(validate, ["RUN", "-j", "0"]) == 0


CORRUPT: dict[str, Any] = {
    "dataset": ["digits", "folder:", "torch/x"],
    "corruptions": ["fog", "brightness", "frost", "nois", "fog,contrast"],
    "severities": ["1", "5", "6"],
    "img_size": ["32", "40", "31"],
    "output": ["EMPTY", "FILE", "NOWHERE"],
    "gallery": ["EMPTY/x.png", "EMPTY/x", "FILE"],
    "verify": PLACES,
    "split": ["train"],
}


@some(0.6)
@given(flags_of(CorruptionsConfig, leave_out=("download", "dataset_download", "processes"), better=CORRUPT))
@example(["--output", "~nobody/x"])
@example(["--verify", "a" * 300])
def test_corruptions(flags: list[str]) -> None:
    base = ["--dataset", f"folder:{originals()}/IMAGES", "--corruptions", "brightness", "--severities", "1"]
    check(corrupt, [*base, "--processes", "1", "--output", "OUT", *flags])


names = st.one_of(drawn(*PLACES), drawn(*PLACES), words)
hub_jobs = st.one_of(
    st.tuples(st.just("save"), names, names),
    st.tuples(st.just("card"), names),
    st.tuples(st.just("card"), names, st.just("--repository"), words),
    st.tuples(st.just("push"), names, drawn("user/name", "user", "a/b/c", ""), st.just("--dry-run")),
    st.tuples(st.just("check"), names),
    st.tuples(st.just("predict"), names, names),
    st.tuples(st.just("predict"), st.just("RUN"), names, st.just("-k"), words),
    st.tuples(st.just("zoo"), names),
    st.lists(st.one_of(words, drawn("save", "card", "check", "zoo", "--help")), max_size=3).filter(
        lambda arguments: "list" not in arguments
    ),
)


@some(2)
@given(hub_jobs)
@example(("save", "BROKEN", "NOWHERE/deep/er"))
@example(("zoo", "a" * 300))
def test_hub(arguments: tuple[str, ...]) -> None:
    check(hub, list(arguments))
