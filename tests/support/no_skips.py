"""A pytest plugin: a test that is skipped, or expected to fail, has failed.

The tests are run where they are meant to run, on every change; one that says nothing there says nothing
anywhere, and nobody reads the number of those at the end.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

Report = pytest.TestReport | pytest.CollectReport


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a test and its fixtures; outside pytest's own wrapper, which settles what xfail means."""
    report = yield
    _fail(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Of a module that skips itself."""
    report = yield
    _fail(report)
    return report


def _fail(report: Report) -> None:
    expected = getattr(report, "wasxfail", None)
    if report.outcome != "skipped" and expected is None:
        return
    if expected is not None:
        del report.wasxfail  # type: ignore[union-attr]  # set by pytest, where it is
        said = f"expected to fail ({expected})" if expected else "expected to fail"
    else:
        # (file, line, "Skipped: the reason")
        said = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{said}: a test that is not run, or not held to what it says, is a failure here"
