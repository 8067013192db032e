"""Attention with grouped maps (SqueezeBERT, Iandola et al., 2020)."""

from jaxlm.layers.grouped import GroupedDense
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers.attention import Attention


@mixers.register(
  "grouped_attention",
  paper="arXiv:2006.11316",
  example={"heads": 4, "width": 32, "groups": 2},
)
class GroupedAttention(Attention):
  """`Attention` whose queries, keys and values are grouped maps of x.

  What the paper calls grouped convolutions of one tap: block i of the features
  makes block i of the queries. Safe for packed rows.

  Attributes:
    groups: blocks of queries, keys and values each.
    output_groups: blocks of the output map; 1 in SqueezeBERT.
  """

  groups: int = 4
  output_groups: int = 1

  def _dense(self, features, axes, init, name):
    groups = self.output_groups if name == "output" else self.groups
    if groups == 1:
      return super()._dense(features, axes, init, name)
    return GroupedDense(
      features,
      groups,
      axes=axes,
      kernel_init=init,
      use_bias=self.use_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )
