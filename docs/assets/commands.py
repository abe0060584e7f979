"""The reference of the command line, written from the code each time that the site is built."""

from __future__ import annotations

import re
from typing import Any

import typer.main
from pydantic import AliasChoices

from understudy import errors
from understudy.cli.main import app
from understudy.settings import Settings

_HEAD = """# Commands

Written from the code when this site is built: what `understudy COMMAND --help` says. What an option means in more
words, and every setting with its place in `understudy.toml`: [settings and options](../settings.md). From Python:
[labs](../lab.md#in-python), [fixtures of pytest](../lab.md#in-pytest), [clients](../connecting.md).

Every command has `-h`, `--help`; `understudy --version` prints the version. An environment variable in the column
*environment* sets the same as the option; the option wins. `REDIS_…`, and what else a command reads without one of
its own: [settings](../settings.md#settings).
"""


def page() -> str:
    """Return the page as Markdown."""
    commands = typer.main.get_group(app).commands
    names = ", ".join(f"[{name}](#understudy-{name})" for name in commands)
    return "\n".join([_HEAD, names, "", *(_command(name, one) for name, one in commands.items()), _exit_codes()])


def _command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    text, _, examples = (command.help or "").replace("\b", "").partition("\n\n\nExamples:\n")
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## understudy {name}", f"```\nunderstudy {name} {usage}\n```", text.strip()]
    if rows := [_row(one, context) for one in command.params]:
        parts.append("| | default | environment | meaning |\n|---|---|---|---|\n" + "\n".join(rows))
    if examples:
        parts.append("```sh\n" + "\n".join(line.strip() for line in examples.splitlines() if line.strip()) + "\n```")
    return "\n\n".join(parts) + "\n"


def _row(one: Any, context: Any) -> str:
    typed = one.get_help_record(context)[0]
    default = (
        "" if one.default is None or one.default is False or one.default in ((), []) else f"`{_plain(one.default)}`"
    )
    text = " ".join((one.help or "").split())
    cells = [f"`{typed}`", default, _environment(one, text), text]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(default: Any) -> str:
    return "on" if default is True else str(getattr(default, "value", default))


def _environment(one: Any, text: str) -> str:
    """Return the variables that an option's help names, of those that there are."""
    known = {"UNDERSTUDY_SERVER", "UNDERSTUDY_PASSWORD", *_settings()}
    named = [word for word in re.findall(r"[A-Z][A-Z0-9_]+", text) if word in known]
    given = [getattr(one, "envvar", None) or []]
    found = dict.fromkeys([*([given[0]] if isinstance(given[0], str) else given[0]), *named])
    return ", ".join(f"`{name}`" for name in found)


def _settings() -> set[str]:
    aliases = [field.validation_alias for field in Settings.model_fields.values()]
    return {str(name) for one in aliases for name in (one.choices if isinstance(one, AliasChoices) else [one])}


def _exit_codes() -> str:
    """Return the table of exit codes, each with the errors that end with it."""
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.UnderstudyError)]
    rows = {0: "Done.", 1: "A bug in Understudy."}
    for kind in kinds:
        if kind is not errors.UnderstudyError:
            said = f"{(kind.__doc__ or '').splitlines()[0]}"
            rows[kind.exit_code] = f"{rows[kind.exit_code]} {said}" if kind.exit_code in rows else said
    rows |= {130: "Ctrl-C.", 141: "The reader of the output went away.", 143: "SIGTERM."}
    lines = "\n".join(f"| {code} | {said} |" for code, said in sorted(rows.items()))
    return f"## Exit codes\n\n| code | meaning |\n|---:|---|\n{lines}\n"
