"""SpanBERT's boundary head and objective, computed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxlm.errors import UserError
from jaxlm.interop import description
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from tests import tiny

HEADS = dict(
  masked_lm=dict(kind="masked_lm"),
  span_boundary=dict(kind="span_boundary", targets=6, place_width=8),
)


def batch():
  made = tiny.batch()
  ends = [[[0, 2], [3, 6], [3, 6]], [[0, 3], [0, 3], [5, 6]]]
  return made | dict(
    boundary_positions=np.array(ends, np.int32),
    boundary_offsets=np.array([[0, 0, 1], [0, 1, 0]], np.int32),
    boundary_weights=np.array([[1, 1, 1], [1, 1, 0]], np.float32),
    predict_ids=np.array([[5, 9, 2], [7, 7, 0]], np.int32),
    predict_weights=np.ones((2, 3), np.float32),
  )


@pytest.fixture(scope="module")
def made():
  model, variables = tiny.build(tiny.model_spec(heads=HEADS))
  outputs = model.apply(variables, batch())
  return model, variables, {k: np.asarray(v) for k, v in outputs.items()}


def by_hand(params, hidden):
  """Logits of every token to predict, one at a time."""
  head = tiny.host(params["heads_span_boundary"])
  table = np.asarray(params["embeddings"]["table"])

  def layer(x, name):
    x = x @ head[name]["kernel"] + head[name]["bias"]
    x = x * scipy.special.ndtr(x)
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    norm = head[f"{name}_norm"]["norm"]
    return x * norm["scale"] + norm["bias"]

  data, out = batch(), np.zeros((2, 3, tiny.VOCAB))
  for row in range(2):
    for i in range(3):
      left, right = data["boundary_positions"][row, i]
      place = head["places"][data["boundary_offsets"][row, i]]
      x = np.concatenate([hidden[row, left], hidden[row, right], place])
      out[row, i] = layer(layer(x, "inner"), "outer") @ table.T
  return out + head["output_bias"]


def test_the_head_is_two_layers_on_the_ends_and_the_place(made):
  _, variables, outputs = made
  want = by_hand(variables["params"], outputs["hidden"])
  np.testing.assert_allclose(outputs["span_boundary"], want, atol=5e-5)


def test_its_loss_is_the_mean_over_tokens_inside_a_text(made):
  model, variables, outputs = made
  objective = objectives.build(dict(kind="masked_lm_span_boundary"))
  data = batch()
  out = objective(model, variables, data, None, train=False)
  weights = objective.weights(data)
  assert {k: float(v) for k, v in weights.items()} == (
    dict(masked_lm=6, span_boundary=5)
  )
  for term, mass in (
    ("masked_lm", data["predict_weights"]),
    ("span_boundary", data["boundary_weights"]),
  ):
    chances = scipy.special.log_softmax(outputs[term].astype(float), axis=-1)
    own = np.take_along_axis(chances, data["predict_ids"][..., None], 2)[..., 0]
    assert float(out.sums[term]) == pytest.approx(-(own * mass).sum(), rel=1e-5)
  right = outputs["span_boundary"].argmax(-1) == data["predict_ids"]
  found = out.metrics["span_boundary_accuracy"]
  assert float(found[0]) == (right * data["boundary_weights"]).sum()
  assert objective.coefficients == {"span_boundary": 1.0}


def test_what_the_span_itself_holds_is_of_no_account(made):
  """Only its ends and its places are read."""
  model, variables, _ = made
  rng = np.random.default_rng(0)
  hidden = rng.standard_normal((2, tiny.LENGTH, tiny.WIDTH)).astype("float32")
  bound = model.bind(variables)
  read = lambda x: bound.heads["span_boundary"](
    jnp.asarray(x), batch(), bound.embeddings, tiny.context()
  )
  before, inside = read(hidden), hidden.copy()
  inside[:, [1, 4]] += 1.0
  np.testing.assert_array_equal(read(inside), before)
  inside[:, 3] += 1.0
  assert np.abs(np.asarray(read(inside) - before)).max() > 0.1


def test_exports_leave_the_head_out():
  spec = tiny.model_spec(heads=HEADS)
  assert description.roles(spec) == {"masked_lm": "masked_lm"}


def test_it_needs_a_table():
  spec = tiny.model_spec(
    embeddings=dict(kind="ngram_hash"),
    heads=dict(span_boundary=HEADS["span_boundary"]),
  )
  model = assembly.build(spec)
  with pytest.raises(UserError, match="take embeddings of kind='token'"):
    tiny.shapes(model, tiny.batch())
