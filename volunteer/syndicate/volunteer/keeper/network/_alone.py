"""Importing some modules of a package without all the rest of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec


@contextmanager
def alone(package: str) -> Iterator[None]:
    """Meanwhile modules of a package are imported, and its own `__init__` is not run.

    Whoever imports the package afterwards has all that its `__init__` gives; modules that were imported here
    are no attributes of it.
    """
    spec = None if package in sys.modules else find_spec(package)
    if spec is None:
        yield
        return
    sys.modules[package] = module_from_spec(spec)  # finds modules in its folder, and is otherwise empty
    try:
        yield
    finally:
        del sys.modules[package]
