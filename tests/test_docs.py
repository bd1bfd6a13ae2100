"""What README and docs say: links lead somewhere, and commands name flags and files that exist."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mocse_timm.corruptions.config import CorruptionsConfig
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.hub import config as hub
from mocse_timm.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def flags(*configs: type) -> set[str]:
    names = {field.name.replace("_", "-") for config in configs for field in fields(config)}
    return {"--config", "--help"} | {f"--{no}{name}" for name in names for no in ("", "no-")}


COMMANDS = {
    "train.py": flags(TrainConfig),
    "validate.py": flags(ValidateConfig),
    "mocse_timm.corruptions": flags(CorruptionsConfig),
    "mocse_timm.hub": flags(hub.Save, hub.Card, hub.Push, hub.Check, hub.List, hub.Predict, hub.Zoo),
}
SCRIPTS = {  # those that name their flags themselves
    flag
    for script in [*(ROOT / "recipes").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    for flag in re.findall(r'add_argument\(\s*"(--[a-z-]+)"', script.read_text(encoding="utf-8"))
}
OTHERS = {"--multi", "--num", "--main", "--machine", "--no-deps"}  # accelerate launch's, up to their first _, and pip's
FLAG = r"(?<![\w-])--[a-z][a-z0-9-]*"


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def anchors(page: Path) -> set[str]:
    """Return GitHub's names of the headings: lower case, letters, digits and hyphens, a hyphen for a space."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> list[str]:
    """Return the lines of all bash examples, and what is between single backticks, without comments."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ")
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line.partition("  #")[0].replace("\n", " ") for line in [*blocks.splitlines(), *inline]]


def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_flags_are_those_of_the_command_they_follow(page: Path) -> None:
    for line in commands(page):
        found = re.search(r"\b(train\.py|validate\.py|mocse_timm\.corruptions|mocse_timm\.hub)\b(.*)", line)
        named = set(re.findall(FLAG, found[2] if found else line))
        known = COMMANDS[found[1]] if found else set.union(*COMMANDS.values(), SCRIPTS, OTHERS)
        assert named <= known, f"{sorted(named - known)} in {line!r}"


def test_files_of_ours_that_are_named_exist(page: Path) -> None:
    for line in commands(page):
        for name in re.findall(r"\b(?:recipes|tests|benchmarks|docs|mocse_timm|hub_cards)/[\w/]+\.[a-z]+\b", line):
            assert "NAME" in name or (ROOT / name).exists(), name


def test_these_tests_see_something() -> None:
    lines = [line for page in PAGES for line in commands(page)]
    assert all(any(command in line and re.search(FLAG, line) for line in lines) for command in COMMANDS)
    assert any(re.search(r"recipes/\w+\.py", line) for line in lines) and len(SCRIPTS) > 5
