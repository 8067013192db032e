"""Model families of transformers, one a module.

Each module has `MODEL_TYPE`, `PREFIX` (of the names of the body), `BODY`
(the class without heads), `TIED`
(tensors that repeat the token table), `BUFFERS` (a pattern of tensors that
hold no parameter), and the functions

- `model_spec(settings, found)`: the spec that a config.json and the tensors
  found beside it describe;
- `leaves(description)`: the table of names;
- `config(description, ids)`: the config.json that comes nearest to a
  description; the caller compares what it describes;
- `architectures(roles)`: role of a head -> class that holds it;
- where it has one, `adapted(spec, arrays, ids)`: spec and arrays that compute
  the same in the way of its class.

A class that lets padding into its mixers also has `CAVEAT`, which says so: a
model whose mixers keep it out (`parity=False`) is exported to it with that
sentence, and compared on rows without padding.
"""

from jaxlm.interop.families import (
  albert,
  bart,
  bert,
  convbert,
  deberta,
  deberta_v2,
  electra,
  fnet,
  general,
  gpt2,
  mobilebert,
  modernbert,
  roberta,
  squeezebert,
  t5,
)

STOCK = (
  bert,
  roberta,
  gpt2,
  modernbert,
  mobilebert,
  convbert,
  electra,  # before ALBERT, whose class computes unshared layers too
  albert,
  squeezebert,
  fnet,
  t5,
  bart,
  deberta,
  deberta_v2,
)
ALL = {family.MODEL_TYPE: family for family in (*STOCK, general)}
