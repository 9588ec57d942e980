"""The command line: `ehub COMMAND ...`.

A command is a function of its own in one of the modules here; this one runs them, and turns every
way they can end into a line for people and an exit code for programs (`app.EXIT_CODES`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import ehub
from ehub.cli import (
    access,
    averaging,
    backups,
    benchmark,
    erasing,
    exporting,
    importing,
    reading,
    serving,
    times,
    top,
    trial,
    upkeep,
    versions,
)
from ehub.cli.app import EXIT_FAILED, Failure, Interrupted, app
from ehub.formats import InputError

__all__ = [
    "access",
    "app",
    "averaging",
    "backups",
    "benchmark",
    "erasing",
    "exporting",
    "importing",
    "main",
    "reading",
    "run",
    "serving",
    "times",
    "top",
    "trial",
    "upkeep",
    "versions",
]

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# What to do about an error, by its type; the first that fits.
HINTS: list[tuple[type[BaseException], str]] = [
    (
        ehub.LockedError,
        "one process writes at a time: end the other one, or wait for it; of a hub that is served, "
        "ehub auth takes host:port in place of the directory",
    ),
    (ehub.CorruptionError, "ehub verify HUB lists the damage; ehub repair HUB keeps what is sound"),
    (ehub.FormatError, "the hub is of another release of ehub: see ehub --version"),
    (ehub.ReadOnlyError, "the disk may be full or failing: see to it, then open the hub again"),
    (
        ehub.PermissionDeniedError,
        "--token or EMBEDDINGHUB_TOKEN gives the server the API key of somebody who may",
    ),
    (PermissionError, "the user that runs ehub must own the hub's files"),
]


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"ehub {ehub.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Embeddinghub: a database for machine-learning embeddings.

    A hub is a directory; it holds spaces; a space maps keys to vectors. Where HUB is a command's
    only argument, the environment variable EMBEDDINGHUB_DATA may name it instead.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USAGE)


def main() -> None:
    """The console script."""
    occupy_standard_streams()
    sys.exit(run(sys.argv[1:]))


def occupy_standard_streams() -> None:
    """Make closed streams null devices, or a file of the hub would get the descriptor of one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for good


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    try:
        code = app(args=list(arguments), prog_name="ehub", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has had enough. Python would try to flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except SystemExit as ended:  # so typer ends when the pipe breaks within a command
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return failed("interrupted", exit_code=EXIT_INTERRUPTED)
    except Interrupted as stopped:
        return failed(str(stopped), exit_code=EXIT_INTERRUPTED)
    except Failure as failure:
        return failed(str(failure), failure.hint)
    except (ehub.EhubError, InputError, OSError) as error:
        return failed(message_of(error), hint_for(error))
    except Exception as error:
        return usage_error(error)
    if code == EXIT_INTERRUPTED:  # newer releases of typer turn Ctrl-C into this
        return failed("interrupted", exit_code=code)
    return code if isinstance(code, int) else 0


def usage_error(error: Exception) -> int:
    """Report wrong usage; any other exception is our mistake, and shows where."""
    exit_code = getattr(error, "exit_code", None)
    if exit_code is None:
        raise error
    format_message = getattr(error, "format_message", lambda: str(error))
    message = format_message()
    if message:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "ehub"
        failed(message, f"{command} --help")
    return int(exit_code)


def message_of(error: BaseException) -> str:
    """An error's text in one line; a KeyError's own would be quoted."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def hint_for(error: BaseException) -> str:
    """What to do about an error."""
    return next((hint for kind, hint in HINTS if isinstance(error, kind)), "")


def failed(message: str, hint: str = "", exit_code: int = EXIT_FAILED) -> int:
    """Print an error and what to do about it; return the exit code."""
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)
    return exit_code


if __name__ == "__main__":
    main()
