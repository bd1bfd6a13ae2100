"""Flags from the command line and from YAML files."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from mocse_timm.checks import BadInput, command, nearest
from mocse_timm.flags import KeyValues, changed_flags, parse_flags, write_yaml


@dataclass(frozen=True)
class Flags:
    model: str = "a"
    width: float | None = None
    scale: tuple[float, float] = (0.5, 1.0)
    amp: bool = False
    model_kwargs: KeyValues = field(default_factory=dict)


def parse(*arguments: str) -> Flags:
    return parse_flags(Flags, arguments, description="test")


def test_every_value_survives_a_yaml_file(tmp_path: Path) -> None:
    written = Flags("b", 0.25, (0.1, 0.2), True, {"backbone": "resnet18", "width": 0.5, "backbone_args": {"depth": 3}})
    write_yaml(written, tmp_path / "flags.yaml")
    assert parse("--config", str(tmp_path / "flags.yaml")) == written


def test_defaults_survive_a_yaml_file(tmp_path: Path) -> None:
    write_yaml(Flags(), tmp_path / "flags.yaml")
    assert parse("--config", str(tmp_path / "flags.yaml")) == Flags()


def test_typed_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("model: from-file\namp: true\nwidth: 2\n")
    assert parse("--model", "typed", "--config", str(file), "--no-amp") == Flags("typed", 2.0, amp=False)


def test_a_blank_value_is_none_where_there_may_be_none_and_else_refused(tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("width:\n")
    assert parse("--config", str(file)).width is None
    for name in ("model", "amp", "scale", "model-kwargs"):
        file.write_text(f"{name}:\n")
        with pytest.raises(BadInput, match=f"flags.yaml: {name} has no value; give it one, or take the line out$"):
            parse("--config", str(file))


def test_key_values_are_literals_or_bare_words() -> None:
    flags = parse("--model-kwargs", "backbone=resnet18", "num_experts=5", "backbone_args={'width': 0.5}")
    assert flags.model_kwargs == {"backbone": "resnet18", "num_experts": 5, "backbone_args": {"width": 0.5}}


@pytest.mark.parametrize(
    "flags",
    [
        Flags(),
        Flags("b", 0.25, (0.1, 0.2), True, {"backbone": "resnet18", "width": 0.5, "backbone_args": {"depth": 3}}),
        Flags("it's a name; $HOME", model_kwargs={"digits": "18", "none": "None", "words": "a b"}),
    ],
)
def test_changed_flags_typed_in_a_shell_give_the_same_config(flags: Flags) -> None:
    assert parse(*shlex.split(changed_flags(flags))) == flags


def test_changed_flags_are_few_and_readable() -> None:
    flags = Flags(width=0.5, amp=True, model_kwargs={"backbone": "resnet18"})
    assert changed_flags(flags) == "--width 0.5 --amp --model-kwargs backbone=resnet18"
    assert changed_flags(flags, leave_out=("amp", "width")) == "--model-kwargs backbone=resnet18"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modle: x", "unknown flag 'modle' .did you mean 'model'"),
        ("- model", "must hold 'flag: value' lines, got a list"),
        ("model: [", "is not YAML"),
    ],
)
def test_bad_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text(content)
    with pytest.raises(BadInput, match=message):
        parse("--config", str(file))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read the file"):
        parse("--config", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("arguments", [["--width", "wide"], ["--bogus", "1"], ["--model-kwargs", "backbone"]])
def test_bad_flags_end_with_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(*arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_command_turns_bad_input_into_a_sentence_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def refuse() -> None:
        raise BadInput("width is -1: give more than 0")

    assert refuse() == 2
    assert capsys.readouterr().err == "error: width is -1: give more than 0\n"


def test_command_keeps_our_own_faults_visible() -> None:
    @command
    def fault() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fault()


def test_nearest_names_the_closest_spelling_or_nothing() -> None:
    assert nearest("mocse_preact81", ["mocse_preact18", "cifar_resnet18"]) == " (did you mean 'mocse_preact18'?)"
    assert nearest("zzz", ["mocse_preact18"]) == ""


@dataclass(frozen=True)
class Named:
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    options: KeyValues = field(default_factory=dict)
    width: float = 1.0


def test_what_is_typed_without_a_flag_may_stand_in_a_file_too(tmp_path: Path) -> None:
    write_yaml(Named("from-file", {"depth": 3}, 2.0), tmp_path / "flags.yaml")
    file = ["--config", str(tmp_path / "flags.yaml")]
    assert parse_flags(Named, file, description="") == Named("from-file", {"depth": 3}, 2.0)
    assert parse_flags(Named, ["typed", *file], description="") == Named("typed", {"depth": 3}, 2.0)
    (tmp_path / "flags.yaml").write_text("width: 2\n")
    assert parse_flags(Named, [*file, "typed"], description="") == Named("typed", width=2.0)
