"""The README.md of an exported folder."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.interop import description as description_lib
from jaxlm.interop.families import general

_OUTPUTS = {
  "hidden": "hidden states",
  "masked_lm": "masked-LM logits",
  "causal_lm": "next-token logits",
  "seq2seq_lm": "next-token logits of the decoder",
  "replaced_token": "replaced-token logits",
  "next_sentence": "next-sentence logits",
  "classify": "class logits",
  "regress": "scores",
  "tag": "tag logits",
}
_TASKS = {
  "classify": "text-classification",
  "regress": "text-classification",
  "tag": "token-classification",
  "masked_lm": "fill-mask",
  "causal_lm": "text-generation",
  "seq2seq_lm": "text2text-generation",
}


def text(
  plan,
  facts: Mapping[str, Any],
  labels: Sequence[str],
  card: Mapping[str, Any],
) -> str:
  """The model card.

  Args:
    plan: a `planning.Plan`.
    facts: what `export_folder` returns.
    labels: names of classes.
    card: training facts; nested dicts become sections of their own, and
      `config`, what was run, stands at the end.
  """
  plain = {k: v for k, v in card.items() if not isinstance(v, Mapping)}
  nested = {
    k: v for k, v in card.items() if isinstance(v, Mapping) and k != "config"
  }
  parts = [
    _front(plan, facts),
    f"# {facts['architecture']}, {_count(facts['parameters'])} parameters",
    _opening(plan, facts),
    "## Use",
    _use(plan),
    "## Model",
    _table(_sizes(plan, facts, labels)),
  ]
  if card:
    parts.append("## Training")
  if plain:
    parts.append(_table(plain))
  for key, values in nested.items():
    parts += [f"### {key.replace('_', ' ')}", _table(values)]
  parts += ["## Checked on export", _checks(facts)]
  if "config" in card:
    parts += ["## Config", f"```json\n{_json(card['config'], indent=1)}\n```"]
  return "\n\n".join(parts) + "\n"


def _front(plan, facts) -> str:
  lines = ["---", f"library_name: {facts.get('library', 'transformers')}"]
  tasks = [_TASKS[role] for role in plan.description["heads"] if role in _TASKS]
  lines += [f"pipeline_tag: {task}" for task in tasks[:1]]
  tags = dict.fromkeys(("jaxlm", plan.family.MODEL_TYPE))
  return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _count(number: int) -> str:
  for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
    if number >= size:
      return f"{number / size:.3g}{letter}"
  return str(number)


def _json(value, **how) -> str:
  return json.dumps(value, ensure_ascii=False, default=str, **how)


def _opening(plan, facts) -> str:
  said = (
    f"A model of {facts['parameters']:,} parameters, trained with jaxlm and "
    f"exported for `transformers` as `{facts['architecture']}`."
  )
  if plan.family is general:
    said += (
      f" No class of `transformers` computes it ({plan.why_own}), so its "
      f"PyTorch code lies in `{general.CODE[0]}`."
    )
  return said


def _use(plan) -> str:
  heads = plan.description["heads"]
  auto = general.AUTO[next(iter(heads))] if heads else "AutoModel"
  trust = ", trust_remote_code=True" if plan.family is general else ""
  return "\n".join(
    [
      "```python",
      f"from transformers import {auto}, AutoTokenizer",
      'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
      f"model = {auto}.from_pretrained(",
      f'  "path/to/this/folder"{trust}',
      ")",
      "```",
      "",
      "Or with jaxlm: `jaxlm import --from=path/to/this/folder --out=DIR`.",
    ]
  )


def _sizes(plan, facts, labels) -> dict[str, Any]:
  said = plan.description
  towers = list(description_lib.towers(said).values())
  layers = [layer for tower in towers for layer in tower["layers"]]
  first = layers[0]
  rows = {
    "parameters": facts["parameters"],
    "layers": " + ".join(str(len(tower["layers"])) for tower in towers),
    "width": said["width"],
    "vocabulary": said["vocab_size"],
    "positions": towers[0]["positions"]["kind"],
    "block": first["block"]["kind"],
    "attention heads": first["mixer"].get("heads", ""),
    "feed-forward": f"{first['feedforward']['kind']}, "
    f"{first['feedforward'].get('hidden', '')}",
    "output heads": ", ".join(said["heads"]) or "none",
  }
  turning = first["mixer"].get("positions")
  if turning:
    rows["positions"] = turning["kind"]
  windows = sorted({layer["mixer"].get("window", 0) for layer in layers})
  if any(windows):
    rows["attention windows"] = windows
  if labels:
    rows["labels"] = ", ".join(str(label) for label in labels)
  return rows


def _checks(facts) -> str:
  rows = ["| read by | output | largest absolute difference |", "|---|---|---|"]
  for program, found in facts["differences"].items():
    for name, value in found.items():
      rows.append(f"| {program} | {_OUTPUTS[name]} | {value:.2g} |")
  padded = "without padding" if facts["caveat"] else "with a padded row"
  said = (
    "This folder was read again and its outputs compared with those of the "
    f"trained model, on a fixed batch of random tokens {padded}. "
    f"Largest difference: {facts['largest_difference']:.2g}."
  )
  if facts["caveat"]:
    said += f" Take care: {facts['caveat']}."
  if "transformers" not in facts["differences"]:
    said += (
      " PyTorch and transformers were not installed where it was exported, so "
      "only jaxlm read it."
    )
  return said + "\n\n" + "\n".join(rows)


def _table(values: Mapping[str, Any]) -> str:
  rows = ["| | |", "|---|---|"]
  rows += [f"| {key} | {_cell(value)} |" for key, value in values.items()]
  return "\n".join(rows)


def _cell(value) -> str:
  if isinstance(value, bool) or value is None:
    return str(value)
  if isinstance(value, int):
    return f"{value:,}"
  if isinstance(value, float):
    return f"{value:.6g}"
  if not isinstance(value, str):
    value = _json(value)
  return value.replace("|", "\\|").replace("\n", " ")
