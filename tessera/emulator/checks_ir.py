"""Memory accesses of kernels compiled with checks, in LLVM IR: from addresses to host addresses.

`touch_<space>_<access>_<bytes>_<shift>_<besides>` checks where each lane's access goes, whether it may, and
records it. Lanes that may not go where they want are sent to a place of zeros, or to one that nobody reads.
`shift`: how far apart the words of shadow memory lie, against the pieces of memory that they are for.
"""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

from tessera.emulator import shadow_global_ir, shadow_shared_ir
from tessera.emulator.bounds_ir import ARGUMENTS, V64
from tessera.emulator.emit_ir import IOTA, Value, constant
from tessera.emulator.ir_forms import expand
from tessera.emulator.layout import SITE_BYTES, SITES
from tessera.emulator.shadow_ir import MEMORY, UNWRITTEN, V32, Helper, argument
from tessera.emulator.table_search_ir import search_table

WINDOWS = {"shared": 0x7E, "local": 0x7F}
_INTENT = {"read": "nowhere", "look": "nowhere"}
"""Where accesses go that may not go where they want: the others to `sink`."""
MARKED = 0x01
"""A byte that was written."""
FENCED = 0x80
"""A byte of local memory that belongs to no variable."""

SEARCH = expand(
    f"""
; Finds the array that holds an access, and keeps it for the place in the code: first address, count of good
; addresses, and where its shadow lies. False: none does.
define internal i1 @seek(ptr %ctx, ptr %blk, i32 %site, i64 %a, i64 %size) noinline cold {{
  %most = sub i64 %size, 1
  %table_int = get ctx.table
  %table = inttoptr i64 %table_int to ptr
  %count = get ctx.table_count
  br label %search
{search_table(after="0", words=4, found="keep")}
keep:
  %sites = getelementptr i8, ptr %blk, i64 {SITES}
  %skip = mul i32 %site, {SITE_BYTES}
  %cache = getelementptr i8, ptr %sites, i32 %skip
  store i64 %start, ptr %cache
  %c1 = getelementptr i64, ptr %cache, i32 1
  store i64 %end, ptr %c1
  %records_at = getelementptr i64, ptr %own, i32 2
  %records = load i64, ptr %records_at
  %c2 = getelementptr i64, ptr %cache, i32 2
  store i64 %records, ptr %c2
  %marks_at = getelementptr i64, ptr %own, i32 3
  %marks = load i64, ptr %marks_at
  %c3 = getelementptr i64, ptr %cache, i32 3
  store i64 %marks, ptr %c3
  ret i1 true
outside:
  ret i1 false
}}
""",
    {},
)


def touch(name: str, space: str, access: str, size_text: str, shift_text: str, besides: str) -> str:
    """Host addresses of an access of `size` bytes per lane."""
    size, shift = int(size_text), int(shift_text)
    if space == "generic":
        return _touch_generic(name, access, size, shift, besides)
    makers = {"global": _touch_global, "shared": _touch_shared, "local": _touch_local}
    return makers[space](name, access, size, shift, besides)


def _head(name: str) -> str:
    return f"{V64} @{name}({ARGUMENTS}, {V64} %a)"


def _misplaced(h: Helper, size: int) -> Value:
    odd = h.binary("and", argument("a", 64), constant(size - 1, 64))
    return h.compare("ne", odd, constant(0, 64))


def _aside(h: Helper, access: str, hosts: Value, lanes: str) -> Value:
    """The addresses, those of lanes that may not go there replaced."""
    other = h.get(f"ctx.{_INTENT.get(access, 'sink')}")
    return h.select(h.lane_predicate(lanes), other, hosts)


