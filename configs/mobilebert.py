"""MobileBERT and its teacher IB-BERT (Sun et al., arXiv:2004.02984).

  jaxlm train --config=mobilebert --config.data.files='corpus/*.txt' \
      --workdir=runs/mobilebert

A thin 24-layer student (`base`, `small`, which the paper calls tiny) of a BERT
large with inverted bottlenecks (`teacher`). This trains them from scratch;
published: a teacher of BERT large's recipe, then 240k steps of layer-wise
transfer and 500k of distillation at 2,048 rows of 512 tokens with LAMB; GLUE
77.7, SQuAD v1.1 dev F1 90.0. Text as in configs/bert.py. `tiny` is for tests.
"""

from configs import common

# layers, width, inner, heads, feed-forward, feed-forwards, input of attention,
# table, vocabulary, length
SIZES = {
  "tiny": (2, 64, 32, 4, 64, 2, "shared", 24, 512, 64),
  "tiny_teacher": (2, 64, 128, 4, 256, 1, "stream", 24, 512, 64),
  "small": (24, 512, 128, 4, 512, 2, "bottleneck", 128, 30_522, 512),
  "base": (24, 512, 128, 4, 512, 4, "shared", 128, 30_522, 512),
  "teacher": (24, 512, 1024, 4, 4096, 1, "stream", 128, 30_522, 512),
}


def get_config(variant: str = "base"):
  """A student or, where the name says so, a teacher."""
  size = common.size(SIZES, variant)
  depth, width, inner, heads, hidden, count, reads, table, vocab, length = size
  teacher = "teacher" in variant
  activation = "gelu_tanh" if teacher else "relu"
  norm = dict(kind="layer_norm", epsilon=1e-12)
  config = common.base()
  config.steps = 500_000
  config.batch_size = 2_048
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="pairs"),
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(
    kind="wordpiece", vocab_size=vocab, lowercase=True, strip_accents=True
  )
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1 if teacher else 0.0,
    embeddings=dict(kind="trigram", types=2, table_width=table),
    positions=dict(kind="learned", max_length=512),
    norm=norm if teacher else dict(kind="no_norm"),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(
          kind="bottleneck",
          inner=inner,
          feedforwards=count,
          attention_input=reads,
        ),
        mixer=dict(
          kind="attention", heads=heads, head_dim=inner // heads, dropout=0.1
        ),
        feedforward=dict(kind="mlp", hidden=hidden, activation=activation),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(
      masked_lm=dict(
        kind="masked_lm",
        activation=activation,
        untied=width - table,
        norm=norm,
      ),
      next_sentence=dict(kind="classify", classes=2, dropout=0.0, pooler=False),
    ),
    initializer=dict(std=0.02, truncated=True),
  )
  config.objective = dict(kind="masked_lm_next_sentence")
  config.optimizer = dict(kind="lamb", learning_rate=1.5e-3, weight_decay=0.01)
  config.schedule = dict(kind="linear", warmup=0.02)
  if variant.startswith("tiny"):
    config.steps, config.batch_size = 300, 16
    config.optimizer = dict(kind="adamw", learning_rate=3e-3)
    config.schedule.warmup = 0.1
    config.model.initializer.std = 0.1
    config.model.dropout = config.model.layers.layer.mixer.dropout = 0.0
  return config
