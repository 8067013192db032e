"""Every objective over every kind of model: specs, documents and batches."""

import collections
import itertools

import jax
import numpy as np

from jaxlm import abilities, recipe
from jaxlm.data import order
from jaxlm.models import assembly, models, taught
from jaxlm.objectives import objectives
from jaxlm.types import Task
from tests import tiny

WIDTH, HEADS, VOCAB = tiny.WIDTH, tiny.HEADS, tiny.VOCAB
ROWS, LENGTH, TARGET = 4, tiny.LENGTH, 12
DOCUMENTS = ((7, 5), (6, 4), (8, 6), (5, 5))  # tokens, tokens of the target
PACKED = ((0, 1), (2, 3), (), ())
ALONE = ((0,), (1,), (2,), (3,))
CLASSES, WORDS = 3, 6

MASKED = dict(masked_lm=dict(kind="masked_lm"))
CLASSIFY = dict(classify=dict(kind="classify", classes=CLASSES))
EMBED = dict(embed=dict(kind="embed", projection="kept"))
VECTORS = dict(continuous=dict(kind="continuous", vector_width=WIDTH))
# objective -> the heads that it reads.
NEEDED = {
  "attention_distillation": MASKED,
  "bidirectional_lm": dict(bidirectional_lm=dict(kind="bidirectional_lm")),
  "causal_lm": dict(causal_lm=dict(kind="causal_lm")),
  "classification": CLASSIFY,
  "clear": MASKED | EMBED,
  "continuous_cosine": VECTORS,
  "continuous_l2": VECTORS,
  "continuous_margin": VECTORS,
  "continuous_vmf": VECTORS,
  "declutr": MASKED | EMBED,
  "e2s2": dict(seq2seq_lm=dict(kind="seq2seq_lm")),
  "masked_lm": MASKED,
  "masked_lm_next_sentence": MASKED
  | dict(next_sentence=dict(kind="classify", classes=CLASSES)),
  "masked_lm_span_boundary": MASKED
  | dict(span_boundary=dict(kind="span_boundary", place_width=8)),
  "regression": dict(regress=dict(kind="regress")),
  "replaced_token_detection": {},  # those that its towers must have
  "seq2seq": dict(seq2seq_lm=dict(kind="seq2seq_lm")),
  "simcse": MASKED | EMBED,
  "supervised_contrastive": CLASSIFY,
  "tacl": MASKED,
  "tagging": dict(tag=dict(kind="tag", classes=CLASSES)),
}
# What else tells what a pair refuses, and why; all others go together.
ONLY = {
  "bidirectional_lm": ("bidirectional_lm",),
  "causal_lm": ("decoder",),
  "e2s2": ("encoder_decoder",),
  "replaced_token_detection": ("two_tower",),
  "seq2seq": ("encoder_decoder",),
} | {
  kind: ("bidirectional_lm", "decoder")
  for kind in NEEDED
  if kind.startswith("continuous_")
}
WITHOUT = {
  "tacl": (
    "context_first_encoder",
    "narrow_encoder",
    "two_tower",
    "visible_encoder",
  ),
  # Its layers are of a kind that no linear attention imitates.
  "attention_distillation": ("mask_decoding_encoder",),
}
TAKES_NOTES = (
  "masked_lm",
  "masked_lm_next_sentence",
  "masked_lm_span_boundary",
)


def reason(objective: str, model: str) -> str | None:
  """A word of why the two cannot go together, or None."""
  if model not in ONLY.get(objective, (model,)):
    return "needs"
  if model == "note_taking_encoder" and objective not in TAKES_NOTES:
    return "drops"
  if model in WITHOUT.get(objective, ()):
    return "needs|imitates"
  return None


def pairs() -> list[tuple[str, str]]:
  """All of them."""
  return list(itertools.product(objectives.kinds(), models.kinds()))


def legal() -> list[tuple[str, str]]:
  """Those that go together."""
  return [pair for pair in pairs() if not reason(*pair)]


def few() -> list[tuple[str, str]]:
  """Some of these, such that each objective and each model is in one."""
  every, uses = legal(), collections.Counter()
  able = {o: [m for p, m in every if p == o] for o in objectives.kinds()}
  chosen = []
  for objective in sorted(able, key=lambda o: len(able[o])):  # the rare first
    model = min(able[objective], key=lambda m: uses[m])
    uses[model] += 1
    chosen.append((objective, model))
  return chosen


def parts(objective: str, model: str, rows=None):
  """Objective, model and batch of a pair, checked as a run's are.

  Args:
    objective, model: kinds.
    rows: the documents of each row, by default packed.

  Raises:
    UserError: they do not fit each other.
  """
  ways = 2 if model == "bidirectional_lm" else 1
  heads = {
    name: head | (dict(directions=ways) if head["kind"] == "continuous" else {})
    for name, head in NEEDED[objective].items()
  }
  spec = {"kind": objective} | FIELDS.get(objective, {})
  if "directions" in objectives.fields(objective):
    spec["directions"] = ways
  made = MODELS[model](heads)
  made = CHANGED.get(objective, lambda spec: spec)(made)
  return _checked(objectives.build(spec), assembly.build(made), rows or PACKED)


