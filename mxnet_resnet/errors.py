"""The one kind of error that a user can cause, and how a command ends."""

from __future__ import annotations

import sys
from typing import Callable

from mxnet_resnet.compat import missing_library
from mxnet_resnet.interruption import Interrupted


class UserError(Exception):
    """Input that cannot be used. The message is one sentence: what, where, what was expected, what to do."""


def run(main: Callable[[], int | None]) -> None:
    """Run a command and exit: status 0 (or what ``main`` returns), 2 after a UserError, 130 after Ctrl-C, 143 after
    SIGTERM.
    """
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        reason = missing_library(error)
        if not reason:
            raise
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
