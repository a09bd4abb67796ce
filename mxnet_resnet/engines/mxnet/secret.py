"""The secret of a job: what one of its processes tells another carries a mark that only who knows it can make."""

from __future__ import annotations

import hashlib
import hmac
import os

SECRET = "RESNET_JOB_SECRET"  # a variable of each process; the launcher makes it


def seal(text: str) -> str:
    """A text in ASCII with a mark that only who knows the secret of the job can make."""
    return f"{_mark(text.encode('ascii'))} {text}"


def unseal(message: bytes) -> str:
    """The text that was sealed. Raises ValueError where it was not, or with another secret."""
    mark, _, text = message.partition(b" ")
    if not hmac.compare_digest(mark, _mark(text).encode()):
        raise ValueError("it does not come from a worker of this job")
    return text.decode("ascii")


def _mark(text: bytes) -> str:
    return hmac.new(os.environ.get(SECRET, "").encode(), text, hashlib.sha256).hexdigest()
