"""Triton kernels of a decode step: few tokens, every matrix is read once. ``fused.py`` launches them.

Memory bandwidth limits a step of few tokens, if nothing else waits. So a kernel does everything between two
matrices, a block first requests its whole part of a matrix, and, where the GPU can launch a kernel before the
previous one has ended (PDL), it does so before its input is ready. Where a sum is split, the block that ends
last adds the parts, always in the same order. Products of one token are sums, those of more tokens use the
tensor cores.

Shapes: ``M`` tokens are ``count`` tokens of each row, padded to ``MP``. Matrices are (out, in). In all of
them ``K`` is the length of the sum, processed ``BK`` at a time, and ``BN`` is the number of a block's
columns.
"""

# Triton compiles these functions itself; parameter annotations mark compile-time constants.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl

#: Triton's interpreter on the CPU cannot multiply bfloat16.
WIDEN = tl.constexpr(bool(triton.knobs.runtime.interpret))
#: States and registers of ``grammar.py`` and ``loop.py``; ``fused.py`` checks that they agree.
BIG = tl.constexpr(1 << 30)
#: Arguments that differ from pass to pass; Triton does not recompile a kernel for their values.
NUMBERS = "M", "count", "first", "columns"


def _kernel(function):
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return triton.jit(do_not_specialize=[name for name in NUMBERS if name in names])(function)


