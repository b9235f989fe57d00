"""`python -m lib.data`: data sets checked and prepared. Each command is a module with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import importlib
import sys

COMMANDS = {  # name: module, what it does; a module is imported only when its command is asked for
    "check": ("lib.data.check", "say what is in data sets on disk, against the published counts, and what is missing"),
    "prepare": ("lib.data.prepare", "scale every picture of a folder, or every box of a face table, to squares"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; gives its exit status, 2 where it could not start."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m lib.data", description="Data sets, checked and prepared.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if argv[:1] == [name]:
            importlib.import_module(module).add_arguments(command)
    args = parser.parse_args(argv)
    try:
        return importlib.import_module(COMMANDS[args.command][0]).run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
