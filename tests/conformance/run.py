"""Run timm's own model tests on every model of this package: ``python tests/conformance/run.py``.

The tests are taken from the source distribution of the installed timm and kept in ``.conformance/``, which git
ignores; nothing of timm's is part of this repository.
"""

import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Annotated

import timm
import tyro

import mocse_timm
from mocse_timm.checks import BadInput, command, nearest

ROOT = Path(__file__).parents[2]
WORKPLACE = ROOT / ".conformance"


def our_models() -> list[str]:
    """Return the names of all models registered by modules of this package."""
    return [name for name in timm.list_models() if timm.model_entrypoint(name).__module__.startswith("mocse_timm.")]


def fetch_sdist(version: str) -> Path:
    """Return timm's source distribution, downloaded by pip unless an earlier run left it here.

    Raises:
        BadInput: if pip cannot fetch it.
    """
    sdist = WORKPLACE / f"timm-{version}.tar.gz"
    if not sdist.exists():
        print(f"fetching the source distribution of timm {version}")
        arguments = ["download", f"timm=={version}", "--no-binary", "timm", "--no-deps", "--dest", str(WORKPLACE)]
        done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
        if done.returncode != 0 or not sdist.exists():
            reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise BadInput(
                f"cannot fetch the source distribution of timm {version} from the package index ({''.join(reason)}): "
                f"check the network, or put {sdist.name} into {WORKPLACE}"
            )
    return sdist


def lay_out_tests(sdist: Path, version: str) -> None:
    """Write timm's model tests, its markers and our conftest into the workplace, where no ``timm/`` lies beside."""
    with tarfile.open(sdist) as archive:
        tests = archive.extractfile(f"timm-{version}/tests/test_models.py")
        project = archive.extractfile(f"timm-{version}/pyproject.toml")
        assert tests is not None and project is not None
        (WORKPLACE / "test_models.py").write_bytes(tests.read())
        markers = tomllib.loads(project.read().decode())["tool"]["pytest"]["ini_options"]["markers"]
    lines = ["[pytest]", "markers =", *(f"    {marker}" for marker in markers)]
    (WORKPLACE / "pytest.ini").write_text("\n".join(lines) + "\n")
    narrowing = Path(__file__).with_name("narrowing_conftest.py").read_text()
    (WORKPLACE / "conftest.py").write_text(narrowing)


@command
def main(models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()) -> None:
    """Run timm's tests/test_models.py on our models.

    Args:
        models: names of models to test; all of this package's when none is given.
    """
    ours = our_models()
    for name in models:
        if name not in ours:
            raise BadInput(f"--models: {name!r} is no model of {mocse_timm.__name__}{nearest(name, ours)}")
    WORKPLACE.mkdir(exist_ok=True)
    lay_out_tests(fetch_sdist(timm.__version__), timm.__version__)
    # GITHUB_ACTIONS leaves out what timm leaves out of its own CI: downloads, and scripting what fx has traced
    environment = os.environ | {"GITHUB_ACTIONS": "1", "MOCSE_CONFORMANCE_MODELS": " ".join(models or ours)}
    environment.setdefault("TIMEOUT", "900")  # seconds a test; timm's 120 are for an idle machine
    environment.setdefault("OMP_NUM_THREADS", "1")  # batches of one or two images: threads cost more than they give
    arguments = ["-q", "-ra", "--durations=5", "-p", "no:cacheprovider", "test_models.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=WORKPLACE, env=environment)
    if done.returncode != 0:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
