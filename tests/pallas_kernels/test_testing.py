"""What reads compilers' outputs, on outputs made by hand."""

import collections
import struct

import pytest

from pallas_kernels.testing import (
  _riegeli,
  bounds,
  bundles,
  cases,
  hlo,
  lints,
  sass,
  targets,
)


def varint(number):
  out = bytearray()
  while number > 127:
    out.append(number & 127 | 128)
    number >>= 7
  return bytes(out + bytes([number]))


def chunk(kind, data):
  header = struct.pack("<QQQ", 0, len(data), 0) + kind
  return header.ljust(40, b"\0") + data


def record_file(*chunks):
  """Chunks in blocks of 64 KiB, each with its header of 24 bytes."""
  body = chunk(b"s", b"") + b"".join(chunks)
  room = (1 << 16) - 24
  blocks = [body[i : i + room] for i in range(0, len(body), room)]
  start = bytes.fromhex("83af70d10d884a3f") + struct.pack("<QQ", 0, 64)
  return start + (b"\xee" * 24).join(blocks)


def literal(data):
  """A snappy stream that only repeats what it is given."""
  return varint(len(data)) + b"\xf4" + struct.pack("<H", len(data) - 1) + data


def test_records_of_a_file_in_the_middle_of_something():
  # 'abc', then 5 bytes from 3 back: they reach into themselves.
  short = varint(8) + b"\x08abc" + b"\x12\x03\x00"
  data = b"s" + b"\x02\x07\x07" + varint(8) + short
  blob = b"before" + record_file(chunk(b"r", data))
  assert list(_riegeli.values(blob)) == [b"abcabcab"]


def test_records_across_blocks_and_inside_of_others():
  long = bytes(range(256)) * 200
  inner = record_file(chunk(b"r", b"\0" + b"\0" + long))
  data = b"s" + b"\0" + varint(len(inner)) + literal(inner)
  blob = record_file(chunk(b"r", b"\0\0" + b"x" * 70_000), chunk(b"r", data))
  assert list(_riegeli.values(blob)) == [b"x" * 70_000, inner, long]


def test_other_compressions_are_told():
  with pytest.raises(ValueError, match="b'z'"):
    list(_riegeli.values(record_file(chunk(b"r", b"z\0"))))


HLO = """
ENTRY %main (q: f32[8]) -> f32[8] {
  %q.1 = f32[8]{0} parameter(0), metadata={op_name="q"}
  %pallas_call.4 = bf16[2,512]{1,0} custom-call(%q.1), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(run)/transpose(jvp(attend))/pallas_call"}, backend_config={a = "%x = all-reduce("}
  %sharded.1 = (f32[8]{0:T(8,128)}, f32[8]) custom-call(%q.1), custom_call_target="tpu_custom_call", metadata={op_name="jit(run)/while/body"}, backend_config={}
  %other = f32[8]{0} custom-call(%q.1), custom_call_target="Sharding"
  %all-reduce-start.3 = f32[8]{0} all-reduce-start(%q.1), metadata={op_name="jit(run)/attention/psum"}
  %all-reduce-done.3 = f32[8]{0} all-reduce-done(%all-reduce-start.3)
  ROOT %all-gather.1 = f32[16]{0} all-gather(%all-reduce-done.3), dimensions={0}
}
"""  # noqa: E501


def test_kernels_and_collectives_of_a_program():
  first, second = hlo.kernels(HLO)
  assert (first.instruction, first.name) == ("pallas_call.4", "attend")
  assert "bf16[2,512]" in first.operands and "all-reduce" not in first.operands
  assert (second.name, second.call) == ("sharded", "tpu_custom_call")
  found = [(each.kind, each.place) for each in hlo.collectives(HLO)]
  assert found == [
    ("all-reduce", "jit(run)/attention/psum"),
    ("all-gather", ""),
  ]
  (finding,) = lints.collectives(HLO, ["attention"])
  assert "all-reduce" in finding


TABLE = """== CAPACITY:
MXU, VALU, VSTORE, VSTORE:SPILL
    2     4     1     1
== UTILIZATION:
0 4 0 0
2 1 1 1
0 0 0 1
"""


