# Copyright 2026 the jaxlm authors. Licensed under the Apache License 2.0.
"""A model trained with jaxlm, in plain PyTorch, for `transformers`.

config.json describes the model under the key "model": embeddings, positions,
norms, and block, mixer and feed-forward of every layer. Load it with, say,
`AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)`.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
  BaseModelOutput,
  CausalLMOutput,
  MaskedLMOutput,
  NextSentencePredictorOutput,
  SequenceClassifierOutput,
  TokenClassifierOutput,
)

from .layers_jaxlm import ACTIVATIONS, Embeddings, Layer, Positions, make_norm


class JaxlmConfig(PretrainedConfig):
  """Keeps the description of the model under `model`."""

  model_type = "jaxlm"

  def __init__(self, model=None, **kwargs):
    self.model = dict(model or {})
    kwargs.setdefault("use_cache", False)
    super().__init__(**kwargs)


class JaxlmPreTrainedModel(PreTrainedModel):
  """Loading and saving."""

  config_class = JaxlmConfig
  base_model_prefix = "model"
  supports_gradient_checkpointing = False

  def _init_weights(self, module):
    """New weights are drawn N(0, 0.02); biases start at 0, norms at 1."""
    for name, weight in module.named_parameters(recurse=False):
      if getattr(weight, "_is_hf_initialized", False):
        continue
      if "norm" in type(module).__name__.lower() and name == "weight":
        nn.init.ones_(weight)
      elif "bias" in name:
        nn.init.zeros_(weight)
      else:
        nn.init.normal_(weight, std=0.02)


class JaxlmModel(JaxlmPreTrainedModel):
  """The body: embeddings, positions, layers, norms."""

  def __init__(self, config):
    super().__init__(config)
    model = config.model
    self.embeddings = Embeddings(model)
    self.positions = Positions(model["positions"], self.embeddings.features)
    self.layers = nn.ModuleList([Layer(s, model) for s in model["layers"]])
    self.input_norm = self.final_norm = None
    if model["input_norm"]:
      self.input_norm = make_norm(model["norm"], self.embeddings.features)
    if model["final_norm"]:
      self.final_norm = make_norm(model["norm"], model["width"])
    self.drop = nn.Dropout(model["dropout"])
    self.post_init()

  def forward(
    self,
    input_ids,
    attention_mask=None,
    token_type_ids=None,
    position_ids=None,
    return_dict=True,
    **unused,
  ):
    """Hidden states [batch, length, width] of ids [batch, length]."""
    if attention_mask is None:
      attention_mask = torch.ones_like(input_ids)
    if position_ids is None:
      position_ids = (attention_mask.long().cumsum(1) - 1).clamp(min=0)
    x = self.embeddings.lookup(input_ids, token_type_ids)
    x = self.positions.at_input(x, position_ids)
    x = x if self.input_norm is None else self.input_norm(x)
    x = self.embeddings.project(self.drop(x))
    bias = self.positions.bias(x.shape[1], x.device)
    for layer in self.layers:
      x = layer(x, position_ids, attention_mask.bool(), bias)
    x = x if self.final_norm is None else self.final_norm(x)
    return BaseModelOutput(last_hidden_state=x) if return_dict else (x,)


class Head(nn.Module):
  """Classes of a state: optional pooler, then a map."""

  def __init__(self, model, role):
    super().__init__()
    spec, width = model["heads"][role], model["width"]
    self.pooler = self.pooler_norm = None
    if spec["pooler"]:
      self.pooler = nn.Linear(width, width, spec["pooler_bias"])
      self.activation = ACTIVATIONS[spec["pooler_activation"]]
      if spec["pooler_norm"]:
        self.pooler_norm = make_norm(spec["norm"], width)
    self.output = nn.Linear(width, spec["classes"])
    self.input_drop = nn.Dropout(
      spec["dropout"] if spec.get("input_dropout", False) else 0.0
    )
    self.drop = nn.Dropout(spec["dropout"])

  def forward(self, x):
    if self.pooler is not None:
      x = self.activation(self.pooler(self.input_drop(x)))
      x = x if self.pooler_norm is None else self.pooler_norm(x)
    return self.output(self.drop(x))


class MaskedLMHead(nn.Module):
  """Transform and norm; the token table is the output."""

  def __init__(self, model, features):
    super().__init__()
    spec = model["heads"]["masked_lm"]
    self.transform = nn.Linear(model["width"], features, spec["use_bias"])
    self.activation = ACTIVATIONS[spec["activation"]]
    self.norm = make_norm(spec["norm"], features)
    self.output_bias = None
    if spec["output_bias"]:
      self.output_bias = nn.Parameter(torch.empty(model["vocab_size"]))

  def forward(self, x, table):
    x = self.norm(self.activation(self.transform(x)))
    return F.linear(x, table, self.output_bias)


class JaxlmForMaskedLM(JaxlmPreTrainedModel):
  """Masked language model."""

  def __init__(self, config):
    super().__init__(config)
    self.model = JaxlmModel(config)
    self.masked_lm = MaskedLMHead(config.model, self.model.embeddings.features)
    self.post_init()

  def forward(self, input_ids, attention_mask=None, labels=None, **inputs):
    hidden = self.model(input_ids, attention_mask, **inputs)[0]
    logits = self.masked_lm(hidden, self.model.embeddings.table)
    loss = None
    if labels is not None:
      loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return MaskedLMOutput(loss=loss, logits=logits)


class JaxlmForCausalLM(JaxlmPreTrainedModel, GenerationMixin):
  """Causal language model, without kept keys and values."""

  def __init__(self, config):
    super().__init__(config)
    self.model = JaxlmModel(config)
    if not config.model["heads"]["causal_lm"].get("tied", True):
      self.causal_lm = nn.Module()
      table = torch.empty(config.model["vocab_size"], config.model["width"])
      self.causal_lm.table = nn.Parameter(table)
    self.post_init()

  def forward(self, input_ids, attention_mask=None, labels=None, **inputs):
    hidden = self.model(input_ids, attention_mask, **inputs)[0]
    own = getattr(self, "causal_lm", None)
    table = self.model.embeddings.table if own is None else own.table
    logits = F.linear(hidden, table)
    loss = None
    if labels is not None:
      loss = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
      )
    return CausalLMOutput(loss=loss, logits=logits)

  def prepare_inputs_for_generation(
    self, input_ids, attention_mask=None, **unused
  ):
    return {"input_ids": input_ids, "attention_mask": attention_mask}


class _SentenceModel(JaxlmPreTrainedModel):
  """Reads the first token of a row, or the last real one."""

  roles = ()
  output = SequenceClassifierOutput

  def __init__(self, config):
    super().__init__(config)
    self.role = next(r for r in self.roles if r in config.model["heads"])
    self.model = JaxlmModel(config)
    setattr(self, self.role, Head(config.model, self.role))
    self.post_init()

  def forward(self, input_ids, attention_mask=None, labels=None, **inputs):
    hidden = self.model(input_ids, attention_mask, **inputs)[0]
    state = hidden[:, 0]
    if getattr(self.config, "summary", "first") == "last":
      mask = attention_mask
      mask = torch.ones_like(input_ids) if mask is None else mask
      index = torch.arange(mask.shape[1], device=mask.device)
      last = (mask.long() * index).argmax(1)
      state = hidden[torch.arange(len(last), device=mask.device), last]
    logits = getattr(self, self.role)(state)
    loss = None
    if labels is not None and self.role == "regress":
      loss = F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
    elif labels is not None:
      loss = F.cross_entropy(logits, labels)
    return self.output(loss=loss, logits=logits)


class JaxlmForSequenceClassification(_SentenceModel):
  """Classes or scores of a text."""

  roles = ("classify", "regress")


class JaxlmForNextSentencePrediction(_SentenceModel):
  """Whether sentence B follows A (0) or not (1)."""

  roles = ("next_sentence",)
  output = NextSentencePredictorOutput


class JaxlmForTokenClassification(JaxlmPreTrainedModel):
  """A class for every token."""

  def __init__(self, config):
    super().__init__(config)
    self.model = JaxlmModel(config)
    self.tag = Head(config.model, "tag")
    self.post_init()

  def forward(self, input_ids, attention_mask=None, labels=None, **inputs):
    logits = self.tag(self.model(input_ids, attention_mask, **inputs)[0])
    loss = None
    if labels is not None:
      loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return TokenClassifierOutput(loss=loss, logits=logits)
