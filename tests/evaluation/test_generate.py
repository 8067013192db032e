import numpy as np
import pytest

from jaxlm import errors
from jaxlm.evaluation.generate import Generated, generate, generate_text
from jaxlm.models.generation import Sampling
from tests.evaluation import toys

PROMPTS = ["the cat", "a", "the cat sat a b c d e f"]


@pytest.fixture(scope="module")
def loaded():
  return toys.causal()


def _greedy(loaded, prompt, new):
  """The likeliest next token by a full forward each, until the end."""
  ids, tokens = loaded.tokenizer.encode(prompt), []
  for _ in range(new):
    logits = toys.forward(loaded, ids, "causal_lm")
    token = int(np.argmax(logits[-1]))
    if token == loaded.tokenizer.eos_id:
      return tokens, True
    ids, tokens = [*ids, token], [*tokens, token]
  return tokens, False


def test_greedy_equals_full_forwards(loaded):
  found = generate(loaded, PROMPTS, 6, rows=2)
  for prompt, item in zip(PROMPTS, found):
    tokens, ended = _greedy(loaded, prompt, 6)
    assert (item.tokens, item.ended) == (tokens, ended)
    ids = loaded.tokenizer.encode(prompt) + tokens
    assert prompt + item.text == loaded.tokenizer.decode(ids)
  assert generate_text(loaded, PROMPTS[:2], 6) == [f.text for f in found[:2]]


def test_the_end_of_text_stops(loaded):
  # The last norm gives one vector whatever comes in, and the end of text's
  # row of the tied table points that way.
  params = loaded.variables["params"]
  one = np.eye(16, dtype=np.float32)[0]
  table = np.array(params["embeddings"]["table"])
  table[:, 0] = 0
  table[0, 0] = 9
  params = params | {
    "final_norm": {"norm": {"scale": 0 * one, "bias": one}},
    "embeddings": {"table": table},
  }
  ends = loaded._replace(variables={"params": params})
  [item] = generate(ends, ["the cat"], 4)
  assert item == Generated("", [], True)


def test_draws_depend_on_the_seed_alone(loaded):
  def draw(seed):
    return generate_text(
      loaded, PROMPTS, max_new_tokens=8, temperature=3.0, seed=seed
    )

  assert draw(1) == draw(1)
  assert draw(1) != draw(2)


def test_top_k_of_one_is_greedy(loaded):
  greedy = generate(loaded, PROMPTS[:2], 6)
  one = Sampling(5.0, top_k=1, top_p=1e-6)
  assert generate(loaded, PROMPTS[:2], 6, one) == greedy


def test_an_empty_prompt_starts_from_the_beginning_of_text(loaded):
  [item] = generate(loaded, [""], 3)
  logits = toys.forward(loaded, [0], "causal_lm")
  first = int(np.argmax(logits[-1]))
  assert item.tokens[:1] == ([first] if first else [])


def test_bad_input(loaded):
  with pytest.raises(errors.UserError, match="2 tokens .* 31, .* 32 positions"):
    generate_text(loaded, ["the cat"], max_new_tokens=31)
  for setting, message in (
    (dict(max_new_tokens=0), "max_new_tokens is 0; expected at least 1"),
    (dict(temperature=-1.0), "temperature is -1.0; expected 0 or more"),
    (dict(top_k=-1), "top_k is -1; expected 0 or more"),
    (dict(top_p=0.0), "top_p is 0.0; expected more than 0"),
  ):
    with pytest.raises(errors.UserError, match=message):
      generate_text(loaded, ["the cat"], **setting)
  with pytest.raises(errors.UserError, match="Generating text needs"):
    generate_text(toys.masked(), ["the"])


def test_the_last_positions_are_used(loaded):
  [item] = generate(loaded, ["the cat"], 30)
  tokens, ended = _greedy(loaded, "the cat", 30)
  assert (item.tokens, item.ended) == (tokens, ended)
