"""Floors: a file imports only from floors below its own, or from its own room; and every file stays short."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mocse_timm"
FLOORS = [
    {"types", "checks", "modes"},
    {"flags", "provenance"},
    {"models", "attacks", "losses", "data"},
    {"corruptions", "checkpoints"},
    {"evaluation"},
    {"training", "hub"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
OUTSIDE = sorted(path for folder in (".", "tests/**", "benchmarks", "recipes") for path in ROOT.glob(f"{folder}/*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the full module name"
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    assert "mocse_timm" not in modules, f"{path}: import a room, not the whole package"
    return {name.split(".")[1] for name in modules if name.startswith("mocse_timm.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    for imported in imported_rooms(path) - {room}:
        assert FLOOR_OF[imported] < FLOOR_OF[room], f"{room} may not import {imported}"


@pytest.mark.parametrize("path", [*FILES, *OUTSIDE], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in FILES}
    assert rooms <= FLOOR_OF.keys(), f"give {rooms - FLOOR_OF.keys()} a floor in FLOORS"
