"""The keeper's help."""

from __future__ import annotations

import pytest
from syndicate.volunteer.keeper.__main__ import main
from syndicate.volunteer.keeper.settings import KeeperSettings


def test_help_names_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Each setting is an option of the help, and what it is where nobody says stands there."""
    assert main(["--slots", "4", "--help"]) == 0
    shown = capsys.readouterr().out
    options = shown.partition("options:")[2]
    for name, field in KeeperSettings.model_fields.items():
        _, found, rest = options.partition(f"  --{name.replace('_', '-')} ")
        assert found, name
        said = " ".join(rest.partition("\n  --")[0].split())
        if field.is_required():
            assert "required)" in said, name
        elif isinstance(field.default, int) and not isinstance(field.default, bool):  # a flag is off
            assert f"default {field.default}" in said, name
    assert max(map(len, shown.splitlines())) <= 80
