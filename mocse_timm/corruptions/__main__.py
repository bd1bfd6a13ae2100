"""The command ``python -m mocse_timm.corruptions``; ``--help`` lists the flags."""

import sys

try:
    from mocse_timm.corruptions.command import main
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("mocse_timm"):
        raise  # a fault of ours: installing something would not help
    print(f'error: {error.name} is not installed; run pip install "mocse_timm[corruptions]"', file=sys.stderr)
    raise SystemExit(2) from None

if __name__ == "__main__":
    sys.exit(main())