@triton.jit
def _begin(PDL: tl.constexpr):
    """Allow the next kernel to be launched: its first loads do not depend on this one."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _wait(PDL: tl.constexpr):
    """Wait until all previous kernels have written their results."""
    if PDL:
        tl.extra.cuda.gdc_wait()


@triton.jit
def _times(x, w, acc, MP: tl.constexpr):
    """The product of (MP, BK) and (BN, BK), added to (MP, BN) float32."""
    if MP == 1:
        acc += tl.sum(x.to(tl.float32) * w.to(tl.float32), 1)[None, :]
    elif WIDEN:
        acc = tl.dot(x.to(tl.float32), tl.trans(w.to(tl.float32)), acc, input_precision="ieee")
    else:
        acc = tl.dot(x, tl.trans(w), acc, input_precision="ieee")
    return acc


@triton.jit
def _tile(w_ptr, n, ok, k0, end, K: tl.constexpr, BK: tl.constexpr):
    """Rows ``n`` of a matrix of ``K`` columns, (BN, BK) from column ``k0`` on, zero from ``end`` on."""
    k = k0 + tl.arange(0, BK)
    return tl.load(w_ptr + n[:, None] * K + k[None, :], mask=ok[:, None] & (k < end)[None, :], other=0.0)


@triton.jit
def _inverse_rms(x_ptr, m, ok, eps, K: tl.constexpr, BK: tl.constexpr, MP: tl.constexpr):
    """The factor that gives each of the rows ``m`` a mean square of one, (MP,)."""
    squares = tl.zeros((MP,), tl.float32)
    for k0 in range(0, K, BK):
        x = _tile(x_ptr, m, ok, k0, K, K, BK).to(tl.float32)
        squares += tl.sum(x * x, 1)
    return tl.rsqrt(squares / K + eps)


@triton.jit
def _normed(x_ptr, norm_ptr, scale, m, ok, k0, K: tl.constexpr, BK: tl.constexpr):
    """Rows ``m`` after RMSNorm, (MP, BK) in the model's dtype."""
    k = k0 + tl.arange(0, BK)
    x = _tile(x_ptr, m, ok, k0, K, K, BK).to(tl.float32) * scale[:, None]
    gain = tl.load(norm_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    return (x * gain[None, :]).to(x_ptr.dtype.element_ty)


@_kernel
def qkv(
    x_ptr, norm_ptr, w_ptr, bias_ptr, cos_ptr, sin_ptr, place_ptr, q_ptr, keys_ptr, values_ptr,
    M, count, first, capacity, eps, K: tl.constexpr, HEADS: tl.constexpr, KV: tl.constexpr,
    HD: tl.constexpr, MP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """RMSNorm, query, key and value with bias, RoPE, and writing keys and values to the cache.

    A block has ``BN`` numbers of a head's first half, and those of its second half that RoPE rotates them
    with: grid (heads + 2 kv_heads, blocks of half a head).
    """
    half: tl.constexpr = HD // 2
    head = tl.program_id(0)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = j < half
    n1 = head * HD + j
    n2 = n1 + half
    _begin(PDL)
    w1 = _tile(w_ptr, n1, inside, 0, K, K, BK)
    w2 = _tile(w_ptr, n2, inside, 0, K, K, BK)
    bias1 = tl.load(bias_ptr + n1, mask=inside, other=0.0).to(tl.float32)
    bias2 = tl.load(bias_ptr + n2, mask=inside, other=0.0).to(tl.float32)
    _wait(PDL)
    m = tl.arange(0, MP)
    ok = m < M
    scale = _inverse_rms(x_ptr, m, ok, eps, K, BK, MP)
    a1 = tl.zeros((MP, BN), tl.float32)
    a2 = tl.zeros((MP, BN), tl.float32)
    for k0 in range(0, K, BK):
        x = _normed(x_ptr, norm_ptr, scale, m, ok, k0, K, BK)
        a1 = _times(x, w1, a1, MP)
        a2 = _times(x, w2, a2, MP)
        w1 = _tile(w_ptr, n1, inside, k0 + BK, K, K, BK)
        w2 = _tile(w_ptr, n2, inside, k0 + BK, K, K, BK)
    dtype = q_ptr.dtype.element_ty
    a1 = (a1 + bias1[None, :]).to(dtype).to(tl.float32)
    a2 = (a2 + bias2[None, :]).to(dtype).to(tl.float32)
    place = tl.load(place_ptr + m, mask=ok, other=0).to(tl.int32)
    both = ok[:, None] & inside[None, :]
    if head < HEADS + KV:
        at = place[:, None] * HD + j[None, :]
        c1 = tl.load(cos_ptr + at, mask=both, other=0.0).to(tl.float32)
        c2 = tl.load(cos_ptr + at + half, mask=both, other=0.0).to(tl.float32)
        s1 = tl.load(sin_ptr + at, mask=both, other=0.0).to(tl.float32)
        s2 = tl.load(sin_ptr + at + half, mask=both, other=0.0).to(tl.float32)
        turned = a1 * c1 + a2 * s1
        a2 = a2 * c2 + a1 * s2
        a1 = turned
    if head < HEADS:
        to = q_ptr + m[:, None] * (HEADS * HD) + n1[None, :]
        tl.store(to, a1.to(dtype), mask=both)
        tl.store(to + half, a2.to(dtype), mask=both)
    else:
        line = ((first + m // count) * KV + (head - HEADS) % KV) * capacity + place
        at = line[:, None] * HD + j[None, :]
        if head < HEADS + KV:
            tl.store(keys_ptr + at, a1.to(dtype), mask=both)
            tl.store(keys_ptr + at + half, a2.to(dtype), mask=both)
        else:
            tl.store(values_ptr + at, a1.to(dtype), mask=both)
            tl.store(values_ptr + at + half, a2.to(dtype), mask=both)


@_kernel
def attention(
    q_ptr, keys_ptr, values_ptr, place_ptr, out_ptr, acc_ptr, peak_ptr, sum_ptr,
    count, first, capacity, scale,
    HEADS: tl.constexpr, KV: tl.constexpr, HD: tl.constexpr, HDP: tl.constexpr, MQ: tl.constexpr,
    SPLIT: tl.constexpr, SPLITS: tl.constexpr, BS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Attention of one row and one group of heads over a part of the cache: grid (rows * kv_heads, SPLITS).

    A part has ``SPLIT`` positions, processed ``BS`` at a time; ``combine`` merges the parts. Positions after
    a row's last token are not read.
    """
    group: tl.constexpr = HEADS // KV
    pair, split = tl.program_id(0), tl.program_id(1)
    row, kv = pair // KV, pair % KV
    i = tl.arange(0, MQ)
    d = tl.arange(0, HDP)
    token = row * count + i % count
    head = kv * group + i // count
    ok = i < group * count
    both = ok[:, None] & (d < HD)[None, :]
    _begin(PDL)
    _wait(PDL)
    at = token[:, None] * (HEADS * HD) + head[:, None] * HD + d[None, :]
    q = tl.load(q_ptr + at, mask=both, other=0.0)
    place = tl.load(place_ptr + token, mask=ok, other=0).to(tl.int32)
    last = tl.max(tl.where(ok, place, 0), 0)
    base = ((first + row) * KV + kv) * capacity
    acc = tl.zeros((MQ, HDP), tl.float32)
    peak = tl.full((MQ,), -1e30, tl.float32)
    total = tl.zeros((MQ,), tl.float32)
    for s0 in range(0, SPLIT, BS):
        key = split * SPLIT + s0 + tl.arange(0, BS)
        there = (key <= last)[:, None] & (d < HD)[None, :]
        line = (base + key)[:, None] * HD + d[None, :]
        k = tl.load(keys_ptr + line, mask=there, other=0.0)
        v = tl.load(values_ptr + line, mask=there, other=0.0)
        if WIDEN:
            s = tl.dot(q.to(tl.float32), tl.trans(k.to(tl.float32)), input_precision="ieee") * scale
        else:
            s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        s = tl.where(key[None, :] <= place[:, None], s, -float("inf"))
        new = tl.maximum(peak, tl.max(s, 1))
        fade = tl.exp(peak - new)
        p = tl.exp(s - new[:, None])
        total = total * fade + tl.sum(p, 1)
        acc = acc * fade[:, None]
        if WIDEN:
            acc = tl.dot(p, v.to(tl.float32), acc, input_precision="ieee")
        else:
            acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
        peak = new
    if SPLITS > 1:
        part = (token * HEADS + head) * SPLITS + split
        tl.store(acc_ptr + part[:, None] * HDP + d[None, :], acc, mask=ok[:, None])
        tl.store(peak_ptr + part, peak, mask=ok)
        tl.store(sum_ptr + part, total, mask=ok)
    else:
        tl.store(out_ptr + at, (acc / total[:, None]).to(out_ptr.dtype.element_ty), mask=both)


@_kernel
def combine(
    acc_ptr, peak_ptr, sum_ptr, out_ptr,
    HD: tl.constexpr, HDP: tl.constexpr, SPLITS: tl.constexpr, SP: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Merge the parts of ``attention`` into one softmax: grid (tokens * heads,)."""
    query = tl.program_id(0)
    s = tl.arange(0, SP)
    d = tl.arange(0, HDP)
    there = s < SPLITS
    part = query * SPLITS + s
    _begin(PDL)
    _wait(PDL)
    peak = tl.load(peak_ptr + part, mask=there, other=-1e30)
    total = tl.load(sum_ptr + part, mask=there, other=0.0)
    acc = tl.load(acc_ptr + part[:, None] * HDP + d[None, :], mask=there[:, None], other=0.0)
    weight = tl.exp(peak - tl.max(peak, 0))
    made = tl.sum(acc * weight[:, None], 0) / tl.sum(total * weight, 0)
    tl.store(out_ptr + query * HD + d, made.to(out_ptr.dtype.element_ty), mask=d < HD)


@_kernel
def project(
    y_ptr, w_ptr, x_ptr, part_ptr, arrived_ptr, M,
    K: tl.constexpr, N: tl.constexpr, SPLITS: tl.constexpr,
    MP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """(M, K) times a matrix, added to the residual (M, N) in place: grid (blocks of N, SPLITS of K)."""
    tile, split = tl.program_id(0), tl.program_id(1)
    n = tile * BN + tl.arange(0, BN)
    inside = n < N
    span: tl.constexpr = (K + 64 * SPLITS - 1) // (64 * SPLITS) * 64
    begin = split * span
    end = tl.minimum(begin + span, K)
    _begin(PDL)
    w = _tile(w_ptr, n, inside, begin, end, K, BK)
    _wait(PDL)
    m = tl.arange(0, MP)
    ok = m < M
    both = ok[:, None] & inside[None, :]
    acc = tl.zeros((MP, BN), tl.float32)
    for k0 in range(0, span, BK):
        acc = _times(_tile(y_ptr, m, ok, begin + k0, end, K, BK), w, acc, MP)
        w = _tile(w_ptr, n, inside, begin + k0 + BK, end, K, BK)
    to = x_ptr + m[:, None] * N + n[None, :]
    if SPLITS > 1:
        at = part_ptr + m[:, None] * N + n[None, :]
        tl.store(at + split * M * N, acc, mask=both)
        tl.debug_barrier()
        if tl.atomic_add(arrived_ptr + tile, 1) == SPLITS - 1:
            acc = tl.zeros((MP, BN), tl.float32)
            for s in tl.static_range(SPLITS):
                acc += tl.load(at + s * M * N, mask=both, other=0.0, cache_modifier=".cg")
            tl.store(arrived_ptr + tile, 0)
            x = tl.load(to, mask=both, other=0.0).to(tl.float32)
            tl.store(to, (x + acc).to(x_ptr.dtype.element_ty), mask=both)
    else:
        x = tl.load(to, mask=both, other=0.0).to(tl.float32)
        tl.store(to, (x + acc).to(x_ptr.dtype.element_ty), mask=both)


@_kernel
def gate_up(
    x_ptr, norm_ptr, w_ptr, y_ptr, M, eps,
    K: tl.constexpr, N: tl.constexpr,
    MP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """RMSNorm, then silu(gate) * up; the matrix has the rows of gate, then of up. Grid (blocks of N,)."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = n < N
    _begin(PDL)
    w1 = _tile(w_ptr, n, inside, 0, K, K, BK)
    w2 = _tile(w_ptr, N + n, inside, 0, K, K, BK)
    _wait(PDL)
    m = tl.arange(0, MP)
    ok = m < M
    scale = _inverse_rms(x_ptr, m, ok, eps, K, BK, MP)
    gate = tl.zeros((MP, BN), tl.float32)
    up = tl.zeros((MP, BN), tl.float32)
    for k0 in range(0, K, BK):
        x = _normed(x_ptr, norm_ptr, scale, m, ok, k0, K, BK)
        gate = _times(x, w1, gate, MP)
        up = _times(x, w2, up, MP)
        w1 = _tile(w_ptr, n, inside, k0 + BK, K, K, BK)
        w2 = _tile(w_ptr, N + n, inside, k0 + BK, K, K, BK)
    y = gate / (1 + tl.exp(-gate)) * up
    both = ok[:, None] & inside[None, :]
    tl.store(y_ptr + m[:, None] * N + n[None, :], y.to(y_ptr.dtype.element_ty), mask=both)


@_kernel
def logits(
    x_ptr, norm_ptr, w_ptr, token_ptr, count_ptr, out_ptr, M, count, columns, eps, stride,
    K: tl.constexpr, MP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """RMSNorm of each row's last token, and its float32 logits of the grammar's tokens.

    ``count_ptr`` has each row's number of tokens, ``stride`` numbers apart. Grid (blocks of columns,).
    """
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = n < columns
    _begin(PDL)
    token = tl.load(token_ptr + n, mask=inside, other=0)
    w = _tile(w_ptr, token, inside, 0, K, K, BK)
    _wait(PDL)
    m = tl.arange(0, MP)
    ok = m < M
    last = m * count + tl.load(count_ptr + m * stride, mask=ok, other=1).to(tl.int32) - 1
    scale = _inverse_rms(x_ptr, last, ok, eps, K, BK, MP)
    acc = tl.zeros((MP, BN), tl.float32)
    for k0 in range(0, K, BK):
        acc = _times(_normed(x_ptr, norm_ptr, scale, last, ok, k0, K, BK), w, acc, MP)
        w = _tile(w_ptr, token, inside, k0 + BK, K, K, BK)
    to = out_ptr + m[:, None] * columns + n[None, :]
    tl.store(to, acc, mask=ok[:, None] & inside[None, :])


@_kernel
def choose(
    register_ptr, logit_ptr, allowed_ptr, next_ptr, chain_ptr, length_ptr, after_ptr, token_ptr,
    to_register_ptr, to_column_ptr, columns, floor, LONGEST: tl.constexpr, LP: tl.constexpr,
    SCALARS: tl.constexpr, BC: tl.constexpr, BLOCKS: tl.constexpr, PLACE: tl.constexpr, COUNT: tl.constexpr,
    STATE: tl.constexpr, LEAST_X: tl.constexpr, LEAST_Y: tl.constexpr, OBJECTS: tl.constexpr,
    MOST: tl.constexpr, LIMIT: tl.constexpr, FULL: tl.constexpr, Y_MIN: tl.constexpr, X_MAX: tl.constexpr,
    Y_MAX: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Mask logits in place, choose, and move on, as ``DeviceLoop._step`` does: grid (rows,)."""
    row = tl.program_id(0)
    width: tl.constexpr = SCALARS + LONGEST
    mine = register_ptr + row * width
    _begin(PDL)
    _wait(PDL)
    place = tl.load(mine + PLACE)
    count = tl.load(mine + COUNT)
    state = tl.load(mine + STATE)
    x_min = tl.load(mine + LEAST_X)
    y_min = tl.load(mine + LEAST_Y)
    objects = tl.load(mine + OBJECTS)
    most = tl.load(mine + MOST)
    limit = tl.load(mine + LIMIT)
    least = tl.where(state == X_MAX, x_min, tl.where(state == Y_MAX, y_min, -1))
    best = -float("inf")
    pick = 0
    broken = BIG  # the first column with a NaN logit: it is chosen, as by argmax
    for block in range(BLOCKS):
        c = block * BC + tl.arange(0, BC)
        inside = c < columns
        value = tl.load(logit_ptr + row * columns + c, mask=inside, other=0.0)
        may = (tl.load(allowed_ptr + state * columns + c, mask=inside, other=0) != 0) & (c > least)
        nan = value != value
        value = tl.where(may, tl.where(nan, value, tl.maximum(value, floor)), -float("inf"))
        tl.store(logit_ptr + row * columns + c, value, mask=inside)
        broken = tl.minimum(broken, tl.min(tl.where(may & nan, c, BIG), 0))
        value = tl.where(nan, -float("inf"), value)
        here = tl.max(value, 0)
        pick = tl.where(here > best, tl.min(tl.where(may & (value == here), c, BIG), 0), pick)
        best = tl.maximum(best, here)
    column = tl.where(broken < BIG, broken, pick).to(tl.int64)
    following = tl.load(next_ptr + state * columns + column)
    x_min = tl.where(following == Y_MIN, column, x_min)
    y_min = tl.where(state == Y_MIN, column, y_min)
    objects += (state == Y_MAX).to(tl.int64)
    following = tl.where((state == Y_MAX) & (objects >= most), FULL, following)
    j = tl.arange(0, LP)
    chained = tl.load(chain_ptr + following * (LONGEST - 1) + j - 1, mask=(j > 0) & (j < LONGEST), other=-1)
    chosen = tl.where(j == 0, column, chained)
    tl.store(to_column_ptr + row * LONGEST + j, chosen, mask=j < LONGEST)
    there = to_register_ptr + row * width
    tokens = tl.load(token_ptr + tl.maximum(chosen, 0), mask=j < LONGEST, other=0)
    tl.store(there + SCALARS + j, tokens, mask=j < LONGEST)
    tl.store(there + PLACE, tl.minimum(place + count, limit))
    tl.store(there + COUNT, 1 + tl.load(length_ptr + following))
    tl.store(there + STATE, tl.load(after_ptr + following))
    tl.store(there + LEAST_X, x_min)
    tl.store(there + LEAST_Y, y_min)
    tl.store(there + OBJECTS, objects)
    tl.store(there + MOST, most)
    tl.store(there + LIMIT, limit)
