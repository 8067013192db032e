"""Our contrasts against pytorch-metric-learning."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from pytorch_metric_learning import losses  # noqa: E402

from jaxlm.objectives import contrast  # noqa: E402

pytestmark = pytest.mark.hf


def draw(rows=12, width=6):
  return np.random.default_rng(0).standard_normal((rows, width))


def test_nt_xent():
  x = draw().astype(np.float32)
  labels = torch.arange(6).repeat(2)
  theirs = losses.NTXentLoss(temperature=0.2)(torch.tensor(x), labels)
  ours = contrast.nt_xent(x[:6], x[6:], np.ones(6), 0.2) / 6
  np.testing.assert_allclose(ours, float(theirs), rtol=1e-5)


def test_supervised():
  x = draw().astype(np.float32)
  labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 3, 0])
  theirs = losses.SupConLoss(temperature=0.3)(
    torch.tensor(x), torch.tensor(labels)
  )
  ours = contrast.of_classes(x, labels, np.ones(12), 0.3)
  # Both leave out the anchor that is alone in its class.
  np.testing.assert_allclose(ours.sum() / 11, float(theirs), rtol=1e-5)
