"""SpanBERT (Joshi et al., arXiv:1907.10529): spans masked, and their borders.

  jaxlm train --config=spanbert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/spanbert

BERT without next sentence; spans of words are hidden, and also predicted from
the two tokens around them. Published: 2.4M
steps of 256 rows of 512 cased tokens, learning rate 1e-4, 32 V100 for 15
days; base reaches GLUE 83.9 where BERT has 82.2. The released code replaces
tokens by others as frequent as they are; here all are drawn alike. `tiny` is
for tests.
"""

from configs import bert, common

# layers, width, heads, feed-forward, vocabulary, length, places in a span
SIZES = {
  "tiny": (2, 32, 2, 64, 512, 64, 15),
  "base": (12, 768, 12, 3072, 28_996, 512, 15),
  "large": (24, 1024, 16, 4096, 28_996, 512, 15),
}


def get_config(variant: str = "base"):
  """SpanBERT at a published size, or `tiny`."""
  depth, width, heads, hidden, vocab, length, places = common.size(
    SIZES, variant
  )
  config = bert.get_config("base")
  config.steps = 2_400_000
  config.clip_norm = 1.0
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    corruption=dict(
      kind="masking",
      rate=0.15,
      unit=dict(kind="span", p=0.2, longest=10),
      count="ceil",
      boundaries=places,
    ),
  )
  config.tokenizer = dict(kind="wordpiece", vocab_size=vocab, lowercase=False)
  model = config.model
  model.width, model.depth = width, depth
  model.layers.layer.mixer.heads = heads
  model.layers.layer.feedforward.hidden = hidden
  model.heads = dict(
    masked_lm=dict(kind="masked_lm"),
    span_boundary=dict(kind="span_boundary", targets=places, place_width=200),
  )
  config.objective = dict(kind="masked_lm_span_boundary", span_boundary=1.0)
  config.optimizer.eps = 1e-8
  config.optimizer.bias_correction = True
  config.schedule = dict(kind="linear", warmup=10_000 / 2_400_000)
  if variant == "tiny":
    common.small(config)
  return config
