"""`jaxlm COMMAND ...`, the same as `python -m jaxlm COMMAND ...`."""

import importlib
import pkgutil
import sys
from collections.abc import Sequence

import jaxlm
from jaxlm import commands, errors


def names() -> dict[str, str]:
  """Command -> module; `import` is a keyword, so its module is `import_`."""
  return {
    module.name.rstrip("_").replace("_", "-"): f"jaxlm.commands.{module.name}"
    for module in pkgutil.iter_modules(commands.__path__)
    if not module.name.startswith("_")
  }


def usage() -> str:
  """The list of commands, one line each."""
  lines = [f"jaxlm {jaxlm.__version__}: jaxlm COMMAND --help tells more.", ""]
  for name, module in names().items():
    doc = importlib.import_module(module).__doc__
    lines.append(f"  {name:<14} {doc.splitlines()[0]}")
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit code: 0, 2 for a mistake of the user."""
  argv = list(sys.argv[1:] if argv is None else argv)
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(usage())
    return 0
  if argv[0] in ("-V", "--version"):
    print(jaxlm.__version__)
    return 0
  try:
    if argv[0] not in names():
      raise errors.unknown("There is no command", argv[0], names())
    importlib.import_module(names()[argv[0]]).main(argv[1:])
  except errors.UserError as error:
    print(f"jaxlm: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("jaxlm: interrupted", file=sys.stderr)
    return 130
  except BrokenPipeError:  # `jaxlm ... | head`
    return 0
  return 0


if __name__ == "__main__":
  sys.exit(main())
