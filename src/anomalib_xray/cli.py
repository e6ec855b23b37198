"""The ``anomalib-xray`` command: verbs for what the stock ``anomalib`` command lacks.

Nothing heavy is imported before a verb needs it, jsonargparse included: help must come at once on a small device.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from anomalib_xray import NOTICE, __version__
from anomalib_xray.errors import XrayError, refusal
from anomalib_xray.io.progress import reported

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

VERBS = (
    "app", "attention", "bench", "benchmark", "bundle", "examples", "explain", "fuse", "phantom", "plugins", "predict",
    "prepare", "progress-gif", "report", "serving", "train-foreground", "train-localizer", "train-recogniser", "tune",
)  # fmt: skip
"""Each verb is the function of its name in its module of :mod:`anomalib_xray.commands`. Its signature gives the
arguments (a required ``list[Path]`` is positional, an optional list is given item by item, the option before each, a
``bool`` is a switch), its docstring the help, and what it returns the exit status, ``None`` for 0."""

_PROGRAM = "anomalib-xray"
_SPELLING = "A switch needs no value; names of options may be written with - for _."
_WITHOUT_VALUE = ("help", "print_config")
_DONE, _FAILED, _MISUSED, _INTERRUPTED, _PIPE_CLOSED = 0, 1, 2, 130, 141


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments after the program's name; by default those of the process.

    Returns:
        Exit status: 0 done, 1 done in part, 2 wrong arguments or input, 130 interrupted, 141 the reader of the output
        has gone.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # names of files may hold what the terminal's encoding has no letter for
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _terminated_as_interrupted():
            status = _run(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
    except XrayError as error:
        print(f"error: {error}", file=sys.stderr)
        return _MISUSED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # At its end the interpreter flushes once more, and would complain about the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = "this disk" if error.filename is None else f"the disk of {error.filename}"
        print(f"error: There is no room left on {where}: make some, or write to another disk.", file=sys.stderr)
        return _MISUSED
    return status


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treats SIGTERM, by which schedulers and containers end a process, as Ctrl-C."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what comes next cleans up
        raise KeyboardInterrupt

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(arguments: Sequence[str]) -> int:
    """Handles the first argument: a verb, or an option of the command itself."""
    if not arguments:
        raise XrayError(f"Name a verb: {', '.join(VERBS)}; {_PROGRAM} --help explains them.")
    verb, *rest = arguments
    if verb in ("-h", "--help"):
        print(_help())
    elif verb == "--version":
        print(f"{_PROGRAM} {__version__}")
    elif verb in VERBS:
        return _run_verb(verb, rest)
    else:
        raise XrayError(f"There is no verb {verb!r}; choose one of {', '.join(VERBS)}.")
    return _DONE


def _help() -> str:
    """Help of the command as a whole, made without jsonargparse, whose import alone takes 0.3 s."""
    width = max(map(len, VERBS))
    summaries = [(_function(verb).__doc__ or "").strip().partition("\n")[0] for verb in VERBS]
    lines = [f"  {verb:{width}}  {summary}" for verb, summary in zip(VERBS, summaries, strict=True)]
    return "\n".join([
        f"usage: {_PROGRAM} [-h] [--version] VERB ...",
        "",
        f"Anomaly detection in radiographs without labels. {NOTICE}",
        "",
        "verbs:",
        *lines,
        "",
        f"{_PROGRAM} VERB --help explains the arguments of a verb.",
        "Models are trained, tested and exported with the stock command: anomalib train|test|predict|export.",
    ])  # fmt: skip


def _function(verb: str) -> Callable[..., int | None]:
    name = verb.replace("-", "_")
    function: Callable[..., int | None] = getattr(import_module(f"anomalib_xray.commands.{name}"), name)
    return function


def _run_verb(verb: str, arguments: Sequence[str]) -> int:
    """Parses the arguments of a verb and calls its function."""
    from argparse import ArgumentError
    from inspect import signature
    from typing import get_type_hints

    function = _function(verb)
    parser = _parser(verb, function)
    hints = get_type_hints(function)
    try:
        parsed = parser.parse_args(_spelled(arguments, ["config", *_WITHOUT_VALUE, *hints], hints))
    except ArgumentError as error:
        raise XrayError(
            f"{refusal(str(error), 'argument')}; {_PROGRAM} {verb} --help explains the arguments."
        ) from error
    except SystemExit as end:  # after --help
        return int(end.code or 0)
    values = parser.instantiate_classes(parsed).as_dict()
    if "config" not in signature(function).parameters:
        values.pop("config", None)
    with reported():
        return function(**values) or _DONE


def _spelled(arguments: Sequence[str], options: Iterable[str], hints: Mapping[str, Any]) -> list[str]:
    """Brings arguments into the one form that jsonargparse takes.

    Hyphens in the name of an option are underscores; an option that takes a list is given once for each item, whereas
    jsonargparse appends only to ``--option+``; a switch without ``true`` or ``false`` behind it is on: in ``--stream
    study/`` the folder is a positional argument. Positional arguments come first, since argparse takes them in one
    piece only.
    """
    given, positional, rest = list[str](), list[str](), list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*given, argument, *positional, *rest]
        written, equals, value = argument.partition("=")
        name = _option(written, options)
        if name is None and (argument == "-" or not argument.startswith("-")):
            positional.append(argument)
        elif name is None:  # refused by the parser, with the value that was meant for it
            given += [argument, *(rest.pop(0) for _ in rest[:1] if not equals)]
        elif name in _WITHOUT_VALUE:
            given.append(f"--{name}{equals}{value}")
        else:
            if not equals and bool in _kinds(hints.get(name)):
                is_answered = bool(rest) and rest[0].lower() in ("true", "false")
                equals, value = "=", rest.pop(0).lower() if is_answered else "true"
            elif not equals and rest and not rest[0].startswith("--"):
                equals, value = "=", rest.pop(0)
            appends = "+" if list in _kinds(hints.get(name)) else ""
            given.append(f"--{name}{appends}{equals}{value}")
    return [*positional, *given]


def _option(written: str, options: Iterable[str]) -> str | None:
    """The option of this name, or the only one that begins with it."""
    if not written.startswith("--"):
        return None
    name = written.removeprefix("--").replace("-", "_")
    found = [option for option in options if option.startswith(name)]
    return name if name in found else found[0] if len(found) == 1 else None


def _kinds(hint: Any) -> list[Any]:
    """The type of a hint, or those of a union, without their parameters."""
    from typing import get_args, get_origin

    return [get_origin(kind) or kind for kind in (hint, *get_args(hint))]


def _parser(verb: str, function: Callable[..., Any]) -> ArgumentParser:
    """A parser for one verb, by the signature and the docstring of its function."""
    from inspect import Parameter, getdoc, signature
    from typing import get_type_hints

    from docstring_parser import parse
    from jsonargparse import ArgumentParser

    docstring = parse(getdoc(function) or "")
    explained = "\n\n".join(filter(None, (NOTICE, docstring.short_description, docstring.long_description)))
    parser = ArgumentParser(prog=f"{_PROGRAM} {verb}", description=explained, epilog=_SPELLING, exit_on_error=False)
    parameters = signature(function).parameters.values()
    hints, help_texts = get_type_hints(function), {entry.arg_name: entry.description for entry in docstring.params}
    lists = [entry.name for entry in parameters if entry.default is Parameter.empty and hints[entry.name] == list[Path]]
    if parameters:
        if "config" not in hints:  # some verbs have a file of a form of its own under this name
            parser.add_argument("--config", action="config", help="YAML file with arguments of this verb.")
        parser.add_function_arguments(function, as_group=False, skip=set(lists))
    for name in lists:
        parser.add_argument(name, nargs="+", type=Path, help=help_texts.get(name))
    for action in parser._actions:
        if bool in _kinds(hints.get(action.dest)):
            action.nargs, action.metavar = "?", "true|false"  # for the help; no switch reaches the parser bare
    return parser
