"""Hyena (Poli et al., arXiv:2302.10866): a language model of convolutions.

  jaxlm train --config=hyena:small --config.data.files='corpus/*.txt' \
      --workdir=runs/hyena

Long convolutions in the place of attention, no positions. Rows are running
text: a long convolution crosses documents, as GPT-2's attention does. `small`
is Hyena-s of the Pile (batch 256, length 2048), without decay of the filters,
as released. `tiny` is for tests.
"""

from configs import common

# layers, width, vocabulary, length, units and features of a filter's network,
# rate, batch
SIZES = {
  "tiny": (2, 64, 512, 64, 16, 9, 2e-3, 32),
  "small": (18, 864, 50_257, 2048, 64, 33, 6e-4, 256),
}


def get_config(variant: str = "small"):
  """Hyena at a published size, or `tiny`."""
  depth, width, vocab, length, units, features, rate, batch = common.size(
    SIZES, variant
  )
  config = common.base()
  config.steps = "15e9 tokens"
  config.batch_size = batch
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="chunks", cross_document=True),
    corruption=dict(kind="causal"),
  )
  config.tokenizer = dict(kind="byte_bpe", vocab_size=vocab, template="gpt2")
  config.model = dict(
    kind="decoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="token", pad_to_multiple=8),
    positions=dict(kind="none"),
    norm=dict(kind="layer_norm", epsilon=1e-5),
    final_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm", dropout=0.0),
        mixer=dict(
          kind="hyena",
          causal=True,
          max_length=length,
          filter_features=features,
          filter_units=units,
          filter_frequency=14.0,
        ),
        feedforward=dict(kind="mlp", hidden=2 * width, activation="gelu_tanh"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(causal_lm=dict(kind="causal_lm")),
    initializer=dict(std=0.02, scaled_output=True),
  )
  config.objective = dict(kind="causal_lm")
  adam = dict(kind="adamw", b1=0.9, b2=0.98, eps=1e-8)
  config.optimizer = dict(
    kind="groups",
    learning_rate=rate,
    groups=dict(
      filters=dict(
        paths="mixer/filter/", optimizer=dict(adam, weight_decay=0.0)
      ),
      rest=dict(paths="", optimizer=dict(adam, weight_decay=0.1)),
    ),
  )
  config.schedule = dict(kind="cosine", warmup=0.01, final=0.1)
  return config
