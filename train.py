#!/usr/bin/env python3
"""Train a model: ``python train.py``, or ``accelerate launch train.py`` on several processes."""

import signal
import sys

if __name__ == "__main__":
    ctrl_c = signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the seconds of imports without a traceback
    try:
        from mocse_timm.training.run import main
    except ModuleNotFoundError as error:
        print(f'error: {error}; training needs more packages: pip install "mocse_timm[train]"', file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGINT, ctrl_c)
    sys.exit(main())
