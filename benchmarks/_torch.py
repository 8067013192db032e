"""BERT of `transformers` in PyTorch, as its example script and tuned.

`script` is what `run_mlm.py --line_by_line` does with its defaults: the
documents of an update padded to the longest, `DataCollatorForLanguageModeling`,
logits for every position, SDPA attention, fused AdamW, gradients clipped at 1.

`tuned` is what we would do by hand in PyTorch with the same model: documents
sorted by length before they are batched, so that next to nothing is padding,
batches of equal numbers of tokens, and the vocabulary projected at masked
places only. `compiled` is the same under `torch.compile`.
"""

from collections.abc import Callable

import numpy as np
import torch
import transformers

from benchmarks import _documents
from configs import bert


def contender(pool: _documents.Pool, size, options, *, kind: str) -> dict:
  """See `_workers.serve`."""
  torch.manual_seed(0)
  torch.set_num_threads(options["threads"])
  device = "cuda" if torch.cuda.is_available() else "cpu"
  model = _model(pool, size).to(device).train()
  tuned = kind != "script"
  groups = _bucketed(pool) if tuned else _by_update(pool)
  collate = _collator(pool)
  batches = [collate([{"input_ids": d} for d in group]) for group in groups]
  batches = [{k: v.contiguous() for k, v in b.items()} for b in batches]
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-4, weight_decay=0.01, fused=True
  )
  scheduler = transformers.get_linear_schedule_with_warmup(
    optimizer, 1000, 100_000
  )
  loss_of = _sparse_loss if tuned else _dense_loss
  if kind == "compiled":
    loss_of = torch.compile(loss_of, dynamic=True)

  def run(batch) -> Callable[[], float]:
    batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
    with torch.autocast(device, torch.bfloat16, options["bfloat16"]):
      loss = loss_of(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    return lambda: loss.item()

  return dict(
    run=run,
    batches=batches,
    tokens=[sum(len(d) for d in group) for group in groups],
    parameters=sum(p.numel() for p in model.parameters()),
    positions=sum(b["input_ids"].numel() for b in batches),
    versions={
      "torch": torch.__version__,
      "transformers": transformers.__version__,
    },
    device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
    peak=torch.cuda.max_memory_allocated if device == "cuda" else None,
  )


def _model(pool, size):
  layers, width, heads, hidden, _, _ = bert.SIZES[size]
  return transformers.BertForMaskedLM(
    transformers.BertConfig(
      vocab_size=pool.vocab_size,
      hidden_size=width,
      num_hidden_layers=layers,
      num_attention_heads=heads,
      intermediate_size=hidden,
      pad_token_id=pool.specials["pad"],
    )
  )


def _collator(pool):
  return transformers.DataCollatorForLanguageModeling(
    transformers.AutoTokenizer.from_pretrained(pool.tokenizer),
    mlm_probability=_documents.RATE,
  )


def _by_update(pool) -> list[list[np.ndarray]]:
  """The documents of each update as they come."""
  return [pool.of_update(update) for update in range(len(pool.rows))]


def _bucketed(pool) -> list[list[np.ndarray]]:
  """As many groups, of equal numbers of tokens and of similar lengths."""
  documents = [d for group in _by_update(pool) for d in group]
  documents.sort(key=len)
  ends = np.cumsum([len(d) for d in documents])
  shares = ends[-1] * np.arange(1, len(pool.rows)) / len(pool.rows)
  cuts = [0, *np.searchsorted(ends, shares), len(documents)]
  return [documents[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def _dense_loss(model, batch):
  return model(**batch).loss


def _sparse_loss(model, batch):
  labels = batch["labels"]
  inputs = {k: v for k, v in batch.items() if k != "labels"}
  hidden = model.bert(**inputs).last_hidden_state
  chosen = labels != -100
  logits = model.cls(hidden[chosen])
  return torch.nn.functional.cross_entropy(logits.float(), labels[chosen])
