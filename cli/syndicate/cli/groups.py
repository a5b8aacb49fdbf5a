"""Groups of commands whose help calls each argument what we call it, in every version of Typer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

F = TypeVar("F", bound=Callable[..., Any])


class Group(typer.Typer):
    """A group of commands without markup; alone it answers with its help."""

    def __init__(self, **more: Any) -> None:
        more.setdefault("no_args_is_help", True)
        more.setdefault("rich_markup_mode", None)
        super().__init__(**more)

    def command(self, name: str | None = None, **more: Any) -> Callable[[F], F]:
        """As Typer's."""
        more.setdefault("cls", PlainCommand)
        return super().command(name, **more)


class PlainCommand(TyperCommand):
    """A command whose help says ``JOB`` and ``MEMBER...``, and not also of which type that is."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS] JOB MEMBER...``."""
        pieces = [self.options_metavar] if self.options_metavar else []
        arguments = (each for each in self.get_params(ctx) if each.param_type_name == "argument")
        return [*pieces, *(_word(each) if each.required else f"[{_word(each)}]" for each in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and then options, each with its help."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record is None:
                continue
            if each.param_type_name == "argument":
                sections["Arguments"].append((_word(each), record[1]))
            else:
                sections["Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _word(argument: Any) -> str:
    """``JOB``; ``MEMBER...`` for one that takes several."""
    word = str(argument.metavar or argument.name.upper())
    return word if argument.nargs == 1 or word.endswith("...") else f"{word}..."
