"""What a batch for an encoder-decoder says, as text.

Masks, sentinels and prefixes stand in the inputs themselves; here is what the
decoder is to say, what each sentinel stands for, and which tokens of E2S2's
second view are not the text's own.
"""

import re

import numpy as np

_SENTINEL = re.compile(r"<extra_id_\d+>")
TAGS = ("kept", "shuffled", "replaced")


def lines(batch, tokenizer, row: int, segment: int) -> list[str]:
  """Lines about one text of a row; none where there is no decoder.

  Args:
    batch: numpy arrays as `Task.batch_at` gives them.
    tokenizer: of the data.
    row: which row.
    segment: which text, from 1.
  """
  if "decoder_inputs" not in batch:
    return []
  here = batch["decoder_segments"][row] == segment
  here &= batch["weights"][row] > 0
  target = batch["targets"][row][here]
  said = [f"    say | {tokenizer.decode(target, specials=True)}"]
  if hidden := spans(target, tokenizer):
    told = [f"{name}: {tokenizer.decode(ids)!r}" for name, ids in hidden]
    said.append(f"    hidden {', '.join(told)}")
  return said + _noise(batch, tokenizer, row, segment)


def spans(target, tokenizer) -> list[tuple[str, list[int]]]:
  """(sentinel, ids of its span) of a target of span corruption."""
  found: list[tuple[str, list[int]]] = []
  for index in target:
    piece = tokenizer.id_to_token(index) or ""
    if _SENTINEL.fullmatch(piece):
      found.append((piece, []))
    elif found:
      found[-1][1].append(int(index))
  return found


def rates(batch) -> list[str]:
  """Lines about the targets and the second view of a whole batch."""
  if "decoder_inputs" not in batch:
    return []
  said = int((batch["weights"] > 0).sum())
  read = int((batch["segments"] > 0).sum())
  padding = 1 - said / batch["weights"].size
  found = [
    f"{said:,} target tokens, {said / max(read, 1):.2f} a token of the "
    f"inputs, {padding:.2%} padding"
  ]
  if "corrupted_inputs" in batch:
    tags = batch["tags"][batch["tag_weights"] > 0]
    shares = np.bincount(tags, minlength=3) / max(len(tags), 1)
    told = [f"{name} {s:.1%}" for name, s in zip(TAGS, shares)]
    found.append(f"tokens of the second view: {', '.join(told)}")
  return found


def _noise(batch, tokenizer, row, segment) -> list[str]:
  """The second view, and its places that differ from the first."""
  if "corrupted_inputs" not in batch:
    return []
  here = batch["segments"][row] == segment
  places = np.flatnonzero(here & (batch["tags"][row] > 0))
  piece = lambda key, at: tokenizer.id_to_token(batch[key][row][at])
  told = [
    f"{at}: {piece('inputs', at)} -> {piece('corrupted_inputs', at)} "
    f"{TAGS[batch['tags'][row][at]]}"
    for at in places
  ]
  text = tokenizer.decode(batch["corrupted_inputs"][row][here], specials=True)
  noise = [f"    noise {', '.join(told)}"] if told else []
  return [f"    second view | {text}", *noise]