def test_bundles_are_summed_by_unit():
  kernel = bundles._parse("attend", TABLE)
  assert kernel.bundles == 3 and kernel.spills == 2
  assert kernel.used == {"MXU": 2, "VALU": 5, "VSTORE": 1, "VSTORE:SPILL": 2}
  assert kernel.share("MXU") == pytest.approx(2 / 6)
  assert kernel.share("VALU") == pytest.approx(5 / 12)


CODE = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;   /* 0x0a00ff017b82 */
                                                            /* 0x000fe2000000 */
        /*0010*/              @!P0 BRA 0x80 ;
        /*0020*/                   FADD R2, R2, R3 ;
        /*0030*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4] ;
        /*0040*/               @P1 BRA 0x30 ;
        /*0050*/              @UP2 UIADD3 UR4, UR4, 0x1, URZ ;
        /*0060*/                   BRA 0x20 ;
        /*0070*/                   EXIT ;
        /*0080*/                   BRA 0x80;
        /*0090*/                   NOP;
"""


def test_instructions_and_innermost_loops():
  kernel = sass._kernel("attend", CODE, 64, 0, 1024, 0)
  assert kernel.instructions == 9 and kernel.count("NOP") == 1
  assert kernel.count("BRA") == 4 and kernel.count("UIADD3") == 1
  assert kernel.count("HGMMA") == 1 and kernel.count("HMMA") == 0
  (loop,) = kernel.loops
  assert loop == {"HGMMA.64x64x16.F32.BF16": 1, "BRA": 1}


def gpu(stack=0, **opcodes):
  names = {"hmma": "HMMA.16816.F32.BF16", "hgmma": "HGMMA.64x64x16.F32.BF16"}
  found = {names.get(k, k.upper()): v for k, v in opcodes.items()}
  return sass.Kernel("attend", 168, stack, 0, collections.Counter(found))


def test_findings_about_gpu_kernels():
  good = gpu(hgmma=24, warpgroup=6)
  assert lints.gpu(good, "HGMMA") == lints.gpu(gpu(hmma=3), "HMMA") == []
  assert "2 LDL/STL" in lints.spills(gpu(stl=1, ldl=1))[0]
  assert "8 bytes of stack" in lints.spills(gpu(stack=8))[0]
  assert not lints.spills(gpu(stack=8, stl=1), 8)
  assert lints.spills(gpu(stack=16, stl=1), 8) and lints.spills(gpu(stl=1), 8)
  assert "1 HMMA" in lints.tensor_cores(gpu(hgmma=4, hmma=1), "HGMMA")[0]
  assert lints.tensor_cores(gpu(), "HGMMA") and not lints.tensor_cores(
    gpu(), None
  )
  assert (
    "48 WARPGROUP for 24" in lints.serialised(gpu(hgmma=24, warpgroup=48))[0]
  )


def test_figures_may_move_by_a_tenth():
  stored = dict(bundles=1000, spills=100)
  assert lints.moved("attend", dict(bundles=1090, spills=92), stored) == []
  (worse,) = lints.moved("attend", dict(bundles=1110, spills=100), stored)
  assert "more" in worse
  (better,) = lints.moved("attend", dict(bundles=890, spills=100), stored)
  assert "write it down" in better


def test_kernels_that_come_and_go():
  before = {"a": dict(bundles=10, spills=0)}
  now = {"b": dict(bundles=10, spills=0)}
  assert bounds.compare(now, before) == ["b is new", "a is gone"]
  assert bounds.unique("a", {"a", "a#2"}) == "a#3"


def test_targets():
  assert targets.get("v5e").topology(8) == "v5e:2x4"
  assert targets.get("v5p").topology(3) == "v5p:2x2x1"
  assert targets.get("h200").topology(8) == "1x1x8"
  with pytest.raises(ValueError, match="1000"):
    targets.get("v6e").topology(1000)
  with pytest.raises(ValueError, match="v5e"):
    targets.get("v9")


def test_cases_name_kernels_and_targets_that_exist():
  known = cases.everything()
  for name, target in cases.runs():
    assert target in targets.TARGETS and known[name].name == name
    runs_on = {"triton": "cuda", "mosaic_gpu": "cuda", "mosaic_tpu": "tpu"}
    assert targets.get(target).platform == runs_on[name.split("/")[1]]
