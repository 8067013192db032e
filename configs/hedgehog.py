"""Hedgehog (Zhang et al., arXiv:2402.04347): linear attention that imitates.

From scratch, feature maps and all (`base` is BERT's size, `causal` GPT-2's):

  jaxlm train --config=hedgehog:base --config.data.files='corpus/*.txt' \
      --workdir=runs/hedgehog

Pre-trained conversion of a softmax model, here runs/bert: distil, then train
on (`distil_causal`, `convert_causal` for a decoder such as runs/gpt2):

  jaxlm train --config=hedgehog:distil --config.init_from=runs/bert \
      --config.data.files='corpus/*.txt' --workdir=runs/distilled
  jaxlm train --config=hedgehog:convert --config.init_from=runs/distilled \
      --config.data.files='corpus/*.txt' --workdir=runs/converted

Fine-tuned conversion of runs/task: distil on the task's own text, then
fine-tune the linear model:

  jaxlm train --config=hedgehog:distil_task --config.init_from=runs/task \
      --config.data.files=train.tsv --config.data.text=sentence \
      --config.data.label=label --workdir=runs/distilled
  jaxlm train --config=finetune:classification ... \
      --config.init_from=runs/distilled --workdir=runs/converted

`config.model.replace` puts Hedgehog in the place of attention and keeps its
weights. Published (125M, WikiText-103): 16.7 perplexity after conversion of
GPT-2. Its epochs and rates are unpublished; distillation at 1e-2 without
decay is that of LoLCATs, by the same group. `tiny` is for tests.
"""

from configs import common, gpt2

# layers, width, heads, feed-forward, vocabulary, length, peak rate
SIZES = {
  "tiny": (2, 64, 4, 128, 512, 64, 3e-3),
  "base": (12, 768, 12, 3072, 30_522, 512, 5e-4),
  "causal": (),
  "distil": (),
  "distil_causal": (),
  "distil_task": (),
  "convert": (),
  "convert_causal": (),
}
_MIXER = dict(kind="hedgehog")


def get_config(variant: str = "base"):
  """Hedgehog from scratch, or a step of a conversion."""
  size = common.size(SIZES, variant)
  if size:
    config = _from_scratch(*size)
    return common.small(config, 3e-3) if variant == "tiny" else config
  if variant == "causal":
    config = gpt2.get_config("small")
    config.model.layers.layer.mixer = dict(_MIXER, heads=12, causal=True)
    return config
  step, _, data = variant.partition("_")
  return _conversion(step, data)


def _from_scratch(depth, width, heads, hidden, vocab, length, rate):
  config = common.base()
  config.steps = 100_000
  config.batch_size = 256
  config.data = _data("", length)
  config.tokenizer = dict(kind="wordpiece", vocab_size=vocab, lowercase=True)
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="token"),
    positions=dict(kind="learned", max_length=512),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm"),
        mixer=dict(_MIXER, heads=heads),
        feedforward=dict(kind="mlp", hidden=hidden, activation="gelu"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=0.02, truncated=True),
  )
  config.optimizer = dict(
    kind="adamw", learning_rate=rate, b2=0.98, eps=1e-6, weight_decay=0.01
  )
  config.schedule = dict(kind="linear", warmup=0.06)
  return config


def _conversion(step, data):
  config = common.base()
  config.steps = "2 epochs" if step == "distil" else "1 epochs"
  config.batch_size = 32
  config.data = _data(data, 512)
  config.tokenizer = dict()  # that of the model to start from
  config.model = dict(replace=dict(mixer=_MIXER))
  if step == "distil":
    config.objective = dict(kind="attention_distillation")
    config.optimizer = dict(
      kind="groups",
      learning_rate=1e-2,
      groups=dict(
        maps=dict(
          paths="(query|key)_map/",
          optimizer=dict(kind="adamw", weight_decay=0.0),
        ),
        rest=dict(paths="", optimizer=dict(kind="frozen")),
      ),
    )
    config.schedule = dict(kind="constant")
    return config
  causal = data == "causal"
  config.objective = dict(kind="causal_lm" if causal else "masked_lm")
  config.optimizer = dict(kind="adamw", learning_rate=1e-4, weight_decay=0.01)
  config.schedule = dict(kind="linear", warmup=0.06)
  return config


def _data(kind, length):
  """Running text to predict, or the labelled text of a task."""
  if kind == "task":
    return dict(
      kind="labelled",
      files="",
      validation_files="",
      task="classification",
      text="text",
      label="label",
      length=128,
    )
  if kind == "causal":
    return dict(
      kind="packed",
      files="",
      length=length,
      arrangement=dict(kind="chunks", cross_document=False),
      corruption=dict(kind="causal"),
    )
  return dict(
    kind="packed",
    files="",
    length=length,
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
