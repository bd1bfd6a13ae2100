"""One training at a time in a folder, and files that are whole at every moment."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from mocse_timm.checks import BadInput
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.resume import find_run
from mocse_timm.training.run_folder import RunFolder


def test_a_held_folder_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.held():
        with pytest.raises(BadInput, match="run is held by a training that is still going on"):
            with RunFolder(tmp_path / "run").held():
                raise AssertionError
    with folder.held():
        assert folder.path.is_dir()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot write the run's folder .*run \(Not a directory\)"):
        with RunFolder(tmp_path / "file" / "run").held():
            raise AssertionError


def test_rows_of_an_epoch_replace_it_and_those_after(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for epoch, loss in ((0, 3.0), (1, 2.0), (2, 1.0), (1, 2.5)):
        folder.write_summary(epoch, {"loss": loss}, {"top1": 10.0 * epoch}, lr=0.1)
    with folder.summary.open() as file:
        assert [(row["epoch"], row["train_loss"], row["eval_top1"]) for row in csv.DictReader(file)] == [
            ("0", "3.0", "0.0"),
            ("1", "2.5", "10.0"),
        ]
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


def test_rows_with_other_columns_share_a_header(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_summary(0, {"loss": 3.0, "expert_loss": 2.0}, {"top1": 10.0}, lr=0.1)
    folder.write_summary(1, {"loss": 1.0, "natural_loss": 0.5}, {"top1": 20.0, "ece": 5.0}, lr=0.2)
    assert folder.summary.read_text().splitlines() == [
        "epoch,train_loss,train_expert_loss,eval_top1,lr,train_natural_loss,eval_ece",
        "0,3.0,2.0,10.0,0.1,,",
        "1,1.0,,20.0,0.2,0.5,5.0",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


@pytest.mark.parametrize("experiment", ["run", ""])
def test_tuples_of_the_flags_are_the_lists_of_the_file(experiment: str, tmp_path: Path) -> None:
    flags = {"depths": (1, (2, 3)), "options": {"sizes": (4,)}}
    folder = RunFolder(tmp_path / "run")
    (folder.path / "states" / "epoch-0001-step-000000").mkdir(parents=True)
    folder.write_flags(TrainConfig(model_kwargs=flags, epochs=2))
    config = TrainConfig(model_kwargs=flags, epochs=2, resume="auto", experiment=experiment, output=str(tmp_path))
    assert find_run(config) == folder.path
    assert RunFolder.for_run(replace(config, resume=str(folder.path)), 8).path == folder.path
    with pytest.raises(BadInput, match="--model-kwargs"):
        RunFolder.for_run(replace(config, resume=str(folder.path), model_kwargs={"depths": (1, (2, 4))}), 8)


def test_a_refused_write_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write_flags(TrainConfig(epochs=3))
    before = (tmp_path / "config.yaml").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mocse_timm.training.run_folder.os.replace", full)
    with pytest.raises(BadInput, match="No space left on device"):
        folder.write_flags(TrainConfig(epochs=4))
    assert (tmp_path / "config.yaml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(("content", "message"), [("- a\n", "got a list"), ("{", "cannot be read"), ("\0", "cannot")])
def test_flags_that_are_not_flags_are_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "states" / "epoch-0001-step-000000").mkdir(parents=True)
    with pytest.raises(BadInput, match=message):
        RunFolder(tmp_path).flags()
