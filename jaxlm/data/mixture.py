"""A mixture of sources, and a curriculum: rates that change with the steps.

The rates of a seqio Mixture (Raffel et al., arXiv:1910.10683, section 3.5.2):
each source is an endless stream in its own order, and its rate, over the sum
of all, is the share of rows that it gives. Here the share is kept in every
batch up to one row, and the batch of a step is a function of (seed, step),
so that a restart lands on the same rows. Stages make a curriculum (Bengio et
al., ICML 2009): other rates from a step on.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxlm import errors
from jaxlm import files as io
from jaxlm.data import _shares, _vocabulary, datasets
from jaxlm.data.packed import Packed
from jaxlm.data.prepared import Prepared
from jaxlm.data.tasks import copies_of

_GIVEN = ("length", "arrangement", "corruption", "evaluation_corruption")


@datasets.register(
  "mixture",
  paper="arXiv:1910.10683",
  example={
    "sources": {
      "near": {"kind": "packed", "files": "nepali/*.txt"},
      "far": {"kind": "packed", "files": "hindi/*.txt"},
    },
    "rates": {"near": 0.8, "far": 0.2},
  },
)
@dataclasses.dataclass(frozen=True)
class Mixture:
  """Rows of several packed sources at rates, which may change by stages.

  One vocabulary serves all; it is trained on the documents of all sources.

  Attributes:
    sources: name -> spec of a data set of packed text.
    rates: name -> relative rate, 0 where left out; {} for the rows of each,
      as if all were one corpus.
    stages: name -> dict(start=STEP, rates=...), from that step on.
    length, arrangement, corruption, evaluation_corruption: of all sources that
      do not set their own.
  """

  sources: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  stages: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  length: int = 128
  arrangement: Mapping[str, Any] | None = None
  corruption: Mapping[str, Any] | None = None
  evaluation_corruption: Mapping[str, Any] | None = None

  def __post_init__(self):
    if not isinstance(self.sources, Mapping) or not self.sources:
      raise errors.UserError(
        "data.sources is empty: expected dict(NAME=dict(kind='packed', "
        "files=...), ...)."
      )
    for name, part in self._parts.items():
      self._check(name, part)
    if self.rates or self.stages:
      self._stages({name: 1 for name in self._parts})

  @functools.cached_property
  def _parts(self) -> dict[str, Any]:
    """The data sets of the sources, in the order of their names."""
    given = {
      name: value
      for name in _GIVEN
      if (value := getattr(self, name)) is not None
    }
    return {
      name: datasets.build(self.sources[name], **given)
      for name in sorted(self.sources)
    }

  @property
  def packs(self) -> bool:
    """Whether a row may hold documents that must not see each other."""
    return any(part.packs for part in self._parts.values())

  def prepare(
    self,
    *,
    tokenizer,
    workdir,
    batch_size: int,
    seed: int,
    report=print,
    progress=lambda what, done: None,
  ) -> Prepared:
    """Makes what is missing: one vocabulary, and a cache of each source.

    Caches lie in workdir/sources/NAME. Arguments are those of `Packed`.

    Raises:
      UserError: as of `Packed`, or sources whose rows differ in shape.
    """
    workdir = pathlib.Path(workdir)
    tokenizer = self._vocabulary(tokenizer, workdir, seed, report)
    caches, facts = {}, {}
    for name, part in self._parts.items():
      _, caches[name] = part.build(
        tokenizer=tokenizer,
        workdir=workdir / "sources" / name,
        seed=seed,
        report=lambda line, name=name: report(f"{name}: {line}"),
        progress=progress,
      )
      facts[name] = part.facts(tokenizer, caches[name])
    rows = {name: cache.rows("train") for name, cache in caches.items()}
    if empty := [name for name, count in rows.items() if not count]:
      raise errors.UserError(
        f"data.sources.{empty[0]} has no document to train on: all of it is "
        "held out. Lower its validation_share."
      )
    stages = self._stages(rows)
    for stage in stages:
      report(f"Mixture: {self._told(stage, batch_size)}.")
    train, held_out = self._tasks(caches, tokenizer, batch_size, stages)
    return Prepared(
      tokenizer, train, held_out, self._facts(tokenizer, facts, stages)
    )

  def tokenizer_report(
    self, *, tokenizer, workdir, seed: int, report=print
  ) -> dict[str, Any]:
    """Makes the vocabulary where it is missing, and measures how it fits."""
    from jaxlm.data.tokenizers import reporting

    made = self._vocabulary(tokenizer, pathlib.Path(workdir), seed, report)
    found = {"measured_on": "train"} | reporting.report(made, self._texts())
    for name, part in self._parts.items():
      own = reporting.report(made, (text for _, text in part.texts()))
      found |= {f"{name}.{key}": own[key] for key in reporting.FIT}
    return found

  def _texts(self) -> Iterator[str]:
    for part in self._parts.values():
      yield from (text for split, text in part.texts() if split == "train")

  def _vocabulary(self, tokenizer, workdir, seed, report):
    found = []
    for name, part in self._parts.items():
      read = [part.fingerprints()["files"], part.reading()]
      found.append({"sha256": io.digest([name, [_hashes(read[0]), read[1]]])})
    return _vocabulary.obtain(
      tokenizer,
      workdir / "tokenizer",
      documents=self._texts,
      sources=found,
      seed=seed,
      report=report,
    )

  def _stages(self, rows: Mapping[str, int]) -> tuple[_shares.Stage, ...]:
    return _shares.stages(list(self._parts), self.rates or rows, self.stages)

  def _tasks(self, caches, tokenizer, batch_size, stages):
    from jaxlm.data import _stitched, tasks

    def sources(split, place):
      return [
        _stitched.Source(
          name,
          tasks.Reader(
            caches[name],
            split,
            part.corruptions()[place],
            tokenizer,
            part.length,
          ),
          part.rows_of_entries,
        )
        for name, part in self._parts.items()
        if caches[name].rows(split)
      ]

    shares = _shares.Shares(batch_size, stages)
    train = _stitched.training(sources("train", 0), shares)
    held_out = sources("validation", 1)
    return train, held_out and _stitched.evaluation(held_out, batch_size)

  def _check(self, name, part) -> None:
    where = f"data.sources.{name}"
    if not (isinstance(part, Packed) and part.mixes):
      raise errors.UserError(
        f"{where} is of kind '{self.sources[name]['kind']}', whose rows "
        "cannot be mixed: sources are packed text, such as dict(kind='packed', "
        "files=...)."
      )
    if part.rows_of_entries is None:
      raise errors.UserError(
        f"{where}.order is '{part.order['kind']}', which follows batches; in a "
        "mixture it is 'shuffled' or 'kept'."
      )
    if any(copies_of(c, part.length) > 1 for c in part.corruptions()):
      raise errors.UserError(
        f"{where}.corruption makes several rows of one, and in a mixture it "
        "makes one: leave its copies out."
      )

  def _told(self, stage, batch_size) -> str:
    total = sum(stage.rates)
    rates = ", ".join(
      f"{name} {rate / total:.1%} ({batch_size * rate / total:.1f} rows)"
      for name, rate in zip(self._parts, stage.rates)
    )
    return f"from step {stage.start}, {rates} of a batch"

  def _facts(self, tokenizer, facts, stages) -> dict[str, Any]:
    shown = [
      {"start": stage.start, "rates": dict(zip(self._parts, stage.rates))}
      for stage in stages
    ]
    caches = [own["cache_sha256"] for own in facts.values()]
    return {
      "vocab_size": tokenizer.vocab_size,
      "tokenizer_sha256": tokenizer.sha256,
      "cache_sha256": io.digest(caches),
      "length": self.length,
      "sources": facts,
      "stages": shown,
    }


def _hashes(fingerprint) -> list[str]:
  return [source["sha256"] for source in fingerprint]
