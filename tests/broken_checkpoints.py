"""Folders spoiled at random and opened, in a process of its own: ``python broken_checkpoints.py KIND CASES``.

KIND is ``config`` or ``header``. Prints, as JSON, how many folders were opened and how many refused, and the process's
largest memory before and after in MiB. Any exception but BadInput ends it.
"""

import json
import os
import re
import struct
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mocse_timm.checkpoints.config_values import ARGUMENTS, FACTS, FETCHING
from mocse_timm.checkpoints.open_folder import open_folder
from mocse_timm.checks import BadInput
from mocse_timm.models.saving import save_model

NARROW = {"depths": [1, 1], "channels": [8, 8]}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("mocse_preact18", {"num_classes": 2, "backbone_args": NARROW | {"stem_channels": 8}}),
    ("advmoe_resnet18", {"num_classes": 2, "backbone_args": NARROW}),
    ("cifar_vgg16_bn", {"num_classes": 2, **NARROW}),
    ("ensemble", {"num_classes": 2, "num_experts": 2, "backbone_args": NARROW}),
    ("test_resnet", {"num_classes": 2}),
]
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
NUMBERS = st.one_of(
    st.integers(-3, 12), st.sampled_from([64, 10**5, 10**9, 2**63, 2**64, -(2**40), 0.5, 1e-9, 64.0, 1e30, 1.7e308])
)
WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "avg", "/etc/passwd", "../x.pth", "hf-hub:a/b", "https://x.org/y", "cpu", "F64", "F99", "\x1b[2J"]
    ),
    st.sampled_from(
        [
            "mocse",
            "ensemble",
            "advmoe",
            "cifar_preact18",
            "resnet18",
            "vit_tiny_patch16_224",
            "swin_tiny_patch4_window7_224",
        ]
    ),
)
NAMES = st.one_of(
    st.sampled_from(
        sorted([*ARGUMENTS, *FACTS, *FETCHING, "model_args", "dtype", "shape", "data_offsets", "window_size"])
    ),
    st.text(max_size=8),
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
SPLICES = st.sampled_from(
    [
        b"",
        b"NaN",
        b"1e999",
        b"-Infinity",
        b"[" * 3000,
        b'{"a":' * 200,
        b"\xff",
        b"\x00",
        b'"a":1,"a":2,',
        b"9" * 5000,
        b"\\ud800",
    ]
)


def groups_in(value: Any) -> list[Any]:
    """Return every list and group inside ``value``, itself first."""
    if not isinstance(value, dict | list):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(group for each in inner for group in groups_in(each))]


@st.composite
def spoiled(draw: st.DrawFn, good: Any, mostly: str = "") -> bytes:
    """Draw JSON that is ``good``, but for nothing, some values, or some bytes; or another value, or no JSON at all.

    Most of the values are in the group ``mostly``, where there is one.
    """
    how = draw(st.sampled_from(["values", "values", "values", "bytes", "other", "noise", "nothing"]))
    if how == "noise":
        return draw(st.binary(max_size=60))
    if how == "nothing":
        return json.dumps(good).encode()
    if how == "other":
        return json.dumps(draw(VALUES)).encode()
    value = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(1, 3)) if how == "values" else 0):
        inside = groups_in(value.get(mostly)) if draw(st.integers(0, 3)) else []
        group = draw(st.sampled_from(inside or groups_in(value)))
        places = list(group) if isinstance(group, dict) else list(range(len(group)))
        if places and draw(st.booleans()):
            place = draw(st.sampled_from(places))
            if draw(st.integers(0, 3)):
                group[place] = draw(VALUES)
            else:
                del group[place]
        elif isinstance(group, dict):
            group[draw(NAMES)] = draw(VALUES)
        else:
            group.append(draw(VALUES))
    text = json.dumps(value).encode()
    if how == "bytes":
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(SPLICES | st.binary(max_size=4)) + text[start + draw(st.integers(0, 8)) :]
    return text


def headers(folder: Path) -> st.SearchStrategy:
    """Draw a whole safetensors file: a spoiled header, its length told truly or not, and data cut or not."""
    whole = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    few = {name: header[name] for name in sorted(header)[:6]}  # where to change much is as likely as elsewhere

    @st.composite
    def files(draw: st.DrawFn) -> bytes:
        now_and_then = st.integers(0, 7).map(lambda number: number == 5)  # spoiled in all ways, few would open
        text = draw(spoiled(few) if draw(now_and_then) else spoiled(header))
        wrong = st.sampled_from([0, 2**63, 2**64 - 1, 10**8, len(text) + 1])
        told = draw(wrong) if draw(now_and_then) else len(text)
        kept = draw(st.integers(0, len(data))) if draw(now_and_then) else len(data)
        body = bytearray(data[:kept])
        if body and draw(now_and_then):
            place = draw(st.integers(0, len(body) - 1))
            body[place : place + 4] = draw(
                st.sampled_from([b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x01\x02\x03\x04"])
            )
        return struct.pack("<Q", told) + text + bytes(body)

    return files()


def peak_mib() -> float:
    """Return this process's largest memory so far in MiB.

    Linux counts in getrusage's ru_maxrss what the process was before exec, a copy of a test worker of any size.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0]) / 1024


def main(kind: str, cases: int) -> None:
    warnings.simplefilter("ignore")  # timm's, against arguments nobody would give
    torch.set_num_threads(1)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root) / str(index) for index in range(len(MODELS))]
        for folder, (name, options) in zip(folders, MODELS, strict=True):
            folder.mkdir()
            save_model(timm.create_model(name, **options), folder)
            open_folder(folder)
        before = peak_mib()
        file = "config.json" if kind == "config" else "model.safetensors"
        drawn = [
            spoiled(json.loads((f / file).read_bytes()), "model_args") if kind == "config" else headers(f)
            for f in folders
        ]
        target = Path(root) / "target"
        target.mkdir()

        def open_one(which: int, content: bytes) -> None:
            for name in ("config.json", "model.safetensors"):
                link = target / name
                link.unlink(missing_ok=True)
                if name == file:
                    link.write_bytes(content)
                else:
                    os.link(folders[which] / name, link)
            try:
                open_folder(target)
                found["opened"] += 1
            except BadInput as error:
                found["refused"] += 1
                assert "\n" not in str(error) and len(str(error)) < 2000, str(error)[:3000]
                cause = error.__cause__  # memory that was asked for and not there is no way to refuse
                assert not (isinstance(cause, RuntimeError) and "DefaultCPUAllocator" in str(cause)), error

        pairs = st.integers(0, len(folders) - 1).flatmap(lambda which: st.tuples(st.just(which), drawn[which]))
        options = settings(
            max_examples=cases, deadline=None, database=None, derandomize=True, suppress_health_check=SLOW
        )
        options(given(pairs)(lambda pair: open_one(*pair)))()
    after = peak_mib()
    print(json.dumps({**found, "mib_before": round(before), "mib_after": round(after)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
