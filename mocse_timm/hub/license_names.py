"""Names of licences as the Hub takes them in a card's metadata."""

import re
from typing import Any

__all__ = ["license_metadata"]

# the names that the Hub takes as they are; it refuses a push with any other, huggingface_hub's issue 4218
NAMES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
    other
    """.split()
)


def license_metadata(name: str | None) -> dict[str, Any]:
    """Return a card's ``license``, and ``license_name`` beside ``other`` where the Hub does not know the name.

    Args:
        name: of the licence, as timm's pretrained_cfg has it; None where it is not known.
    """
    if name is None:
        return {"license": None}
    plain = re.sub(r"[^a-z0-9+.]+", "-", name.lower()).strip("-")
    return {"license": plain} if plain in NAMES else {"license": "other", "license_name": plain or "unnamed"}
