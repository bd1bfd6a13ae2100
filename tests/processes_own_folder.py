"""train.py in a working directory of each process's own, which shows what each of them writes.

Arguments: the folder for the working directories, then the flags; ``--output runs --experiment run`` is added.
"""

import os
import sys
from pathlib import Path

from mocse_timm.training.run import main

if __name__ == "__main__":
    here = Path(sys.argv[1]) / f"process{os.environ['RANK']}"
    (here / "runs" / "run").mkdir(parents=True)  # the main process's would be there, were it one folder
    os.chdir(here)
    sys.exit(main([*sys.argv[2:], "--output", "runs", "--experiment", "run"]))
