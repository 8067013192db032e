"""FlexiBERT (Tuli et al., arXiv:2205.11656): every layer may be another.

  jaxlm train --config=flexibert:mini --config.data.files='corpus/*.txt' \
      --workdir=runs/flexibert

A design dictionary says it all, as in the released code: `l` layers; of each
its operation `o` with parameter `p` (sa: sdp or wma; l: dft or dct; c: taps),
its width `h`, heads `n` and the feed-forward's widths `f`. Or `o` lists what
each head does ("sa_wma_64"), without `n` and `p`. `mini` and `large` are the
published designs; published training: 100k steps of 64 rows of 512 tokens.

Where the released code differs: its cosine transforms are not orthonormal, so
that they outweigh the residual; it has its own output table where the last
width is not the first, which here is tied through the head's transform.

Transforms cannot be masked: rows are running text. `tiny` is for tests.
"""

from configs import common

_MINI = {
  "l": 4,
  "o": ["sa", "sa", "l", "l"],
  "h": [256, 256, 128, 128],
  "n": [2, 2, 4, 4],
  "f": [[512] * 3, [512] * 3, [1024], [1024]],
  "p": ["sdp", "sdp", "dct", "dct"],
}
_LARGE = {
  "l": 24,
  "o": ["sa"] * 12 + ["l"] * 12,
  "h": [1024] * 12 + [512] * 12,
  "n": [8] * 12 + [16] * 12,
  "f": [[2048] * 3] * 12 + [[4096]] * 12,
  "p": ["sdp"] * 12 + ["dct"] * 12,
}
_TINY = {
  "l": 4,
  "o": ["sa", ["sa_sdp_16", "l_dft_16", "c_5_16", "c_5_16"], "c", "l"],
  "h": [64, 64, 48, 48],
  "n": [2, 4, 4, 2],
  "f": [[128], [96, 96], [96], [96]],
  "p": ["wma", "", 5, "dct"],
}

# design, vocabulary, length, rows
SIZES = {
  "tiny": (_TINY, 512, 64, 16),
  "mini": (_MINI, 50_265, 512, 64),
  "large": (_LARGE, 50_265, 512, 64),
}


def get_config(variant: str = "mini"):
  """FlexiBERT of a published design, or `tiny`."""
  design, vocab, length, rows = common.size(SIZES, variant)
  config = common.base()
  config.steps = 100_000
  config.batch_size = rows
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="blocks", unit="tokens"),
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(kind="byte_bpe", vocab_size=vocab)
  config.model = model(design)
  config.optimizer = dict(
    kind="adamw",
    learning_rate=1e-4,
    b1=0.9,
    b2=0.98,
    eps=1e-6,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=0.1)
  if variant == "tiny":
    config.steps = 300
    config.model = model(design, dropout=0.0)
    config.model.initializer.std = 0.1  # leaves the plateau of single tokens
    config.optimizer.learning_rate = 3e-3
  return config


def model(design, dropout: float = 0.1) -> dict:
  """`config.model` of a design dictionary."""
  made = [layer(design, index, dropout) for index in range(design["l"])]
  names = [f"layer_{made.index(each)}" for each in made]
  return dict(
    kind="encoder",
    width=design["h"][0],
    dropout=dropout,
    embeddings=dict(kind="token"),
    positions=dict(kind="relative_key", max_length=514),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(zip(names, made)),
    order=tuple(names),
    stack=dict(kind="sequential"),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=0.02),
  )


def layer(design, index: int, dropout: float = 0.1) -> dict:
  """One layer of a design dictionary."""
  widths = tuple(design["f"][index])
  feedforward = dict(kind="stacked", widths=widths)
  if len(widths) == 1:
    feedforward = dict(kind="mlp", hidden=widths[0])
  return dict(
    width=design["h"][index],
    block=dict(kind="post_norm"),
    mixer=mixer(design, index) | dict(dropout=dropout),
    feedforward=feedforward,
  )


def mixer(design, index: int) -> dict:
  """The mixer of a layer of a design dictionary."""
  operation = design["o"][index]
  if not isinstance(operation, str):
    return mixed(operation)
  heads, detail = design["n"][index], design["p"][index]
  return {
    "sa": dict(
      kind="weighted_attention" if detail == "wma" else "attention",
      heads=heads,
    ),
    "l": dict(kind="transform_attention", heads=heads, transform=detail),
    # Half of the heads attend, half convolve.
    "c": dict(
      kind="mixed_attention", heads=max(1, heads // 2), kernel_size=detail
    ),
  }[operation]


def mixed(heads) -> dict:
  """The mixer of a layer whose heads are told one by one."""
  kinds, details, sizes = zip(*(head.split("_") for head in heads))
  return dict(
    kind="mixed_heads",
    heads=len(heads),
    head_dim=int(sizes[0]),
    operations=tuple(
      f"conv_{detail}" if kind == "c" else detail
      for kind, detail in zip(kinds, details)
    ),
  )
