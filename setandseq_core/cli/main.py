"""Run a command. An error is printed on one line, and the next step on a second."""

import sys
from collections.abc import Sequence

import click

from ..errors import SetAndSequenceError
from ..training.memory import is_out_of_memory, shortage
from .clean import clean
from .compose import compose
from .console import PROGRAM, show_any_text, tell, visible
from .demo import demo
from .evaluate import evaluate
from .export import export
from .inspect import inspect
from .plan import plan
from .prior import prior
from .sample import sample
from .signals import Stopped, ending_on_signals
from .train import train
from .train_many import train_many

ERROR = 2
"""Exit status after an error that the user can act on; click uses it for wrong options."""


class Commands(click.Group):
    """The commands, listed in the order in which a user needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


commands = Commands(
    name="setandseq_core",
    commands=[train, train_many, plan, prior, sample, compose, evaluate, inspect, export, clean, demo],
    help="Learn how something looks and how it moves from one clip, and make new clips with it.",
    epilog=f"'{PROGRAM} COMMAND --help' explains a command and shows an example.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command and its options; by default, the arguments of the process.
    Returns:
        The exit status: 0 when done, 2 after an error, 128 and the signal's number after a signal (Ctrl-C: 130).
    """
    show_any_text()
    given = list(sys.argv[1:] if arguments is None else arguments)
    with ending_on_signals():
        try:
            with commands.make_context(PROGRAM, list(given)) as context:
                commands.invoke(context)
        except click.exceptions.Exit as ended:
            return ended.exit_code
        except click.ClickException as error:
            _tell_usage(error)
            return ERROR
        except SetAndSequenceError as error:
            _tell_error(error.message, error.hint)
            return ERROR
        except OSError as error:
            _tell_error(str(error))
            return ERROR
        except Stopped as stopped:
            tell("Stopped.")
            return stopped.status
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            _tell_error(f"There is not enough memory. {shortage(error)}", _less_memory(given[0]))
            return ERROR
    return 0


def _less_memory(command: str) -> str:
    """The next step after memory ran out: the options of the command that save memory."""
    known = {name for each in commands.commands[command].params for name in each.opts}
    options = [name for name in ("--frames", "--size", "--rank") if name in known]
    if not options:
        return "Close other programs, or take smaller files."
    text = f"Close other programs, or give a smaller {' or '.join(options)}."
    return text + (f" '{PROGRAM} plan' says how much a training takes." if command == "train" else "")


def _tell_usage(error: click.ClickException) -> None:
    if not isinstance(error, click.UsageError) or error.ctx is None:
        _tell_error(error.format_message())
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        tell(error.ctx.get_help())
    else:
        _tell_error(error.format_message(), f"'{error.ctx.command_path} --help' shows what it takes.")


def _tell_error(message: str, hint: str = "") -> None:
    tell(f"error: {_line(message)}")
    if hint:
        tell(_line(hint))


def _line(text: str) -> str:
    return visible(" ".join(text.split()))
