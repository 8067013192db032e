"""Our sentence encoders and losses against sentence-transformers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
st = pytest.importorskip("sentence_transformers")

from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.sentence_transformer import losses  # noqa: E402

from configs import bert, mosaicbert, roberta  # noqa: E402
from jaxlm import loading, run  # noqa: E402
from jaxlm.evaluation import embed, similarity  # noqa: E402
from jaxlm.objectives import objectives  # noqa: E402
from tests.evaluation import toys  # noqa: E402
from tests.hf import oracle  # noqa: E402

pytestmark = pytest.mark.hf
TEXTS = ["the cat sat", "dogs ran", "a, b.", "cat " * 90, "c d e f g"]
CASES = [
  (bert, "mean", "none"),
  (bert, "cls", "kept"),
  (bert, "cls", "training"),
  (roberta, "mean", "kept"),
  (mosaicbert, "mean", "kept"),  # PyTorch code of our own
]


@pytest.mark.parametrize("config, pooling, projection", CASES)
def test_it_reads_our_folder(config, pooling, projection, tmp_path):
  """Embeddings of texts, cut and short, within 1e-5."""
  tokenizer = toys.wordpiece()
  spec = config.get_config("tiny").model.to_dict()
  spec["vocab_size"] = tokenizer.vocab_size
  spec["heads"] = dict(
    embed=dict(kind="embed", pooling=pooling, projection=projection)
  )
  params = oracle.random_params(spec, std=0.2)
  run.save(tmp_path / "run", spec, params, tokenizer)
  run.export(tmp_path / "run", tmp_path / "out")
  ours = embed.embed(loading.load(tmp_path / "run"), TEXTS, length=64)
  model = SentenceTransformer(
    str(tmp_path / "out"), device="cpu", trust_remote_code=True
  )
  model.max_seq_length = 64
  theirs = model.encode(TEXTS, convert_to_numpy=True)
  assert ours.cut == 1 and np.ptp(theirs) > 0.1
  np.testing.assert_allclose(ours.vectors, theirs, atol=1e-5)
  # What it writes itself is read by us.
  model.save_pretrained(str(tmp_path / "theirs"))
  if config is not mosaicbert:
    again = loading.load(tmp_path / "theirs")
    found = embed.embed(again, TEXTS, length=64).vectors
    np.testing.assert_allclose(found, theirs, atol=1e-5)


class Fixed:
  def apply(self, variables, batch, *, train=False, rngs=None):
    return {"embed": variables["params"]}


class Given(torch.nn.Module):
  """A model whose vectors are what it is given."""

  def forward(self, features):
    return features


@pytest.mark.parametrize("kinds", [2, 3])
def test_simcse_is_its_ranking_loss(kinds):
  rng = np.random.default_rng(0)
  views = rng.standard_normal((16, kinds, 8)).astype(np.float32)
  theirs = losses.MultipleNegativesRankingLoss(Given(), scale=20.0)
  features = [
    {"sentence_embedding": torch.tensor(views[:, k])} for k in range(kinds)
  ]
  wanted = float(theirs(features, None))
  part = objectives.build(dict(kind="simcse", temperature=0.05))
  batch = dict(view_weights=np.ones((16, 1, kinds), np.float32))
  found = part(Fixed(), {"params": views}, batch, None, train=False)
  np.testing.assert_allclose(found.sums["contrast"] / 16, wanted, rtol=1e-5)


def test_scores_are_those_of_its_evaluator(tmp_path):
  from sentence_transformers.sentence_transformer import evaluation

  tokenizer = toys.wordpiece()
  spec = bert.get_config("tiny").model.to_dict()
  spec |= dict(vocab_size=tokenizer.vocab_size)
  spec["heads"] = dict(embed=dict(kind="embed", pooling="mean"))
  params = oracle.random_params(spec, std=1.0)
  run.save(tmp_path / "run", spec, params, tokenizer)
  run.export(tmp_path / "run", tmp_path / "out")
  rng = np.random.default_rng(0)
  draw = lambda: " ".join(rng.choice(toys.WORDS[:19], 4))
  first, second = ([draw() for _ in range(40)] for _ in range(2))
  scores = rng.uniform(0, 5, 40).round(2)
  lines = ["score\tsentence1\tsentence2"]
  lines += [f"{s}\t{a}\t{b}" for s, a, b in zip(scores, first, second)]
  (tmp_path / "sts.tsv").write_text("\n".join(lines), encoding="utf-8")
  ours = similarity.evaluate(
    loading.load(tmp_path / "run"), tmp_path / "sts.tsv"
  )
  scorer = evaluation.EmbeddingSimilarityEvaluator(
    first, second, (scores / 5).tolist(), main_similarity="cosine"
  )
  theirs = scorer(SentenceTransformer(str(tmp_path / "out"), device="cpu"))
  for name in ("spearman", "pearson"):
    assert ours["mean_cosine"] < 0.97  # else rounding decides
    assert ours[name] == pytest.approx(theirs[f"{name}_cosine"], abs=1e-6)
