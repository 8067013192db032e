"""What a tile needs, from its sizes alone: cheap enough to throw tiles away.

Rough on purpose, and kind: what these refuse cannot fit; what they let pass
still has to compile without spills.
"""

import dataclasses

# Registers of a thread on NVIDIA GPUs, and those that addresses, indices and
# loop counters take.
_REGISTERS, _OVERHEAD = 255, 24
_WARP = 32
# What Mosaic gives a kernel where nobody asks for more.
_VMEM = 16 << 20


@dataclasses.dataclass(frozen=True)
class Attention:
  """Sizes that an attention tile's needs depend on.

  Attributes:
    head_dim: channels of query and key, as padded.
    value_dim: channels of value, as padded.
    itemsize: bytes of an element of query, key and value.
  """

  head_dim: int
  value_dim: int
  itemsize: int


def attention_forward_gpu(
  sizes: Attention,
  *,
  block_q: int,
  block_k: int,
  num_warps: int,
  num_stages: int,
  shared_memory: int,
) -> str | None:
  """Why a forward tile cannot fit on a GPU, or None.

  Args:
    sizes: of the operands.
    block_q: queries of a tile.
    block_k: keys of a tile.
    num_warps: warps of a program.
    num_stages: blocks of key and value in flight.
    shared_memory: bytes that a program may have.
  """
  width = sizes.head_dim + sizes.value_dim
  memory = num_stages * block_k * width * sizes.itemsize
  memory += block_q * sizes.head_dim * sizes.itemsize
  held = block_q * (block_k + sizes.value_dim)  # scores, output in float32
  return _gpu(memory, held, num_warps, shared_memory)


def attention_backward_gpu(
  sizes: Attention,
  *,
  block_q: int,
  block_k: int,
  num_warps: int,
  num_stages: int,
  shared_memory: int,
) -> str | None:
  """Why a tile of a gradient cannot fit on a GPU, or None.

  As `attention_forward_gpu`; the larger side is held, the other one streams.
  """
  width = sizes.head_dim + sizes.value_dim
  held_rows, streamed = max(block_q, block_k), min(block_q, block_k)
  memory = (held_rows + num_stages * streamed) * width * sizes.itemsize
  memory += 2 * block_q * block_k * sizes.itemsize  # p and dS, as operands
  # Scores and their gradient, and one accumulated gradient at least.
  held = 2 * block_q * block_k + held_rows * sizes.head_dim
  return _gpu(memory, held, num_warps, shared_memory)


def attention_tpu(
  sizes: Attention, *, block_q: int, block_k: int, backward: bool
) -> str | None:
  """Why an attention tile cannot fit into a TPU core's VMEM, or None.

  Operands are held twice, as the next ones come in while these are used.
  """
  width = sizes.head_dim + sizes.value_dim
  operands = 2 * (block_q + block_k) * width * sizes.itemsize
  scores = (3 if backward else 2) * block_q * block_k * 4
  accumulated = (block_k if backward else block_q) * width * 4
  need = operands + scores + accumulated
  if need <= _VMEM:
    return None
  return f"{need >> 10} KiB of VMEM, {_VMEM >> 10} are there"


def _gpu(memory, held, num_warps, shared_memory) -> str | None:
  if memory > shared_memory:
    return (
      f"{memory >> 10} KiB of shared memory, {shared_memory >> 10} are there"
    )
  registers = held // (_WARP * num_warps) + _OVERHEAD
  if registers > _REGISTERS:
    return f"{registers} registers, {_REGISTERS} are there"
  return None
