"""Contrast beside a masked LM from nothing: CLEAR, DeCLUTR, and without it.

  python -m benchmarks.contrast --shared=../shared/data --study=clear

Both arms of a study see the same rows, masks, rewordings and spans, and run the
same FLOPs; without contrast its temperature is so high that it has no gradient.
Told are the held-out masked LM, and of the sentences of STS-B's development set
what `anisotropy.py` tells, by means of the last layer. Nothing is selected on
it.
"""

import argparse
import json
import pathlib
import tempfile
import time

import jax

from benchmarks import _machine, anisotropy, claims
from jaxlm import errors

FLAT = 1e6  # a temperature at which all candidates are alike
_MASKS = dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1)
_EMBED = dict(kind="embed", pooling="mean", projection="training")


def _clear(args):
  """Wikipedia's sentences in two wordings."""
  data = dict(
    kind="sentences",
    files=f"{args.shared}/simcse/wiki-sentences.txt.gz",
    length=args.length,
    masking=_MASKS,
    augment=dict(delete_words=dict(rate=0.2), reorder={}),
    validation_share=0.05,
  )
  return data, dict(kind="clear", temperature=0.1)


def _declutr(args):
  """Spans of WikiText-2's sections."""
  data = dict(
    kind="spans",
    files=f"{args.shared}/text/wikitext-2/train.txt.gz",
    length=args.length,
    shortest=args.length // 4,
    masking=_MASKS,
    validation_share=0.05,
  )
  return data, dict(kind="declutr", temperature=0.05)


STUDIES = {"clear": _clear, "declutr": _declutr}


def arms(args) -> dict[str, dict]:
  """name -> config."""
  data, objective = STUDIES[args.study](args)
  config = claims.ordinary(args) | dict(data=data, objective=objective)
  config["model"]["heads"] |= dict(embed=_EMBED)
  config |= dict(
    checkpoint=dict(every=0, keep=1),
    evaluation=dict(every=0, batches=8),
    log=dict(every=50, progress=False, tensorboard=False),
  )
  flat = config | dict(objective=objective | dict(temperature=FLAT))
  return {"with contrast": config, "without": flat}


def main(argv=None) -> None:
  """Trains, measures and prints the table."""
  args = arguments(argv)
  folder = pathlib.Path(tempfile.mkdtemp(prefix="contrast-"))
  jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
  begin, found = time.process_time(), {}
  for arm, config in arms(args).items():
    found[arm] = []
    for seed in range(args.seeds):
      place, own = folder / f"{len(found)}-{seed}", config | dict(seed=seed)
      found[arm].append(anisotropy.told(arm, own, place, args))
      if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found))
  print(
    f"{_machine.named()}; study {args.study}, {args.steps} steps of "
    f"{args.rows} rows, {time.process_time() - begin:.0f} s of process time"
  )
  print(anisotropy.table(found, (*anisotropy.KEYS, "positive_cosine")))


def arguments(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--shared", required=True, help="the shared data")
  parser.add_argument("--study", required=True, help=", ".join(STUDIES))
  parser.add_argument("--rows", type=int, default=64)
  parser.add_argument("--length", type=int, default=48, help="of a text")
  parser.add_argument("--vocabulary", type=int, default=2048)
  parser.add_argument("--rate", type=float, default=3e-3)
  parser.add_argument("--steps", type=int, default=600)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--json", default="", help="where numbers are kept")
  args = parser.parse_args(argv)
  if args.study not in STUDIES:
    parser.error(str(errors.unknown("No study is", args.study, STUDIES)))
  args.files = ""  # of `claims.ordinary`, whose data are not read
  return args


if __name__ == "__main__":
  main()
