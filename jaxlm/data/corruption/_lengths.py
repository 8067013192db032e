"""How long a row's text, inputs and targets are under span corruption.

Raffel et al., arXiv:1910.10683; counts as in their code, rounded half to even.
"""


def counts(length: int, density: float, mean: float) -> tuple[int, int]:
  """(noise tokens, spans) of a text of some tokens.

  One token cannot be split: it stays.
  """
  if length < 2:
    return 0, 0
  noise = min(max(round(length * density), 1), length - 1)
  return noise, min(max(round(noise / mean), 1), length - noise)


def made(length: int, density: float, mean: float) -> tuple[int, int]:
  """(inputs, targets), each with its end of text."""
  noise, spans = counts(length, density, mean)
  return length - noise + spans + 1, noise + spans + 1


def text_length(inputs: int, density: float, mean: float) -> int:
  """The longest text whose inputs are no longer than `inputs`.

  At density 0.5 one token less where the targets would be longer than the
  inputs, as the original has it.
  """
  length = inputs
  while made(length + 1, density, mean)[0] <= inputs:
    length += 1
  while length and made(length, density, mean)[0] > inputs:
    length -= 1
  longer = made(length, density, mean)[1] > inputs
  return length - 1 if density == 0.5 and longer else length
