"""M2-BERT (Fu et al., Monarch Mixer, arXiv:2310.12109): no attention.

  jaxlm train --config=m2bert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/m2

Gated long convolutions and block-diagonal feed-forwards; rows of one document,
since a long convolution crosses documents. Published GLUE: 79.9 (80M), 80.9
(base, 110M), 82.2 (260M), 82.8 (large, 341M). The released recipe, with the
decay of its optimizer in the usual form (see mosaicbert): the network of the
filters that look back has a rate of 1e-3 and loses a tenth of each weight a
step at that rate, features of time have a rate of 1e-5 and no decay. `tiny` is
for tests.
"""

from configs import common

# width, layers, vocabulary, length, peak learning rate, batch
SIZES = {
  "tiny": (64, 2, 512, 64, 1e-3, 32),
  "80m": (768, 12, 30_522, 128, 8e-4, 4096),
  "base": (960, 12, 30_522, 128, 8e-4, 4096),
  "260m": (1536, 12, 30_522, 128, 8e-4, 4096),
  "large": (1792, 12, 30_522, 128, 8e-4, 4096),
}


def get_config(variant: str = "base"):
  """M2-BERT at a published size, or `tiny`."""
  width, depth, vocab, length, rate, batch = common.size(SIZES, variant)
  config = common.base()
  config.steps = 70_000
  config.batch_size = batch
  config.clip_norm = 1.0
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="documents", max_per_row=1),
    corruption=dict(kind="masking", rate=0.3, mask=0.8, random=0.1, keep=0.1),
    evaluation_corruption=dict(
      kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1
    ),
  )
  config.tokenizer = dict(kind="wordpiece", vocab_size=vocab, lowercase=True)
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="token", types=2, pad_to_multiple=64),
    positions=dict(kind="learned", max_length=length),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="feedforward_residual"),
        mixer=dict(kind="monarch", max_length=length),
        feedforward=dict(
          kind="block_diagonal", hidden=4 * width, blocks=4, dropout=0.1
        ),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=0.02),
  )
  adam = dict(kind="adamw", b1=0.9, b2=0.98, eps=1e-6, decay="all")
  config.optimizer = dict(
    kind="groups",
    learning_rate=rate,
    groups=dict(  # tried by name, in the alphabet's order
      features=dict(
        paths="filter/places$",
        rate=1e-5 / rate,
        optimizer=dict(adam, weight_decay=0.0),
      ),
      filters=dict(
        paths="filter/(back/|frequency$)",
        rate=1e-3 / rate,
        optimizer=dict(adam, weight_decay=0.1 / 1e-3),
      ),
      rest=dict(paths="", optimizer=dict(adam, weight_decay=1e-5 / rate)),
    ),
  )
  config.schedule = dict(kind="linear", warmup=0.06, final=0.02)
  return config
