"""Command line, for clusters and scripts: python -m hybridlib COMMAND; --help lists the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from hybridlib.companion.commands import COMMANDS, Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did its work, 1 if the data or the disk were in the way, 2 for wrong arguments."""
    argv = sys.argv[1:] if argv is None else list(argv)
    commands = {command.__name__.lower(): command for command in COMMANDS}
    parser = argparse.ArgumentParser(prog="python -m hybridlib", description=__doc__, allow_abbrev=False)
    group = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        group.add_parser(name, help=command.__doc__.partition("\n")[0])
    name = parser.parse_args(argv[:1]).command
    values = vars(make_parser(commands[name]).parse_args(argv[1:]))
    try:
        flags = {field.name: values.pop(field.name) for field in fields(commands[name])}
        return commands[name](**flags).run(**values) or 0
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1


def make_parser(command: type[Command]) -> argparse.ArgumentParser:
    """The flags of a command: its fields, and what stands in its `argument`."""
    from transformers import HfArgumentParser

    description, _, epilog = command.__doc__.partition("\n")
    texts = {"description": description, "epilog": epilog, "prog": f"python -m hybridlib {command.__name__.lower()}"}
    parser = HfArgumentParser(command, allow_abbrev=False, formatter_class=_Dashed, **texts)
    if command.argument:
        name, options = command.argument
        parser.add_argument(name, **options)
    return parser


class _Dashed(argparse.ArgumentDefaultsHelpFormatter):
    """Shows flags with dashes; HfArgumentParser takes them with underscores too."""

    def add_usage(self, usage: str | None, actions: Sequence[argparse.Action], *others: object) -> None:
        for action in actions:
            action.option_strings = [flag for flag in action.option_strings if "_" not in flag]
        super().add_usage(usage, actions, *others)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
