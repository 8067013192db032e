"""The demo's model: a small MosaicBERT-style encoder for two CPU cores.

  make demo        # or: jaxlm demo --workdir=runs/demo

Pre-norm GEGLU layers with ALiBi (arXiv:2312.17482) and rotary positions, as
symmetric ALiBi cannot tell left from right; trained for minutes on the
documentation of Python's standard library. `pretrain` and `finetune` are
its two halves; what it measured stands in docs/benchmarks.md.
"""

from configs import common

# number of steps
SIZES = {"pretrain": 1500, "finetune": 250, "tiny": 20}


def get_config(variant: str = "pretrain"):
  """One half of the demo; `tiny` is the first half for tests."""
  config = common.base()
  config.steps = common.size(SIZES, variant)
  config.clip_norm = 1.0
  config.log.every = 20
  if variant == "finetune":
    return _finetune(config)
  tiny = variant == "tiny"
  config.batch_size = 8 if tiny else 16
  config.data = dict(
    kind="packed",
    files="",
    validation_files="",
    length=64,
    corruption=dict(kind="masking", rate=0.2),
    evaluation_corruption=dict(kind="masking", rate=0.15),
  )
  config.tokenizer = dict(
    kind="wordpiece", vocab_size=512 if tiny else 2048, lowercase=True
  )
  width = 32 if tiny else 128
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.0,
    embeddings=dict(kind="token"),
    positions=dict(kind="alibi"),
    norm=dict(kind="layer_norm", epsilon=1e-6),
    input_norm=True,
    final_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm"),
        mixer=dict(kind="attention", heads=4, positions=dict(kind="rotary")),
        feedforward=dict(kind="gated", hidden=2 * width, output_bias=True),
      )
    ),
    order=("layer",),
    depth=1 if tiny else 3,
    # Unrolled: three layers compile fast, and XLA's CPU code fuses better.
    stack=dict(kind="sequential"),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    # 1 / sqrt(width): at 0.02 so narrow a model hardly starts to learn.
    initializer=dict(std=0.08, truncated=True),
  )
  config.optimizer = dict(
    kind="adamw", learning_rate=2e-3, b2=0.98, eps=1e-6, weight_decay=0.01
  )
  config.schedule = dict(kind="linear", warmup=0.06, final=0.02)
  config.checkpoint = dict(every=500, keep=1)
  config.evaluation = dict(every=200, batches=8)
  return config


def _finetune(config):
  config.batch_size = 32
  config.data = dict(
    kind="labelled",
    files="",
    validation_files="",
    task="classification",
    text="text",
    label="label",
    length=64,
  )
  config.tokenizer = dict()
  config.model = dict(heads=dict(classify=dict(kind="classify", dropout=0.1)))
  config.objective = dict(kind="classification")
  config.optimizer = dict(
    kind="adamw", learning_rate=1e-3, b2=0.98, eps=1e-6, weight_decay=0.01
  )
  config.schedule = dict(kind="linear", warmup=0.1)
  config.checkpoint = dict(every=0, keep=1)
  config.evaluation = dict(every=0, batches=0)
  return config
