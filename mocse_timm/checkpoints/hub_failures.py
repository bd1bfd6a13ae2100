"""What went wrong between us and the Hub: will it pass, how long to wait, and how to say it in one sentence."""

import json
import re

from huggingface_hub import constants
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HTTPError,  # of the HTTP client in use: requests, httpx or another, by huggingface_hub's version
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)

from mocse_timm.checks import BadInput

__all__ = ["FAILURES", "LOGIN", "asked_wait", "in_short", "refusal", "status_of", "underlying", "will_pass"]

FAILURES = (HTTPError, OSError, XetDownloadError, json.JSONDecodeError)
"""All that a request to the Hub may raise. Broken connections are an HTTPError in some versions, an OSError in others;
some requests read the answer as JSON before they look at its status, and a failing server may send a page instead."""

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"

BUSY = {408, 425, 429, 500, 502, 503, 504}


def underlying(error: BaseException) -> BaseException:
    """Return what happened, where huggingface_hub wrapped it: an upload in RuntimeError, a download in "not cached".

    A bare RuntimeError is what its Xet transfers raise; it comes back as an OSError.
    """
    while isinstance(error, RuntimeError | LocalEntryNotFoundError) and isinstance(error.__cause__, FAILURES):
        error = error.__cause__
    return OSError(str(error)) if isinstance(error, RuntimeError) else error


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that the Hub answered, or None if it did not answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_local(error: BaseException) -> bool:
    # the disk's errors have a number, those of HTTP clients only a text
    return (
        isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError)
    )


def will_pass(error: BaseException) -> bool:
    """Say whether the same request may succeed a little later."""
    status = status_of(error)
    if status is not None:
        return status in BUSY
    if isinstance(error, OfflineModeIsEnabled | FileMetadataError | LocalEntryNotFoundError):
        return False
    return isinstance(error, FAILURES) and not _is_local(error)


def asked_wait(error: BaseException) -> float | None:
    """Return for how many seconds the Hub asks to be left alone: its header Retry-After, or ``t`` of RateLimit."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    found = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After", "")) or (
        re.search(r";\s*t\s*=\s*(\d+)", headers.get("RateLimit", "")) if status_of(error) == 429 else None
    )
    return float(found[1]) if found else None


def in_short(error: BaseException) -> str:
    """Return the failure in a few words, for parentheses."""
    status = status_of(error)
    said = " ".join(str(getattr(error, "server_message", None) or "").split())
    if status is not None:
        return f"{status}: {said}" if said else str(status)
    return " ".join(str(error).split()) or type(error).__name__


def refusal(error: BaseException, repo_id: str, action: str, *, revision: str | None = None) -> BadInput:
    """Return the sentence for a failure that will not pass, or did not.

    Args:
        error: one of ``FAILURES``, as :func:`underlying` returns it.
        repo_id: ``user/name``.
        action: what was tried, such as ``download``.
        revision: branch, tag or commit that was asked for.
    """
    status, short = status_of(error), in_short(error)
    if isinstance(error, OfflineModeIsEnabled):
        return BadInput(f"cannot {action} {repo_id!r}: HF_HUB_OFFLINE is set; unset it to reach the Hub")
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repo_id}"
        return BadInput(f"Hub repository {repo_id!r} is gated: ask for access at {page}, then {LOGIN}")
    if isinstance(error, RepositoryNotFoundError):
        return BadInput(f"the Hub shows no repository {repo_id!r}: check the name or, if it is private, {LOGIN}")
    if isinstance(error, RevisionNotFoundError):
        return BadInput(
            f"Hub repository {repo_id!r} has no revision {revision!r}; give a branch, a tag or a commit of it"
        )
    if status == 401:
        return BadInput(
            f"cannot {action} {repo_id!r}: the Hub does not accept the token ({short}); {LOGIN}, with a new one"
        )
    if status == 403:
        return BadInput(f"the Hub forbids to {action} {repo_id!r} ({short}): with a token that may do it, {LOGIN}")
    if status in (409, 412):
        return BadInput(f"cannot {action} {repo_id!r}: it changed in the meantime ({short}); run the command again")
    if status == 429:
        wait = asked_wait(error)
        later = f"in {wait:.0f} seconds" if wait else "later"
        return BadInput(f"cannot {action} {repo_id!r}: too many requests to the Hub (429); try again {later}")
    if status is not None and status >= 500:
        return BadInput(f"cannot {action} {repo_id!r}: the Hub fails ({short}); try again later")
    if status is not None:
        return BadInput(f"cannot {action} {repo_id!r}: the Hub refuses it ({short}); check the name and the revision")
    if isinstance(error, FileMetadataError):
        return BadInput(
            f"{constants.ENDPOINT} does not answer as the Hub does ({short}): check HF_ENDPOINT and the proxy"
        )
    if _is_local(error):
        return BadInput(
            f"cannot {action} {repo_id!r}: the disk refuses it ({short}); make room, or set HF_HOME elsewhere"
        )
    return BadInput(
        f"cannot {action} {repo_id!r}: the connection to {constants.ENDPOINT} fails ({short}); try again later"
    )
