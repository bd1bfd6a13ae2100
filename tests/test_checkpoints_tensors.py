"""A safetensors file whose header lies is refused with the tensor's name, and its numbers are looked at."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from mocse_timm.checkpoints.header import DTYPES, Stored, read_header
from mocse_timm.checkpoints.tensors import (
    check_finite,
    check_safetensors,
    is_pickle,
    load_weights,
    sha256,
    weights_in_folder,
)
from mocse_timm.checks import BadInput

ENTRIES: dict[str, Any] = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]},
    "c": {"dtype": "F16", "shape": [0, 5], "data_offsets": [32, 32]},
}


def write(file: Path, header: Any, data: bytes = bytes(32), *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return file


def entries(**changes: Any) -> dict[str, Any]:
    """ENTRIES, with values such as ``b_shape`` changed."""
    changed = {name: dict(entry) for name, entry in ENTRIES.items()}
    for place, value in changes.items():
        changed[place[0]][place[2:]] = value
    return changed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_a_true_header_is_read_as_the_library_reads_it(file: Path) -> None:
    write(file, ENTRIES | {"__metadata__": {"format": "pt"}})
    assert read_header(file) == {
        "a": Stored(torch.float32, (2, 3)),
        "b": Stored(torch.int64, ()),
        "c": Stored(torch.float16, (0, 5)),
    }
    with safe_open(check_safetensors(file), framework="pt") as tensors:
        for name, stored in read_header(file).items():
            assert (tensors.get_tensor(name).dtype, tensors.get_tensor(name).shape) == (stored.dtype, stored.shape)


def test_every_dtype_is_the_one_torch_writes(file: Path) -> None:
    tensors = {name: torch.zeros(3, dtype=dtype) for name, dtype in DTYPES.items()}
    save_file(tensors, file)
    assert {name: stored.dtype for name, stored in read_header(file).items()} == DTYPES


LIES = {
    "offsets overlap": (entries(b_data_offsets=[20, 28]), "tensor b begins at byte 20, where 24 is the next free one"),
    "offsets leave a gap": (entries(b_data_offsets=[25, 33]), "tensor b begins at byte 25, where 24 is"),
    "offsets go back": (entries(b_data_offsets=[32, 24]), "tensor b .* needs 8 bytes, its data_offsets give -8"),
    "offsets beyond the file": (
        entries(b_data_offsets=[24, 99]),
        "tensor b .* needs 8 bytes, its data_offsets give 75",
    ),
    "offsets that are none": (entries(b_data_offsets=[24]), r"tensor b has the data_offsets \[24\]"),
    "offsets in fractions": (entries(b_data_offsets=[24.0, 32.0]), "tensor b has the data_offsets"),
    "offsets below 0": (entries(a_data_offsets=[-24, 0]), "tensor a has the data_offsets"),
    "a larger shape": (entries(a_shape=[2, 4]), r"tensor a \(2, 4\) float32 needs 32 bytes, its data_offsets give 24"),
    "an enormous shape": (entries(a_shape=[2**40, 2**40]), "tensor a .* bytes, its data_offsets give 24"),
    "a negative shape": (entries(a_shape=[-2, -3]), r"tensor a has the shape \[-2, -3\]"),
    "a shape of many dimensions": (entries(a_shape=[1] * 9), "tensor a has the shape"),
    "no shape": (entries(a_shape=None), "tensor a has the shape None"),
    "another dtype": (entries(a_dtype="F64"), "tensor a .* float64 needs 48 bytes"),
    "an unknown dtype": (entries(a_dtype="F99"), "tensor a has the dtype 'F99'"),
    "a dtype that is none": (entries(a_dtype=["F32"]), r"tensor a has the dtype \['F32'\]"),
    "more facts": (entries(a_more=1), "tensor a needs a dtype, a shape and data_offsets"),
    "a name that moves the cursor": ({"\u001b[2J": ENTRIES["a"]}, "no tensor has a name like"),
    "an entry that is none": (ENTRIES | {"d": 1}, "tensor d needs"),
    "one tensor too few": ({"a": ENTRIES["a"]}, "its tensors take 24 bytes, 32 are there"),
    "no tensors": ([], "its header is no group of tensors"),
    "a name twice": (b'{"a":{},"a":{}}', "of its header: it names 'a' twice"),
    "no JSON": (b"{", "of its header: it is not JSON"),
    "no text": (b"\xff\xff", "of its header: it is not JSON: it is not UTF-8 text"),
    "no bottom": (b"[" * 10_000, "of its header: it is nested more than"),
    "NaN": (b'{"a": NaN}', "of its header: it holds the number NaN"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused(lie: str, file: Path) -> None:
    header, sentence = LIES[lie]
    with pytest.raises(
        BadInput, match=f"model.safetensors is not a safetensors file .{sentence}.*save the weights again"
    ):
        check_safetensors(write(file, header))


@pytest.mark.parametrize("length", [2**63, 33 * 2**20, 10_000])
def test_a_header_longer_than_the_file_or_than_any_is_refused(length: int, file: Path) -> None:
    with pytest.raises(BadInput, match=f"its header would be {length} bytes long, the file has"):
        check_safetensors(write(file, ENTRIES, length=length))


@pytest.mark.parametrize("size", [0, 7, 60, -1])
def test_a_file_cut_anywhere_is_refused(size: int, file: Path) -> None:
    write(file, ENTRIES)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BadInput, match="is not a safetensors file"):
        check_safetensors(file)


def test_what_is_accepted_here_the_library_accepts_too(file: Path) -> None:
    """So that no message of the library is ever needed; and what it refuses, we refused."""
    for lie, (header, _) in LIES.items():
        try:
            with safe_open(write(file, header), framework="pt"):
                pass
        except (SafetensorError, OSError):
            continue
        # stricter than the library: names that readers could take differently, and what no model here has
        assert lie in {"a name twice", "more facts", "a shape of many dimensions", "a name that moves the cursor"}, lie


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (-float("inf"), "infin")]
)
def test_one_number_that_is_none_is_found(dtype: torch.dtype, value: float, word: str, file: Path) -> None:
    tensors = {"good": torch.ones(5), "bad": torch.ones(1000, dtype=dtype), "count": torch.tensor(7)}
    save_file(tensors | {"empty": torch.zeros(0)}, file)
    check_finite(file)
    tensors["bad"][617] = value
    save_file(tensors, file)
    with pytest.raises(BadInput, match=f"holds {word}.* in tensor bad"):
        check_finite(file)


def test_a_checkpoint_of_other_numbers_changes_nothing(file: Path) -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    for tensors, sentence in (
        (
            {"weight": torch.ones(1, 2).half(), "bias": torch.ones(1)},
            r"tensor weight is \(1, 2\) float16 in the checkp",
        ),
        ({"weight": torch.full((1, 2), torch.nan), "bias": torch.ones(1)}, "holds NaN in tensor weight"),
    ):
        save_file(tensors, file)
        with pytest.raises(BadInput, match=sentence):
            load_weights(model, file)
        assert torch.equal(model.weight, before)


def test_checksum_is_sha256(file: Path) -> None:
    file.write_bytes(b"x" * 3_000_000)
    assert sha256(file) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "MODEL.PTH", "model.pkl.gz", "model.th", "model.pth.tar"])
def test_a_folder_of_pickles_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"a pickle")
    with pytest.raises(BadInput, match=f"only the pickle {name}, which could run code"):
        weights_in_folder(tmp_path)
    with pytest.raises(BadInput, match=f"{name} is a pickle, which could run code"):
        check_safetensors(tmp_path / name)


def test_pickles_are_told_by_how_their_names_end() -> None:
    endings = ("bin", "ckpt", "joblib", "npy", "npz", "pickle", "pkl", "pt", "pth", "tar", "th", "pkl.gz", "Pt", "NPY")
    assert all(is_pickle(f"states/a.{ending}") for ending in endings)
    others = (
        "model.safetensors",
        "config.json",
        "README.md",
        "a.png",
        "a.gz",
        "pth",
        "a.pt.json",
        "birth",
        "a.npy.txt",
    )
    assert not any(map(is_pickle, others))
