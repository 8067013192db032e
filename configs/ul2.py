"""UL2 (Tay et al., arXiv:2205.05131): T5 trained on a mixture of denoisers.

  jaxlm train --config=ul2:base --config.data.files='corpus/*.txt' \
      --workdir=runs/ul2

Short spans (R, prefix [NLU]), long or many spans (X, [NLG]) and the rest of a
text from its beginning (S, [S2S]); the prefix tells the model which. Spans
and densities are those of the paper's table and of public re-implementations;
the shares (R 0.4, X 0.4, S 0.2, even inside a class) are those of
re-implementations and were not read in the paper, and so is 0.25 of S. Models
are T5 v1.1; the paper's base has SwiGLU, 32k tokens of SentencePiece, and 500k
steps of 128 rows of 512 and 512 tokens. `tiny` is for tests.
"""

from configs import common, t5

SIZES = {name: name for name in ("tiny", "small", "base")}
_T5 = {"tiny": "tiny_v1_1", "small": "v1_1_small", "base": "v1_1_base"}

# name -> share, prefix, mean span, density; None of a span: the rest.
DENOISERS = {
  "r_3": (0.2, "[NLU]", 3.0, 0.15),
  "r_8": (0.2, "[NLU]", 8.0, 0.15),
  "x_3": (0.1, "[NLG]", 3.0, 0.5),
  "x_8": (0.1, "[NLG]", 8.0, 0.5),
  "x_64": (0.1, "[NLG]", 64.0, 0.15),
  "x_64_dense": (0.1, "[NLG]", 64.0, 0.5),
  "s": (0.2, "[S2S]", None, 0.25),
}


def get_config(variant: str = "base"):
  """T5 v1.1 on UL2's mixture, or `tiny`."""
  config = t5.get_config(_T5[common.size(SIZES, variant)])
  config.steps = 500_000
  config.data.corruption = dict(
    kind="mixture",
    parts={name: _part(*told) for name, told in DENOISERS.items()},
  )
  config.tokenizer.extra = ("[NLU]", "[NLG]", "[S2S]")
  # Half of the text in spans of 3 makes more spans than T5's 100 sentinels.
  config.tokenizer.sentinels = 32 if variant == "tiny" else 128
  return config


def _part(share, prefix, span, density):
  corruption = (
    dict(kind="prefix_lm", density=density)
    if span is None
    else dict(
      kind="span_corruption",
      density=density,
      mean_span=span,
      # A row of one span would hide its end, always: another S.
      free_ends=span > 8,
    )
  )
  return dict(rate=share, prefix=prefix, corruption=corruption)
