"""The command ``python -m mocse_timm.hub``; ``--help`` lists the flags."""

import sys

try:
    from mocse_timm.hub.command import main
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("mocse_timm"):
        raise  # a fault of ours: installing something would not help
    print(f'error: {error.name} is not installed; run pip install "mocse_timm[hub]"', file=sys.stderr)
    raise SystemExit(2) from None

if __name__ == "__main__":
    sys.exit(main())
