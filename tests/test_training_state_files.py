"""Saved states on disk: whole or not at all, found damaged whatever was done to them."""

import json
import re
import resource
from pathlib import Path

import pytest
import torch

from mocse_timm.training import saver
from mocse_timm.training.state_files import Damaged, StateFiles


def write(states: StateFiles, epoch: int, step: int) -> Path:
    unfinished = states.unfinished(epoch, step)
    states.begin(unfinished)
    (unfinished / "model.safetensors").write_bytes(bytes([epoch % 256, step % 256]) * 100)
    (unfinished / "random_states_0.pkl").write_bytes(b"random")
    return states.complete(unfinished)


def names(states: StateFiles) -> list[str]:
    return sorted(path.name for path in states.folder.iterdir())


def test_the_last_states_are_kept_in_the_order_of_progress(tmp_path: Path) -> None:
    states = StateFiles(tmp_path / "states", keep=2)
    assert states.states() == []
    for epoch, step in ((0, 9), (0, 10), (1, 0), (1, 2)):
        write(states, epoch, step)
    assert names(states) == ["epoch-0001-step-000000", "epoch-0001-step-000002"]
    assert [states.reached(state) for state in states.states()] == [(1, 2), (1, 0)]
    write(states, 12345, 1234567)
    assert states.reached(states.states()[0]) == (12345, 1234567)


def test_what_was_not_complete_is_no_state_and_goes(tmp_path: Path) -> None:
    states = StateFiles(tmp_path / "states")
    write(states, 0, 1)
    states.begin(states.unfinished(0, 2))
    (states.folder / "epoch-0000-step-000000.old").mkdir()
    assert [state.name for state in states.states()] == ["epoch-0000-step-000001"]
    states.remove_unfinished()
    assert names(states) == ["epoch-0000-step-000001"]


DAMAGES = {
    "flipped": "the checksum of model.safetensors differs",
    "truncated": "the checksum of model.safetensors differs",
    "missing": "random_states_0.pkl is missing",
    "added": "stranger.pkl is not one of its files",
    "no checksums": "checksums.json cannot be read: No such file or directory",
    "garbled checksums": "checksums.json is not JSON",
    "empty checksums": "checksums.json does not hold checksums",
    "other checksum": "the checksum of model.safetensors differs",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_the_state_before_is_found(damage: str, tmp_path: Path) -> None:
    states = StateFiles(tmp_path / "states")
    before, state = write(states, 0, 1), write(states, 0, 2)
    weights, checksums = state / "model.safetensors", state / "checksums.json"
    if damage == "flipped":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:50])
    elif damage == "missing":
        (state / "random_states_0.pkl").unlink()
    elif damage == "added":
        (state / "stranger.pkl").write_bytes(b"")
    elif damage == "no checksums":
        checksums.unlink()
    elif damage == "garbled checksums":
        checksums.write_bytes(b"\xff{")
    elif damage == "empty checksums":
        checksums.write_text("{}")
    elif damage == "other checksum":
        checksums.write_text(json.dumps(json.loads(checksums.read_text()) | {"model.safetensors": 7}))
    with pytest.raises(Damaged, match=DAMAGES[damage]):
        states.check(state)
    told: list[tuple[str, str]] = []
    assert states.newest_whole(lambda path, reason: told.append((path.name, reason))) == before
    assert told == [(state.name, DAMAGES[damage])]


def test_a_damaged_state_is_replaced_when_training_comes_there_again(tmp_path: Path) -> None:
    states = StateFiles(tmp_path / "states")
    write(states, 0, 1)
    state = write(states, 0, 2)
    (state / "model.safetensors").unlink()
    assert write(states, 0, 2) == state
    states.check(state)
    assert names(states) == ["epoch-0000-step-000001", "epoch-0000-step-000002"]


def test_nothing_is_found_where_all_are_damaged(tmp_path: Path) -> None:
    states = StateFiles(tmp_path / "states")
    (write(states, 0, 1) / "model.safetensors").unlink()
    assert states.newest_whole(lambda path, reason: None) is None


def test_a_damaged_state_does_not_count_among_those_that_are_kept(tmp_path: Path) -> None:
    states = StateFiles(tmp_path / "states", keep=2)
    whole, damaged = write(states, 0, 1), write(states, 0, 2)
    (damaged / "model.safetensors").unlink()
    assert states.newest_whole(lambda path, reason: None) == whole
    assert names(states) == [whole.name, damaged.name], "nothing is removed before there is something newer"
    newer = write(states, 0, 3)
    assert names(states) == [whole.name, newer.name]


def test_what_torch_says_of_a_full_disk_is_known(tmp_path: Path) -> None:
    """It says one thing of a file and another, or nothing, of the list of its records, which comes last."""
    tensors = {str(index): torch.zeros(100) for index in range(20)}
    torch.save(tensors, tmp_path / "file.pkl")
    saver._refuse_files_cut_short(tmp_path)
    size = (tmp_path / "file.pkl").stat().st_size
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    said: set[str] = set()
    for limit in range(0, size, size // 40):
        refused = None
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
            torch.save(tensors, tmp_path / "file.pkl")
            saver._refuse_files_cut_short(tmp_path)
        except (OSError, RuntimeError) as error:
            refused = error
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert refused is not None and saver._refusal(refused) is not None, refused
        said.add(re.sub(r"\d+", "N", str(refused).splitlines()[0]))
    assert len(said) > 1, said


def test_what_torch_says_of_anything_else_is_no_refusal() -> None:
    assert saver._refusal(RuntimeError("out of patience")) is None
