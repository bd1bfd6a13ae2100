"""The ways in which a Hub can misbehave, ordered one by one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What goes wrong at the next ``times`` requests of ``method`` whose path holds ``path`` (a regular expression).

    ``status`` (with ``headers``) is answered instead of the work; otherwise the work is done, and ``headers`` replace
    those of the answer, ``content`` its body, ``cut_response_after`` bytes of which are sent before the connection
    closes. ``cut_request_after`` closes it after so many bytes of what the client sends. ``lose_answer`` closes it when
    all is done.
    """

    method: str
    path: str
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    cut_request_after: int | None = None
    cut_response_after: int | None = None
    lose_answer: bool = False

    def strikes(self, method: str, path: str) -> bool:
        return self.times > 0 and method == self.method and re.search(self.path, path) is not None
