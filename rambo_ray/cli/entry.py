"""What all commands share: a parser whose errors are one line, and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from rambo_ray.errors import RunError, UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors, said by the job in one line."""

    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see {self.prog} --help")


def exit_code(name: str, job: Callable[[], int]) -> int:
    """What `job` returns, or 1 where the cluster failed, 2 for bad input, 130 when interrupted, said in a line each.

    141, without a line, where whoever reads the output has gone.
    """
    try:
        code = job()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `| head` has had enough; Python flushes once more at its end, and must not complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"{name}: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130