def _checked(objective, model, rows):
  abilities.check(objective, model)
  target = "decoder_inputs" in objective.features
  data = batch(rows, target=target, views="view_weights" in objective.features)
  recipe.check_features(objective, model, task(data))
  read = {"inputs", "segments", "positions", "types", "cls_positions"}
  read |= set(objective.features)
  if "decoder_inputs" in read:
    read |= {"decoder_segments", "decoder_positions"}
  read |= set(getattr(model, "features", ()))
  data = {key: value for key, value in data.items() if key in read}
  if getattr(objective, "teacher", False):
    model = taught.Taught(model)
  return objective, model, data


def task(data) -> Task:
  """Data that give the same batch at every step."""
  shapes = {
    key: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for key, value in data.items()
  }

  def batch_at(seed, step, shard=(0, 1)):
    del seed, step
    part = order.shard_slice(ROWS, shard)
    return {key: value[part] for key, value in data.items()}

  return Task("documents", shapes, batch_at, ROWS)


FIELDS = {
  # So cold that a sample is the likeliest token, whatever the key.
  "replaced_token_detection": dict(temperature=1e-6),
  "simcse": dict(masked_lm=0.1),
}


def encoder(heads, kind="encoder", **changes):
  """The spec of a model of one layer."""
  return tiny.model_spec(
    kind=kind,
    positions=dict(kind="learned", max_length=LENGTH),
    embeddings=dict(kind="token", types=2),
    heads=heads,
    **changes,
  )


def _tower(kind="encoder", **layer):
  made = encoder({}, kind)
  for key in ("embeddings", "heads", "vocab_size"):
    del made[key]
  return made | dict(layers=dict(layer=tiny.layer() | layer))


def _towers(kind, heads, **towers):
  common = {k: encoder({})[k] for k in ("width", "vocab_size", "embeddings")}
  return dict(kind=kind, towers=towers, heads=heads, **common)


CAUSAL = dict(mixer=dict(kind="attention", heads=HEADS, causal=True))
CROSS = dict(kind="cross_attention", heads=HEADS)


def _decoder(heads):
  layers = dict(layer=tiny.layer() | CAUSAL)
  return encoder(heads, "decoder", layers=layers)


def _encoder_decoder(heads):
  crossing = dict(block=dict(kind="pre_norm_cross"), cross=CROSS)
  decoder = _tower("decoder", **CAUSAL, **crossing)
  return _towers("encoder_decoder", heads, encoder=_tower(), decoder=decoder)


def _bidirectional(heads):
  tower = _tower(**CAUSAL)
  return _towers("bidirectional_lm", heads, forward=tower, backward=tower)


def _visible(heads):
  towers = dict(encoder=_tower(), decoder=_tower())
  return _towers("visible_encoder", heads, **towers)


def _narrow(heads):
  late = _tower(mixer=CROSS) | dict(positions=dict(kind="none"))
  return _towers("narrow_encoder", heads, encoder=_tower(), narrow=late)


def _mask_decoding(heads):
  mixer = dict(kind="disentangled_attention", heads=HEADS)
  layer = tiny.layer(block=dict(kind="post_norm")) | dict(mixer=mixer)
  positions = dict(kind="disentangled", max_distance=8, max_length=LENGTH)
  return encoder(heads, "mask_decoding_encoder") | dict(
    positions=positions | dict(buckets=0),
    layers=dict(layer=layer, last=layer),
    order=("layer", "last"),
  )


def _note_taking(heads):
  notes = dict(words=WORDS, reach=2)
  return encoder(heads, "note_taking_encoder", notes=notes)


def _two_tower(heads):
  judge = dict(replaced_token=dict(kind="replaced_token")) | heads
  judge = {k: v for k, v in judge.items() if k not in MASKED}
  towers = dict(generator=encoder(MASKED), discriminator=encoder(judge))
  return dict(kind="two_tower", vocab_size=VOCAB, towers=towers)


MODELS = {
  "bidirectional_lm": _bidirectional,
  "context_first_encoder": lambda heads: encoder(
    heads, "context_first_encoder"
  ),
  "decoder": _decoder,
  "encoder": encoder,
  "encoder_decoder": _encoder_decoder,
  "mask_decoding_encoder": _mask_decoding,
  "narrow_encoder": _narrow,
  "note_taking_encoder": _note_taking,
  "two_tower": _two_tower,
  "visible_encoder": _visible,
}


def imitating(spec):
  """The spec with linear attention in the place of softmax attention."""
  made = dict(spec)
  if "towers" in spec:
    towers = spec["towers"].items()
    made["towers"] = {name: imitating(tower) for name, tower in towers}
    return made
  made["layers"] = {
    name: layer | dict(mixer=_linear(layer["mixer"]))
    for name, layer in spec["layers"].items()
  }
  return made


