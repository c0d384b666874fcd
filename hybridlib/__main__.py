"""Command line, for clusters and scripts: python -m hybridlib COMMAND; --help lists the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from hybridlib.companion.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did its work, 1 if the data or the disk were in the way, 2 for wrong arguments."""
    argv = sys.argv[1:] if argv is None else list(argv)
    commands = {command.__name__: command for command in COMMANDS}
    parser = argparse.ArgumentParser(prog="python -m hybridlib", description=__doc__, allow_abbrev=False)
    group = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        group.add_parser(name, help=command.__doc__.partition("\n")[0])
    name = parser.parse_args(argv[:1]).command
    values = vars(_parser(commands[name]).parse_args(argv[1:]))
    try:
        return commands[name](**_arguments(commands[name], values))
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1


def _parser(command: Callable) -> argparse.ArgumentParser:
    """The flags of a command: a field each of the dataclasses that it takes, and what `commands.argument` adds."""
    from transformers import HfArgumentParser

    description, _, epilog = command.__doc__.partition("\n")
    parser = HfArgumentParser(
        [kind for kind in get_type_hints(command).values() if is_dataclass(kind)],
        prog=f"python -m hybridlib {command.__name__}",
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        conflict_handler="resolve",  # batches and dropout share --seed
        formatter_class=_Dashed,
    )
    for name, options in getattr(command, "arguments", ()):
        parser.add_argument(name, **options)
    return parser


def _arguments(command: Callable, values: dict[str, object]) -> dict[str, object]:
    """What a command is called with: its dataclasses, filled, and the other values by name."""
    kinds = {name: kind for name, kind in get_type_hints(command).items() if name != "return"}
    return {
        name: kind(**{field.name: values[field.name] for field in fields(kind)}) if is_dataclass(kind) else values[name]
        for name, kind in kinds.items()
    }


class _Dashed(argparse.ArgumentDefaultsHelpFormatter):
    """Shows flags with dashes; HfArgumentParser takes them with underscores too."""

    def add_usage(self, usage: str | None, actions: Sequence[argparse.Action], *others: object) -> None:
        for action in actions:
            action.option_strings = [flag for flag in action.option_strings if "_" not in flag]
        super().add_usage(usage, actions, *others)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
