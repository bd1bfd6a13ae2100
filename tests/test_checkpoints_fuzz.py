"""Whatever stands in config.json or in the weights' header: a model, or BadInput, and no memory beyond 2 GiB.

MOCSE_TIMM_FUZZ_CASES=1000 tries more folders; without it there are 60 of each kind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = int(os.environ.get("MOCSE_TIMM_FUZZ_CASES", "60"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["config", "header"])
def test_spoiled_folders_are_opened_or_refused(kind: str) -> None:
    script = Path(__file__).with_name("broken_checkpoints.py")
    done = subprocess.run([sys.executable, str(script), kind, str(CASES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(kind, found)
    assert found["opened"] > 0 and found["refused"] > CASES // 2
    assert found["mib_after"] < 2048
