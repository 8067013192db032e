"""What an output over words costs: vectors against softmaxes of four kinds.

  taskset -c 1 python -m benchmarks.output_layers --files=a.txt,b.txt
  python -m benchmarks.output_layers --files=a.txt --seconds=20 --seeds=3

Whole training steps of ELMo's LSTMs and of a causal transformer, each with
`continuous` (the vectors of `--vectors`, a JSON spec), `subword` (the whole
softmax over pieces), `adaptive`, `sampled` and `whole` (the softmax over all
words) outputs, as seconds for as many words; then output layers alone, at
several sizes of the vocabulary. All contenders of a table take turns in rounds,
so that what else the machine does falls on all. With `--seconds` the
transformer is also trained with each output over words, for as many seconds by
the race's medians, and asked for held-out words.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxlm
from benchmarks import _training
from benchmarks.visible_only import Timed
from configs import elmo_c
from jaxlm import configuration, sharding
from jaxlm.data import datasets, word_vectors
from jaxlm.evaluation import neighbours, predict
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.heads import heads
from jaxlm.training import evaluate as evaluation
from jaxlm.training.step import Clock

_SETTLE = 0.7  # seconds
ENCODERS = ("lstm", "transformer")
FIRST = "continuous"
OUTPUTS = (FIRST, "subword", "adaptive", "sampled", "whole")
# Of the seed: seconds of others to those of continuous outputs, for 1M words
# on 4 GPUs, of ELMo's encoder and of a base transformer.
TOLD = {
  "lstm": {"subword": 1.55, "adaptive": 1.89, "sampled": 1.91},
  "transformer": {"subword": 1.78, "adaptive": 2.62, "sampled": 2.91},
}


def config_of(encoder: str, output: str, args) -> dict:
  """The config of one contender."""
  size = elmo_c.Size(
    encoder,
    output,
    width=args.width,
    inner=4 * args.width,
    depth=args.layers,
    heads=args.heads,
    vocab=args.vocabulary,
    samples=args.samples,
    cutoffs=tuple(args.cutoffs),
  )
  config = elmo_c.get_config("tiny")
  config.batch_size, config.data.length = args.rows, args.length
  config.data.files, config.data.validation_share = args.files, 0.02
  config.data.vectors = dict(args.vectors)
  config.tokenizer.vocab_size = args.vocabulary
  config.model = elmo_c.ENCODERS[encoder](size)
  config.optimizer.learning_rate = args.learning_rate
  if output in elmo_c.OUTPUTS:
    elmo_c.OUTPUTS[output](config, size)
    return configuration.complete(config)
  ways = 2 if encoder == "lstm" else 1
  task = "bidirectional_lm" if ways == 2 else "causal_lm"
  config.model.heads = {task: dict(kind=task, tied=False)}
  config.objective = dict(kind=task)
  if output == "subword":  # pieces have learned rows: their own table
    config.data.kind = "packed"
    del config.data["vectors"]
    config.data.corruption = dict(kind="causal")
    config.tokenizer = dict(kind="wordpiece", vocab_size=args.pieces)
    config.model.embeddings = dict(kind="token")
  return configuration.complete(config)


def prepared_of(config, folder: pathlib.Path):
  """The data of a contender; one workdir for words, one for pieces."""
  data = datasets.build(config["data"])
  return data.prepare(
    tokenizer=config["tokenizer"],
    workdir=folder / config["data"]["kind"],
    batch_size=config["batch_size"],
    seed=0,
    report=lambda line: print(line, file=sys.stderr, flush=True),
  )


def steps(encoder: str, args, folder) -> list[dict]:
  """Whole steps of one encoder with every output: seconds a round."""
  runners, words = {}, {}
  for output in args.outputs:
    config = config_of(encoder, output, args)
    made = prepared_of(config, folder)
    runners[output] = Timed(config, made)
    words[output] = made.facts["train"]["tokens"]
    print(f"{encoder} {output}: compiled", file=sys.stderr, flush=True)
  seconds = turns({n: stepping(r) for n, r in runners.items()}, args)
  pieces = words.get("subword", 1) / words[FIRST]
  return [
    dict(
      encoder=encoder,
      output=output,
      tokens_a_word=pieces if output == "subword" else 1.0,
      parameters=_count(runners[output]),
      seconds=[s * (pieces if output == "subword" else 1.0) for s in found],
    )
    for output, found in seconds.items()
  ]


def stepping(runner):
  """A call that takes the next step of a runner."""
  state, number = runner.fresh(0), itertools.count()

  def call():
    nonlocal state
    state = jax.block_until_ready(runner.update(state, 0, next(number)))

  return call


def turns(calls, args) -> dict[str, list[float]]:
  """CPU seconds of every call, one after the other in each round.

  CPU time, because a short call on a busy machine mostly waits for its turn,
  all the longer after a long one: run it on one core.
  """
  found = {name: [] for name in calls}
  for call in calls.values():
    call()  # warm
  for _ in range(args.rounds):
    for name, call in calls.items():
      time.sleep(_SETTLE)  # what the last call held is still being freed
      start = time.process_time()
      for _ in range(args.steps):
        call()
      found[name].append((time.process_time() - start) / args.steps)
  return found


def _count(runner) -> int:
  shapes = runner.fresh(0).params
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def layer(kind: str, vocab: int, args, places: int = 1280, width: int = 512):
  """One output alone, forward and backward: a call that takes its time."""
  specs = {
    FIRST: dict(kind="continuous", vector_width=args.vectors["width"]),
    "adaptive": dict(
      kind="adaptive_softmax", cutoffs=(vocab // 25, vocab // 5)
    ),
    "sampled": dict(
      kind="sampled_softmax", samples=min(args.samples, vocab // 2)
    ),
    "whole": dict(kind="causal_lm", tied=False),
  }
  head = heads.build(specs[kind])
  table = embeddings.build({"kind": "token"}, vocab_size=vocab, width=width)
  random = np.random.default_rng(0)
  chance = np.log1p(1 / np.arange(1.0, vocab + 1))
  targets = random.choice(vocab, (1, places), p=chance / chance.sum())
  batch = dict(targets=jnp.asarray(targets, jnp.int32))
  batch["weights"] = jnp.ones((1, places))
  hidden = jnp.asarray(random.standard_normal((1, places, width)), jnp.float32)
  params = head.init(jax.random.key(0), hidden, {}, table, _Training(False))

  def loss(params, hidden, batch):
    rngs = {"dropout": jax.random.key(1)}
    out = head.apply(params, hidden, batch, table, _Training(True), rngs=rngs)
    if kind == FIRST:
      return jnp.sum(jnp.square(out))
    if kind == "whole":
      chosen = jnp.take_along_axis(out, batch["targets"][..., None], -1)
      return jnp.sum(jax.nn.logsumexp(out, -1) - chosen[..., 0])
    return jnp.sum(out.nats)

  run = jax.jit(jax.grad(loss, (0, 1)))
  return lambda: jax.block_until_ready(run(params, hidden, batch))


@dataclasses.dataclass(frozen=True)
class _Training:
  """What heads ask of a context."""

  train: bool


def layers(vocab: int, args) -> list[dict]:
  """Output layers alone, in turns."""
  kinds = (FIRST, "adaptive", "sampled", "whole")
  calls = {kind: layer(kind, vocab, args) for kind in kinds}
  seconds = turns(calls, args)
  return [dict(output=k, vocab=vocab, seconds=s) for k, s in seconds.items()]


def learned(results, args, folder) -> list[dict]:
  """Held-out words that are right, after equal seconds, by output."""
  medians = {
    r["output"]: statistics.median(r["seconds"])
    for r in results
    if r["encoder"] == "transformer"
  }
  found = []
  for output in (n for n in args.outputs if n != "subword"):
    config = config_of("transformer", output, args)
    made = prepared_of(config, folder)
    number = config["steps"] = max(1, round(args.seconds / medians[output]))
    runner = Timed(config, made)
    judge = _judge(runner.plan, made, args, folder)
    scores = [
      judge(_trained(runner, made, seed, number)) for seed in range(args.seeds)
    ]
    found.append(dict(output=output, steps=number, accuracy=scores))
    print(found[-1], file=sys.stderr, flush=True)
  share = _commonest(predict.epoch(made.validation, batches=args.batches))
  return [*found, dict(output="commonest word", steps=0, accuracy=[share])]


def _commonest(batches) -> float:
  """Share of the word that is most often right."""
  words = [b["targets"][b["weights"] > 0] for _, b in batches]
  return float(np.bincount(np.concatenate(words)).max() / sum(map(len, words)))


def _trained(runner, made, seed, number):
  """The state after so many steps on batches of the seed."""
  plan, state = runner.plan, runner.fresh(seed)
  for step in range(number):
    batch = sharding.shard_batch(made.train.batch_at(seed, step), plan.mesh)
    clock = Clock(np.int32(step), np.int32(step))
    state = runner.step(state, batch, clock)[0]
  return state


def _judge(plan, made, args, folder):
  """From a state to the share of held-out words that it guesses first."""
  if FIRST in plan.model.heads:
    table = word_vectors.table(folder / "word_vectors")

    def near(state):
      some = predict.epoch(made.validation, batches=args.batches)
      params = {"params": state.params}
      return neighbours.measure(plan.model, params, some, table)["accuracy@1"]

    return near
  step = evaluation.make_eval_step(plan.model, plan.objective)
  held = made.validation, plan.mesh, args.batches
  return lambda state: evaluation.evaluate(step, plan.objective, state, *held)[
    "accuracy"
  ]


def table_of_steps(results) -> str:
  """Ratios of rounds to the continuous output's, and the seed's."""
  lines = [
    "| encoder | output | parameters | CPU ms a step's words | × continuous "
    "(least to most) | told |",
    "|---|---|---|---|---|---|",
  ]
  for result in results:
    first = next(
      r
      for r in results
      if r["encoder"] == result["encoder"] and r["output"] == FIRST
    )
    told = TOLD[result["encoder"]].get(result["output"])
    lines.append(
      f"| {result['encoder']} | {result['output']} "
      f"| {result['parameters'] / 1e6:.2f}M "
      f"| {1e3 * statistics.median(result['seconds']):.0f} "
      f"| {_training.ratio_cell(result, first)} "
      f"| {f'{told:.2f}x' if told else ''} |"
    )
  return "\n".join(lines)


def table_of_layers(results) -> str:
  """Milliseconds of layers alone, a row a vocabulary."""
  lines = ["| words | output | CPU ms | × continuous |", "|---|---|---|---|"]
  for result in results:
    first = next(
      r
      for r in results
      if r["vocab"] == result["vocab"] and r["output"] == FIRST
    )
    lines.append(
      f"| {result['vocab']:,} | {result['output']} "
      f"| {1e3 * statistics.median(result['seconds']):.1f} "
      f"| {_training.ratio_cell(result, first)} |"
    )
  return "\n".join(lines)


def table_of_learned(results) -> str:
  """Held-out accuracy after equal seconds, over seeds."""
  lines = ["| output | steps | right first guesses |", "|---|---|---|"]
  for result in results:
    found = result["accuracy"]
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    lines.append(
      f"| {result['output']} | {result['steps']} "
      f"| {100 * statistics.fmean(found):.2f}% ± {100 * spread:.2f} |"
    )
  return "\n".join(lines)


def arguments(argv=None):
  made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  made.add_argument("--files", required=True, help="text files, by commas")
  made.add_argument("--encoders", default=",".join(ENCODERS))
  made.add_argument("--outputs", default=",".join(OUTPUTS))
  made.add_argument("--vocabulary", type=int, default=50_000)
  made.add_argument("--pieces", type=int, default=8_000)
  made.add_argument("--samples", type=int, default=8_192)
  made.add_argument("--cutoffs", default="2000,10000")
  made.add_argument("--vectors", default='{"kind": "hashed", "width": 300}')
  made.add_argument("--rows", type=int, default=20)
  made.add_argument("--length", type=int, default=64)
  made.add_argument("--width", type=int, default=128)
  made.add_argument("--layers", type=int, default=2)
  made.add_argument("--heads", type=int, default=4)
  made.add_argument("--learning_rate", type=float, default=3e-3)
  made.add_argument("--rounds", type=int, default=5)
  made.add_argument("--steps", type=int, default=2, help="of a round")
  made.add_argument("--alone", default="8000,50000,200000")
  made.add_argument("--seconds", type=float, default=0.0, help="of training")
  made.add_argument("--seeds", type=int, default=3)
  made.add_argument("--batches", type=int, default=10, help="of evaluation")
  made.add_argument("--folder", default="", help="keeps prepared data")
  made.add_argument("--json", default="")
  args = made.parse_args(argv)
  args.files, args.outputs = args.files.split(","), args.outputs.split(",")
  args.vectors = json.loads(args.vectors)
  for name in ("cutoffs", "alone"):
    found = getattr(args, name)
    setattr(args, name, [int(n) for n in found.split(",") if n])
  return args


def main(argv=None):
  args = arguments(argv)
  folder = pathlib.Path(args.folder or tempfile.mkdtemp(prefix="outputs-"))
  print(
    f"jaxlm {jaxlm.__version__}, jax {jax.__version__}, {platform.machine()}, "
    f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
  )
  found = [
    r for name in args.encoders.split(",") for r in steps(name, args, folder)
  ]
  print(table_of_steps(found), flush=True)
  alone = [r for vocab in args.alone for r in layers(vocab, args)]
  print("\n" + table_of_layers(alone), flush=True)
  scores = learned(found, args, folder) if args.seconds else []
  if scores:
    print("\n" + table_of_learned(scores), flush=True)
  if args.json:
    every = dict(steps=found, layers=alone, learned=scores)
    pathlib.Path(args.json).write_text(json.dumps(every))


if __name__ == "__main__":
  main()
