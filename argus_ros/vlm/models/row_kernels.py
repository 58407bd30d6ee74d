"""Triton kernels for what is between the matrix products of long rows. ``elementwise.py`` launches them.

A program has one row (a token or a patch), or a part of it. It computes in float32 and rounds once.
"""

# Triton compiles these functions itself; parameter annotations mark compile-time constants.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def residual_norm(
    x_ptr, add_ptr, bias_ptr, to_ptr, gain_ptr, shift_ptr, y_ptr, eps,
    N: tl.constexpr, NP: tl.constexpr, ADD: tl.constexpr, BIAS: tl.constexpr,
    NORM: tl.constexpr, RMS: tl.constexpr,
):  # fmt: skip
    """x + add + bias, and its RMSNorm or LayerNorm, of rows (N,): grid (rows,)."""
    n = tl.arange(0, NP)
    inside = n < N
    at = tl.program_id(0).to(tl.int64) * N + n
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        add = tl.load(add_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if BIAS:
            add += tl.load(bias_ptr + n, mask=inside, other=0.0).to(tl.float32)
        rounded = (x + add).to(to_ptr.dtype.element_ty)
        tl.store(to_ptr + at, rounded, mask=inside)
        x = rounded.to(tl.float32)
    if NORM:
        gain = tl.load(gain_ptr + n, mask=inside, other=0.0).to(tl.float32)
        if RMS:
            y = x * tl.rsqrt(tl.sum(x * x, 0) / N + eps) * gain
        else:
            x = tl.where(inside, x - tl.sum(x, 0) / N, 0.0)
            y = x * tl.rsqrt(tl.sum(x * x, 0) / N + eps) * gain
            y += tl.load(shift_ptr + n, mask=inside, other=0.0).to(tl.float32)
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gelu(x_ptr, bias_ptr, N: tl.constexpr, BN: tl.constexpr, TANH: tl.constexpr):
    """GELU of x + bias in place, of rows (N,): grid (rows, blocks of N)."""
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = n < N
    at = x_ptr + tl.program_id(0).to(tl.int64) * N + n
    x = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    x += tl.load(bias_ptr + n, mask=inside, other=0.0).to(tl.float32)
    if TANH:  # (1 + tanh(u)) / 2 is the sigmoid of 2u
        y = x * tl.sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * x * x))
    else:
        y = 0.5 * x * (1.0 + tl.erf(0.7071067811865476 * x))
    tl.store(at, y.to(x_ptr.dtype.element_ty), mask=inside)


@triton.jit
def swiglu(x_ptr, y_ptr, N: tl.constexpr, BN: tl.constexpr):
    """silu(gate) * up of rows (2 N,), the gates first: grid (rows, blocks of N)."""
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = n < N
    row = tl.program_id(0).to(tl.int64)
    gate = tl.load(x_ptr + row * (2 * N) + n, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + row * (2 * N) + N + n, mask=inside, other=0.0).to(tl.float32)
    y = gate * tl.sigmoid(gate) * up
    tl.store(y_ptr + row * N + n, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def turn(
    qkv_ptr, cos_ptr, sin_ptr, place_ptr, q_ptr, keys_ptr, values_ptr, count, first, capacity,
    HEADS: tl.constexpr, KV: tl.constexpr, HD: tl.constexpr, SIDES: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """RoPE of queries and keys, (rows * count, heads + 2 kv_heads, HD); grid (rows * count,).

    Queries go to (rows, heads, count, HD); keys and values go into the cache.
    """
    token = tl.program_id(0)
    row, index = token // count, token % count
    side = tl.arange(0, SIDES)[:, None]
    j = tl.arange(0, HALF)[None, :]
    half: tl.constexpr = HD // 2
    inside = (side < HEADS + 2 * KV) & (j < half)
    at = qkv_ptr + (token.to(tl.int64) * (HEADS + 2 * KV) + side) * HD + j
    a = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(at + half, mask=inside, other=0.0).to(tl.float32)
    place = tl.load(place_ptr + token).to(tl.int32)
    turned = inside & (side < HEADS + KV)
    c1 = tl.load(cos_ptr + place * HD + j, mask=turned, other=1.0).to(tl.float32)
    c2 = tl.load(cos_ptr + place * HD + j + half, mask=turned, other=1.0).to(tl.float32)
    s1 = tl.load(sin_ptr + place * HD + j, mask=turned, other=0.0).to(tl.float32)
    s2 = tl.load(sin_ptr + place * HD + j + half, mask=turned, other=0.0).to(tl.float32)
    first_half = (a * c1 + b * s1).to(q_ptr.dtype.element_ty)
    second_half = (b * c2 + a * s2).to(q_ptr.dtype.element_ty)
    to = q_ptr + ((row.to(tl.int64) * HEADS + side) * count + index) * HD + j
    is_query = inside & (side < HEADS)
    tl.store(to, first_half, mask=is_query)
    tl.store(to + half, second_half, mask=is_query)
    line = ((first + row).to(tl.int64) * KV + (side - HEADS) % KV) * capacity + place
    is_key = turned & (side >= HEADS)
    tl.store(keys_ptr + line * HD + j, first_half, mask=is_key)
    tl.store(keys_ptr + line * HD + j + half, second_half, mask=is_key)
    is_value = inside & (side >= HEADS + KV)
    tl.store(values_ptr + line * HD + j, first_half, mask=is_value)
    tl.store(values_ptr + line * HD + j + half, second_half, mask=is_value)