def corrupted(spec):
  """The spec with a head that reads the encoder, where there is one."""
  if spec["kind"] != "encoder_decoder":  # others are refused as they are
    return spec
  return spec | dict(encoder_heads=dict(corruption=dict(kind="tag", classes=3)))


# objective -> what it changes of a model.
CHANGED = {"attention_distillation": imitating, "e2s2": corrupted}


def _linear(mixer):
  return (
    mixer | dict(kind="hedgehog") if mixer["kind"] == "attention" else mixer
  )


def batch(rows=PACKED, *, target=False, views=False) -> dict:
  """Documents in rows, with all that objectives and models read.

  Args:
    rows: the documents of each row.
    target: whether `targets` are those of a decoder beside the encoder.
    views: whether the documents of a row are views of one text.
  """
  made = [_row([document(n) for n in row]) for row in rows]
  found = {key: np.stack([row[key] for row in made]) for key in made[0]}
  side = "target_" if target else "own_"
  for key in ("targets", "weights"):
    found[key] = found[f"{side}{key}"]
  for key in ("own_targets", "own_weights", "target_targets", "target_weights"):
    del found[key]
  weights = found.pop("view_weights")[:, None]  # one group a row
  if views:
    found["view_weights"] = weights
  return found


def document(number: int) -> dict:
  """What belongs to the tokens, places and the target of a document."""
  rng = np.random.default_rng(number)
  size, target = DOCUMENTS[number]
  ids = lambda n: rng.integers(1, VOCAB, n).astype(np.int32)
  inputs, said = ids(size), ids(target)
  places = np.sort(rng.permutation(np.arange(1, size - 1))[:2])
  places = places.astype(np.int32)
  ahead = np.append(inputs[1:], 0).astype(np.int32)
  last = np.append(np.ones(size - 1), 0).astype(np.float32)
  return dict(
    tokens=dict(
      inputs=inputs,
      corrupted_inputs=ids(size),
      types=rng.integers(0, 2, size).astype(np.int32),
      own_targets=ahead,
      own_weights=last,
      tags=rng.integers(0, CLASSES, size).astype(np.int32),
      tag_weights=rng.integers(0, 2, size).astype(np.float32),
      note_ids=np.where(np.arange(size) == 2, 1 + number, 0).astype(np.int32),
      positions=np.arange(size, dtype=np.int32),
    ),
    target=dict(
      decoder_inputs=ids(target),
      decoder_positions=np.arange(target, dtype=np.int32),
      target_targets=said,
      target_weights=np.ones(target, np.float32),
    ),
    predictions=dict(
      predict_positions=places,
      predict_ids=ids(2),
      predict_weights=np.ones(2, np.float32),
      boundary_positions=np.stack([places - 1, places + 1], axis=1),
      boundary_offsets=np.zeros(2, np.int32),
      boundary_weights=np.ones(2, np.float32),
    ),
    sentences=dict(
      cls_positions=np.zeros(1, np.int32),
      labels=rng.integers(0, CLASSES, 1).astype(np.int32),
      label_weights=np.ones(1, np.float32),
      view_weights=np.ones(1, np.float32),
    ),
    visible=dict(visible_positions=np.delete(np.arange(size), places)),
    notes=dict(note_spans=np.array([[1 + number, 2, 3]])),
  )


# group -> (slots a row, keys whose values are places of the row).
SLOTS = {
  "tokens": (LENGTH, ()),
  "target": (TARGET, ()),
  "predictions": (4, ("predict_positions", "boundary_positions")),
  "sentences": (2, ("cls_positions",)),
  "visible": (LENGTH, ("visible_positions",)),
  "notes": (2, ("note_spans",)),
}


def _row(documents) -> dict:
  """The arrays of a row of documents, padded."""
  starts = np.cumsum([0] + [len(d["tokens"]["inputs"]) for d in documents])
  made = {}
  for group, (slots, places) in SLOTS.items():
    for key in document(0)[group]:
      values = [d[group][key] for d in documents]
      if key in places:
        shift = np.array([0, 1, 1] if key == "note_spans" else 1)
        values = [v + s * shift for v, s in zip(values, starts)]
      made[key] = _padded(key, values, slots)
  for key, size in (("segments", "tokens"), ("decoder_segments", "target")):
    name = {"tokens": "inputs", "target": "decoder_inputs"}[size]
    own = [np.full(len(d[size][name]), n + 1) for n, d in enumerate(documents)]
    made[key] = _padded(name, own, SLOTS[size][0])
  following = np.append(made["inputs"], 0)
  made["word_vectors"] = tiny.word_vectors(following)
  return made


def _padded(key, values, slots):
  empty = document(0)
  like = next(g[key] for g in empty.values() if key in g)
  fill = LENGTH if key == "visible_positions" else 0
  whole = np.full((slots, *like.shape[1:]), fill, np.int32)
  whole = whole.astype(np.float32 if like.dtype == np.float32 else np.int32)
  if values:
    joined = np.concatenate(values)
    whole[: len(joined)] = joined
  return whole
