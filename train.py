#!/usr/bin/env python3
"""Train a model: ``python train.py``, or ``accelerate launch train.py`` on several processes."""

import sys

if __name__ == "__main__":
    try:
        from mocse_timm.training.run import main
    except ModuleNotFoundError as error:
        print(f'error: {error}; training needs more packages: pip install "mocse_timm[train]"', file=sys.stderr)
        sys.exit(2)
    sys.exit(main())
