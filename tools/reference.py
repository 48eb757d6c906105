"""Write docs/reference.md from the code: every public name with its docstring, and every command with its options.

`python tools/reference.py` writes it; `--check` only says whether it is as the code is.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
MODULES = {
    "tasklocks": "All that an application needs.",
    "tasklocks.beat": "A beat with exactly one leader; see [Beat on many hosts](beat.md).",
    "tasklocks.celery.signals": "What happens to limits, for your own code.",
}
HEAD = """# Reference

Made from the code by `python tools/reference.py`; a test compares. Settings and the options of the decorators are in
[Configuration](configuration.md) and [Rate limits](rates.md), backends' URLs in [Backends](backends.md).
"""
_SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Raises": "Raises",
    "Returns": "Returns",
    "Yields": "Yields",
}
_LONGEST = 100


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if it would change")
    asked = parser.parse_args()
    text = page()
    if asked.check:
        return int(PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


def page() -> str:
    """Return the page as it should be."""
    parts = [HEAD]
    for name, what in MODULES.items():
        module = importlib.import_module(name)
        parts += [f"## `{name}`\n\n{what}\n", *(_entry(module, each) for each in sorted(module.__all__))]
    parts += [_HEAD_OF_COMMANDS, *_commands()]
    return "\n".join(parts)


_HEAD_OF_COMMANDS = """## Commands

`tasklocks COMMAND`, `celery -A proj limits COMMAND` and `manage.py tasklocks COMMAND` are the same; each takes
`--json`. [The command line](cli.md) says what they are for.
"""


def _entry(module: Any, name: str) -> str:
    thing = getattr(module, name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return f"### `{name}`\n\n{_told(_below(module, name))}"
    text = f"### `{name}`\n\n{_signature(name, thing)}\n{_told(inspect.getdoc(thing) or '')}"
    return text + "".join(_members(thing) if inspect.isclass(thing) else ())


def _below(module: Any, name: str) -> str:
    """Return the text that stands below a constant in its module."""
    body = ast.parse(inspect.getsource(module)).body
    for each, after in itertools.pairwise(body):
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == name and isinstance(after, ast.Expr):
            return inspect.cleandoc(ast.literal_eval(after.value))
    return ""


def _members(kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        if name.startswith("_") or not (inspect.isroutine(member) or isinstance(member, (property, classmethod))):
            continue
        title = (
            f"`.{name}`"
            if isinstance(member, property)
            else f"`.{name}{_arguments(getattr(kind, name), one_line=True)}`"
        )
        told = _told(inspect.getdoc(member) or "").strip()
        yield f"\n#### {title}\n\n{told}\n"


def _signature(name: str, thing: Any) -> str:
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        bases = ", ".join(base.__name__ for base in thing.__bases__)
        return f"```text\nclass {name}({bases})\n```\n"
    return f"```text\n{name}{_arguments(thing)}\n```\n"


def _arguments(thing: Any, *, one_line: bool = False) -> str:
    found = inspect.signature(thing)
    said = list(_parameters(found))
    result = (
        "" if found.return_annotation is found.empty or inspect.isclass(thing) else f" -> {found.return_annotation}"
    )
    line = f"({', '.join(said)}){result}"
    if one_line or len(line) <= _LONGEST:
        return line
    return "(\n" + "".join(f"    {each},\n" for each in said) + f"){result}"


def _parameters(found: inspect.Signature) -> Iterator[str]:
    keywords_only = False
    for name, each in found.parameters.items():
        if name == "self":
            continue
        if each.kind is each.KEYWORD_ONLY and not keywords_only:
            keywords_only = True
            yield "*"
        star = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        keywords_only = keywords_only or star == "*"
        kind = "" if each.annotation is each.empty else f": {each.annotation}"
        default = "" if each.default is each.empty else f" = {each.default!r}"
        yield f"{star}{name}{kind}{default}"


def _told(doc: str) -> str:
    """Return a docstring in Google's form as Markdown."""
    parts = re.split(r"^(Args|Attributes|Raises|Returns|Yields):\n", doc.strip(), flags=re.MULTILINE)
    told = [_paragraphs(parts[0])]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        rest, after = _indented(body)
        told.append(f"**{_SECTIONS[title]}**\n\n{_items(rest)}")
        if after:
            told.append(_paragraphs(after))
    return "\n\n".join(each for each in told if each) + "\n"


def _indented(body: str) -> tuple[str, str]:
    lines = body.splitlines()
    end = next((number for number, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return inspect.cleandoc("\n" + "\n".join(lines[:end])), "\n".join(lines[end:])


def _items(body: str) -> str:
    items = re.split(r"\n(?=\S)", body)
    named = (re.sub(r"^([\w.]+): ", r"`\1`: ", " ".join(item.split())) for item in items)
    return "\n".join(f"- {item}" for item in named)


def _paragraphs(text: str) -> str:
    """Return paragraphs; examples become blocks."""
    blocks = []
    for part in re.split(r"\n\n+", text.strip()):
        if part.startswith(">>>") or part.startswith("    "):
            blocks.append(f"```text\n{inspect.cleandoc(part)}\n```")
        else:
            blocks.append(re.sub(r"::$", ":", part))
    return re.sub(r"\n```\n\n```text\n", "\n\n", "\n\n".join(blocks))


def _commands() -> Iterator[str]:
    from tasklocks.cli import main as commands

    context = click.Context(commands, info_name="tasklocks")
    for name in commands.list_commands(context):
        command = commands.commands[name]
        own = click.Context(command, info_name=name, parent=context)
        usage = " ".join([name, *(piece for piece in command.collect_usage_pieces(own) if piece != "[OPTIONS]")])
        options = [each for each in command.params if isinstance(each, click.Option) and each.name != "as_json"]
        rows = [_option(own, each) for each in options]
        table = "\n| option | |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
        yield f"### `tasklocks {usage}`\n\n{inspect.cleandoc(command.help or '')}\n{table}"


def _option(context: click.Context, option: click.Option) -> str:
    names, told = (part.replace("|", "\\|") for part in option.get_help_record(context) or ("", ""))
    return f"| `{names}` | {told} |"


if __name__ == "__main__":
    sys.exit(main())
