"""What a user can do something about among the errors of Python, the system and the libraries, each as one sentence.

The libraries are not imported: their errors are known by what they say.
"""

from __future__ import annotations

import errno
import os
import re
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# Errors that tell of the machine also where they name no file; others without a file are ours.
OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
OF_MACHINE = (*OF_WRITING, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EACCES, errno.EPERM)
PARSERS = re.compile(r"[/\\](json|yaml|pickle|re|sre_parse|sre_compile|ast)([/\\][^/\\]*)?\.py$")
NO_MEMORY = re.compile(  # MXNet, PyTorch, OpenCV, ONNX Runtime, CUDA's libraries
    r"out of memory|insufficient memory|not enough memory|can't allocate memory|cannot allocate memory|"
    r"failed to (re)?allocate|unable to allocate|trying to allocate|failed to map segment|"
    r"bad_alloc|_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
AMOUNT = re.compile(r"(?:allocate|Malloc|memory)\D{0,40}?(\d[\d.]*) ?(bytes|[KMGTPE]i?B)\b", re.IGNORECASE)
NO_THREAD = re.compile(r"can't start new thread|resource temporarily unavailable", re.IGNORECASE)


def find_reason(error: BaseException) -> str | None:
    """What went wrong, where it is not our fault; None where it may be."""
    if lacks_memory(error):
        return _of_memory(error)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, RecursionError):
        return _of_nesting(error)
    if isinstance(error, UnicodeError):
        return _of_text(error)
    if isinstance(error, OverflowError):
        return f"a number is too large to compute with: {error}"
    if lacks_threads(error):
        return "the system starts no more threads: end other programs, or raise `ulimit -u`"
    return None


def lacks_memory(error: BaseException) -> bool:
    """Whether the memory of the computer or of a GPU was too small."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    of_library = isinstance(error, (RuntimeError, OSError, ImportError)) or type(error).__module__ == "cv2"
    return of_library and bool(NO_MEMORY.search(str(error)))


def lacks_threads(error: BaseException) -> bool:
    """Whether the system has started as many threads as it may."""
    return isinstance(error, RuntimeError) and bool(NO_THREAD.search(str(error)))


def breaks_library(error: BaseException) -> bool:
    """Whether MXNet would raise the error again at the end of Python."""
    of_mxnet = type(error).__module__.partition(".")[0] == "mxnet"
    return of_mxnet and (lacks_memory(error) or lacks_threads(error))


def _of_memory(error: BaseException) -> str:
    text = str(error)
    amount = AMOUNT.search(text)
    asked = " ".join((amount[1].rstrip("."), amount[2])) if amount else "more than there is"
    place = "the GPU" if re.search(r"cuda|gpu|cudnn|cublas", text, re.IGNORECASE) else "the computer"
    return f"the memory of {place} is too small: {_find_asker(error)} asked for {asked}"


def _find_asker(error: BaseException) -> str:
    """Which of our functions an error came from."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if PACKAGE in path.parents:
            return f"{frame.name} ({path.relative_to(PACKAGE).as_posix()})"
    return "the program"


def _of_system(error: OSError) -> str | None:
    if isinstance(error, BrokenPipeError):
        return "nobody reads what is written any more"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name {error.filename} is too long"
    if error.filename is not None and error.strerror:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
        return f"cannot use {' and '.join(names) or 'a file'}: {error.strerror}"
    attempt = "write" if error.errno in OF_WRITING else "read or write"
    return f"cannot {attempt}: {error.strerror}" if error.errno in OF_MACHINE else None


def _of_nesting(error: RecursionError) -> str | None:
    """A file may be nested too deeply to be read; a function of ours that calls itself without end is our fault."""
    innermost = traceback.extract_tb(error.__traceback__)[-1:]
    read = any(PARSERS.search(frame.filename) for frame in innermost)
    return "a file is nested too deeply to be read" if read else None


def _of_text(error: UnicodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[:200]!r} cannot be written as {error.encoding}"
    if isinstance(error, UnicodeDecodeError):
        return f"{error.object[:40]!r} is not {error.encoding} text"
    return f"a text cannot be read or written: {error}"
