"""What commands share: flags, and the config with its overrides."""

import argparse
from collections.abc import Sequence

from jaxlm import configuration, errors


class Parser(argparse.ArgumentParser):
  """argparse whose mistakes are told like all others."""

  def error(self, message):
    """Raises UserError in place of exiting."""
    raise errors.UserError(f"{self.prog}: {message} (--help lists the flags)")


def parser(name: str, doc: str) -> Parser:
  """The parser of a command; `doc` is its module's docstring."""
  made = Parser(
    prog=f"jaxlm {name}",
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  return made


def add_config(made: Parser) -> None:
  """Adds --config; overrides (--config.key=value) need no declaration."""
  made.add_argument(
    "--config",
    required=True,
    metavar="FILE:VARIANT",
    help="a config file or shipped name; --config.KEY=VALUE changes a key",
  )


def add_checkpoint(made: Parser) -> None:
  """Adds --checkpoint, what `loading.load` takes."""
  made.add_argument(
    "--checkpoint",
    required=True,
    help="a workdir, one of its checkpoints, or a Hugging Face folder",
  )


def parse(made: Parser, argv: Sequence[str]):
  """Parses flags; `args.config` becomes the config with its overrides.

  Raises:
    UserError: an unknown flag, with the nearest, or a mistake in the config.
  """
  overrides, rest = configuration.split_args(argv)
  args, unknown = made.parse_known_args(rest)
  if unknown:
    flags = [o for a in made._actions for o in a.option_strings]
    raise errors.unknown(
      f"{made.prog} has no flag", unknown[0].partition("=")[0], flags
    )
  if getattr(args, "config", None):
    args.config = configuration.load(args.config)
    configuration.override(args.config, overrides)
  elif overrides:
    raise errors.UserError(
      f"{made.prog}: --config.{overrides[0][0]} needs --config."
    )
  return args
