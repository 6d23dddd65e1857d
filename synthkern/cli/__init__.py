"""The commands."""

from synthkern.cli.command_line import main

__all__ = ["main"]
