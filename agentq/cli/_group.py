"""The frame of the command line: global options on either side of a command, lazy commands, errors to exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from agentq.cli._errors import ExitCode, exit_code, report
from agentq.cli._output import OutputClosed, stderr

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from click.shell_completion import CompletionItem

    from agentq.app import AgentQ
    from agentq.client import AsyncClient
    from agentq.settings import Settings


@dataclass
class Options:
    """The global options, and what they lead to. Tests bring a subclass that leads elsewhere."""

    app: str | None = None
    redis_url: str | None = None
    json: bool = False
    debug: bool = False

    def settings(self, **explicit: Any) -> Settings:
        """Settings of the environment and the command line. Raises `InvalidInput`."""
        from agentq.settings import Settings

        return Settings.load(**{"app": self.app, "redis_url": self.redis_url, **explicit})

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncClient]:
        """A client for the block."""
        from agentq.cli import _logs
        from agentq.client import AsyncClient
        from agentq.errors import StoreUnavailable

        _logs.remarks(as_json=self.json, debug=self.debug)
        client = AsyncClient(settings=self.settings())
        try:
            yield client
        except StoreUnavailable as error:
            if self.named_redis is None and (url := _redis_of_dev()):
                error.add_note(f"agentq dev runs here with its own: export REDIS_URL={url}")
            raise
        finally:
            await client.aclose()

    @property
    def named_redis(self) -> str | None:
        """The Redis that was named; None where it would be the default one."""
        return self.redis_url or os.environ.get("REDIS_URL") or None

    @property
    def names_app(self) -> bool:
        """Whether an app was named, be it the default one: settings tell only which, not whence."""
        return bool(self.app or os.environ.get("AGENTQ_APP"))

    def load_app(self) -> AgentQ:
        """The app that `--app` names. Raises `AppNotFound`."""
        from agentq.loading import load_app

        return cast("AgentQ", load_app(self.settings().app))


def _redis_of_dev() -> str | None:
    """Where the Redis is of an `agentq dev` that runs in this project."""
    from pathlib import Path

    from agentq.cli.dev.place import running_here

    return running_here(Path.cwd())


pass_options = click.make_pass_decorator(Options, ensure=True)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and param.name:
        setattr(ctx.ensure_object(Options), param.name, value)


def _global_option(*names: str, help: str, metavar: str | None = None) -> click.Option:
    kind: dict[str, Any] = {"metavar": metavar} if metavar else {"is_flag": True}
    return click.Option(names, help=help, expose_value=False, is_eager=True, callback=_keep, **kind)


_GLOBAL = (
    _global_option("--app", metavar="MODULE:OBJECT", help="The app with the agents [AGENTQ_APP; workers.app:app]."),
    _global_option("--redis", "redis_url", metavar="URL", help="The Redis to use [REDIS_URL]."),
    _global_option("--json", help="Print JSON: one document, or one line per event."),
    _global_option("--debug", help="Show the traceback of an error."),
)


class _TakesGlobalOptions(click.Command):
    """A command that knows the global options as well, and lists them apart in its help."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        return [*own[:-1], *_GLOBAL, *own[-1:]]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        sections = {
            "Options": [option for option in options if option not in _GLOBAL],
            "Global options, before or after the command": [option for option in options if option in _GLOBAL],
        }
        for title, members in sections.items():
            records = [record for option in members if (record := option.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class AgentqCommand(_TakesGlobalOptions):
    """One command. Its function returns the exit code; `exits` are those that not every command has.

    docs/cli.md tells them, and a test asks every command for them.
    """

    def __init__(self, *args: Any, exits: Sequence[ExitCode] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exits = exits


class AgentqGroup(_TakesGlobalOptions, click.Group):
    """The commands by name: `commands` maps each to its module, which is imported when it is called, and its help.

    A module may name what of it is the command: `package.module:name`.
    """

    def __init__(
        self,
        *args: Any,
        modules: Mapping[str, tuple[str, str]],
        exits: Sequence[ExitCode] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.exits = exits
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return None
        module, _, attribute = self._modules[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute or "command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands by their names alone: none of them is imported for it."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, (_, text) in self._modules.items()]
        found = [item for item in names if item.value.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._modules and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            close = difflib.get_close_matches(name, self._modules, n=1)
            ctx.fail(f"there is no command {name!r}" + (f", did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._modules.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = False,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit with its code; without `standalone_mode` return the code."""
        argv = list(sys.argv[1:] if args is None else args)
        options = extra.setdefault("obj", Options())
        prog_name = prog_name or "agentq"
        self._main_shell_completion(extra, prog_name, complete_var)
        code = self._run(prog_name, argv, options, extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, prog_name: str, argv: list[str], options: Options, extra: dict[str, Any]) -> int:
        try:
            with self.make_context(prog_name, argv, **extra) as ctx:
                code = self.invoke(ctx)
            sys.stdout.flush()
        except click.exceptions.Exit as done:
            return done.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return ExitCode.USAGE
        except (OutputClosed, BrokenPipeError):
            _silence_stdout()
            return ExitCode.OUTPUT_CLOSED
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last frame: whatever it is, one line
            # A usage error can come before `--json` was reached.
            as_json = options.json or (isinstance(error, click.UsageError) and "--json" in argv)
            with contextlib.suppress(OutputClosed):
                report(error, stderr(), as_json=as_json, debug=options.debug)
            return exit_code(error)
        return int(code or ExitCode.OK)


def _silence_stdout() -> None:
    """Keep the interpreter from a second broken pipe when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
