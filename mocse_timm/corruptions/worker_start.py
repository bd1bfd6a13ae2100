"""How a worker process begins: run by its path there, and not imported.

``import mocse_timm`` registers the models and so loads torch and timm: seconds, and most of a gigabyte, for a process
that needs numpy, scipy and OpenCV only. Here the package is set up without its ``__init__``, so that of it only those
modules are loaded that a call asks for. The worker leaves Ctrl-C to its parent, ends with it even if that is killed,
and uses one core.
"""

import os
import signal
import sys
import threading
import types
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path

package = types.ModuleType("mocse_timm")
package.__path__ = [str(Path(__file__).parents[1])]
sys.modules.setdefault("mocse_timm", package)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "runs in a worker"
    wait([parent.sentinel])
    os._exit(1)


signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=_end_with_parent, daemon=True).start()

from mocse_timm.corruptions.extra import import_cv2  # noqa: E402 (after the package is set up)

import_cv2().setNumThreads(1)