def pieces_of(size: int, shift: int, word: int) -> int:
    """Words of shadow memory for an access: words of `word` bytes lie `1 << shift` times as far apart."""
    return max(size * (1 << shift) // word, 1)


def mark(name: str, space: str, access: str, besides: str = "0") -> str:
    """`mark_<space>_<access>`: one piece per lane (see `shadow_shared_ir` and `shadow_global_ir`)."""
    if space == "global":
        return shadow_global_ir.mark(name, access)
    return shadow_shared_ir.mark(name, access, besides)


# -- device memory ------------------------------------------------------------------------------


def _touch_global(name: str, access: str, size: int, shift: int, _besides: str) -> str:
    """Arrays one after the other: nearly always all lanes are in the one that was hit last."""
    h = Helper()
    address = argument("a", 64)
    h.raw(f"  %sites = getelementptr i8, ptr %blk, i64 {SITES}")
    h.raw(f"  %skip = mul i32 %site, {SITE_BYTES}")
    h.raw("  %cache = getelementptr i8, ptr %sites, i32 %skip")
    crooked = h.among(_misplaced(h, size), "%mask")
    straight = h.without("%mask", crooked)
    h.raw("  br label %next")
    h.part("next")
    h.raw(f"  %rest = phi i32 [ {straight}, %0 ], [ %left, %checked ], [ %rest, %again ], [ %fewer, %lost ]")
    h.raw(f"  %bad = phi i32 [ {crooked}, %0 ], [ %bad, %checked ], [ %bad, %again ], [ %more, %lost ]")
    h.branch(h.let("icmp eq i32 %rest, 0"), "done", "look")
    h.part("look")
    fields = []
    for k in range(4):
        place = h.let(f"getelementptr i64, ptr %cache, i32 {k}")
        fields.append(Value(h.let(f"load i64, ptr {place}"), 64, vector=False))
    low, end, records, marks = fields
    here = h.among(h.compare("ult", h.binary("sub", address, low), end), "%rest")
    h.branch(h.let(f"icmp eq i32 {here}, 0"), "miss", "hit")
    h.part("hit")
    h.raw(f"  %left = xor i32 %rest, {here}")
    h.raw(
        f"  call void @inside_{access}_{size}_{shift}(ptr %blk, ptr %warp, i32 %site, {V64} %a, i32 {here}, "
        f"i64 {records.text}, i64 {marks.text})"
    )
    h.raw("  br label %checked")
    h.part("checked")
    h.raw("  br label %next")
    h.part("miss")
    lane = h.let("call i32 @llvm.cttz.i32(i32 %rest, i1 true)")
    one = h.let(f"extractelement {V64} %a, i32 {lane}")
    h.raw(f"  %found = call i1 @seek(ptr %ctx, ptr %blk, i32 %site, i64 {one}, i64 {size})")
    h.branch("%found", "again", "lost")
    h.part("again")
    h.raw("  br label %next")
    h.part("lost")
    bit = h.let(f"shl i32 1, {lane}")
    h.raw(f"  %fewer = xor i32 %rest, {bit}")
    h.raw(f"  %more = or i32 %bad, {bit}")
    h.raw("  br label %next")
    h.part("done")
    h.branch(h.let("icmp eq i32 %bad, 0"), "fine", "aside")
    h.part("fine")
    h.raw(f"  ret {V64} %a")
    h.part("aside")
    h.note(MEMORY, "%bad")
    h.raw(f"  ret {V64} {_aside(h, access, address, '%bad').text}")
    return h.define(_head(name))


def inside(name: str, access: str, size_text: str, shift_text: str) -> str:
    """`inside_<access>_<bytes>_<shift>`: an access inside one array: is it written, and in order."""
    size, shift = int(size_text), int(shift_text)
    h = Helper()
    address, records = argument("a", 64), Value("%records", 64, vector=False)
    marks = h.binary("add", address, Value("%marks", 64, vector=False))
    h.branch(h.let("icmp eq i64 %marks, 0"), "written", "holes")
    h.part("holes")
    _marks(h, access, size, marks, "%mask")
    h.raw("  br label %written")
    h.part("written")
    if access not in ("look", "set"):
        h.branch(h.let("icmp eq i64 %records, 0"), "end", "race")
        h.part("race")
        words = h.binary("add", h.binary("shl", address, constant(shift, 64)), records)
        for k in range(pieces_of(size, shift, 8)):
            place = h.offset(words, 8 * k)
            h.raw(
                f"  call void @mark_global_{access}(ptr %blk, ptr %warp, i32 %site, {V64} {place.text}, i32 %mask)"
            )
        h.raw("  br label %end")
        h.part("end")
    h.raw("  ret void")
    return h.define(
        f"void @{name}(ptr %blk, ptr %warp, i32 %site, {V64} %a, i32 %mask, i64 %records, i64 %marks)"
    )


def _marks(h: Helper, access: str, size: int, marks: Value, mask: str) -> None:
    """One byte per byte of memory: whether it was written."""
    step = min(size, 8)
    every = int.from_bytes(bytes([MARKED]) * step, "little")
    if access in ("read", "atomic", "look"):
        holes = "0"
        for k in range(size // step):
            found = h.load(8 * step, h.offset(marks, k * step), mask)
            hole = h.among(h.compare("ne", found, constant(every, 8 * step)), mask)
            holes = h.let(f"or i32 {holes}, {hole}", "m")
        h.note_if(UNWRITTEN, holes)
    if access in ("write", "atomic", "set"):
        for k in range(size // step):
            h.store(h.offset(marks, k * step), mask, constant(every, 8 * step))


# -- shared memory ------------------------------------------------------------------------------


def _touch_shared(name: str, access: str, size: int, shift: int, besides: str) -> str:
    h = Helper()
    address = argument("a", 64)
    total = h.get("ctx.shared_bytes").text
    end = Value(h.let(f"call i64 @llvm.usub.sat.i64(i64 {total}, i64 {size - 1})"), 64, vector=False)
    outside = h.binary("or", h.compare("uge", address, end), _misplaced(h, size))
    bad = h.among(outside, "%mask")
    mask = h.without("%mask", bad)
    words = h.binary("shl", address, constant(shift, 64))
    gaps = "0"
    for k in range(pieces_of(size, shift, 4)):
        gap = h.let(
            f"call i32 @mark_shared_{access}_{besides}(ptr %blk, ptr %warp, i32 %site, "
            f"{V64} {h.offset(words, 4 * k).text}, i32 {mask})"
        )
        gaps = h.let(f"or i32 {gaps}, {gap}", "m")
    hosts = h.binary("add", address, h.get("blk.shared"))
    lost = h.let(f"or i32 {gaps}, {bad}", "m")
    h.branch(h.let(f"icmp eq i32 {lost}, 0"), "fine", "aside")
    h.part("fine")
    h.raw(f"  ret {V64} {hosts.text}")
    h.part("aside")
    h.note(MEMORY, lost)
    h.raw(f"  ret {V64} {_aside(h, access, hosts, lost).text}")
    return h.define(_head(name))


# -- local memory -------------------------------------------------------------------------------


def _touch_local(name: str, access: str, size: int, shift: int, _besides: str) -> str:
    """`shift`: of the bytes of an element; each element that is read must have been written, in part at least.

    Copies of structures take the holes between their fields along.
    """
    h = Helper()
    address = argument("a", 64)
    own = h.get("ctx.local_bytes")
    end = Value(h.let(f"call i64 @llvm.usub.sat.i64(i64 {own.text}, i64 {size - 1})"), 64, vector=False)
    outside = h.binary("or", h.compare("uge", address, end), _misplaced(h, size))
    bad = h.among(outside, "%mask")
    mask = h.without("%mask", bad)
    lanes = Value(h.let(f"zext {V32} {IOTA} to {V64}"), 64, vector=True)
    start = h.binary("add", h.binary("mul", lanes, own), h.get("warp.local"))
    hosts = h.binary("add", start, address)
    marks = h.binary("add", hosts, h.get("blk.local_marks"))
    step = min(size, 8, 1 << shift)
    fence = int.from_bytes(bytes([FENCED]) * step, "little")
    every = int.from_bytes(bytes([MARKED]) * step, "little")
    unknown, fenced = "0", "0"
    for k in range(size // step):
        found = h.load(8 * step, h.offset(marks, k * step), mask)
        crossed = h.compare("ne", h.binary("and", found, constant(fence, 8 * step)), constant(0, 8 * step))
        fenced = h.let(f"or i32 {fenced}, {h.among(crossed, mask)}", "m")
        hole = h.compare("eq", found, constant(0, 8 * step))
        unknown = h.let(f"or i32 {unknown}, {h.among(hole, mask)}", "m")
    kept = h.without(mask, fenced)
    if access in ("read", "atomic", "look"):
        h.note_if(UNWRITTEN, h.let(f"and i32 {kept}, {unknown}", "m"))
    if access not in ("read", "look"):
        for k in range(size // step):
            h.store(h.offset(marks, k * step), kept, constant(every, 8 * step))
    lost = h.let(f"or i32 {bad}, {fenced}", "m")
    h.branch(h.let(f"icmp eq i32 {lost}, 0"), "fine", "aside")
    h.part("fine")
    h.raw(f"  ret {V64} {hosts.text}")
    h.part("aside")
    h.note(MEMORY, lost)
    h.raw(f"  ret {V64} {_aside(h, access, hosts, lost).text}")
    return h.define(_head(name))


# -- generic addresses --------------------------------------------------------------------------


def _touch_generic(name: str, access: str, size: int, shift: int, besides: str) -> str:
    """Lanes by the state space that their address lies in. `shift`: of device memory, 8 × of shared, 64 × of local."""
    h = Helper()
    address = argument("a", 64)
    top = h.binary("lshr", address, constant(56, 64))
    offset = h.binary("and", address, constant((1 << 56) - 1, 64))
    masks = {s: h.among(h.compare("eq", top, constant(w, 64)), "%mask") for s, w in WINDOWS.items()}
    away = h.let(f"or i32 {masks['shared']}, {masks['local']}", "m")
    masks["global"] = h.without("%mask", away)
    shifts = {"global": shift % 8, "shared": shift // 8 % 8, "local": shift // 64}
    hosts, before = "zeroinitializer", "0"
    for space in ("global", "shared", "local"):
        given = address if space == "global" else offset
        h.branch(h.let(f"icmp eq i32 {masks[space]}, 0"), f"{space}.past", f"{space}.some")
        h.part(f"{space}.some")
        found = h.let(
            f"call {V64} @touch_{space}_{access}_{size}_{shifts[space]}_{besides}(ptr %ctx, ptr %blk, ptr %warp, "
            f"i32 %site, i32 {masks[space]}, {given.type} {given.text})"
        )
        lanes = h.lane_predicate(masks[space])
        mixed = h.select(lanes, Value(found, 64, vector=True), Value(hosts, 64, vector=True))
        h.raw(f"  br label %{space}.past")
        h.part(f"{space}.past")
        hosts = h.let(f"phi {V64} [ {hosts}, %{before} ], [ {mixed.text}, %{space}.some ]")
        before = f"{space}.past"
    h.raw(f"  ret {V64} {hosts}")
    return h.define(_head(name))
