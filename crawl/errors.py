"""What may go wrong that a person can mend, and how a command says it.

ValueError
  └─ InputError        a wrong config, folder, file, field or address: one line that names it
       └─ Paused       the work cannot go on now: a budget is spent, a server is away
OSError                the system's own: disk full, permission denied
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something given to the program is wrong. The message is one line naming the file, field or URL."""


class Paused(InputError):
    """The work cannot go on now, and what others are in the middle of is worth finishing: it has its price."""


def one_line(error: BaseException) -> str:
    """The error as one line for a person; for a full disk, with the path and the free bytes."""
    if isinstance(error, OSError) and error.filename is not None:
        path = os.fsdecode(error.filename)
        return f"{path}: {error.strerror or error}{_free_space(path)}"
    return " ".join(str(error).split()) or type(error).__name__


def exit_with_one_line(command: Callable[[], int]) -> int:
    """Run a command; turn what a person can mend into one line on stderr and exit code 2.

    Everything else is a fault of ours and keeps its traceback.
    """
    try:
        return command()
    except (InputError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on where this stopped", file=sys.stderr)
        return 130


def _free_space(path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        stat = os.statvfs(folder)
    except OSError:
        return ""
    return f" ({stat.f_bavail * stat.f_frsize:,} bytes free)"
