"""A training step of SmolLM2-135M's shape in JAX on processors: the peer of `danlu bench train --engine xla:cpu`.

usage: jax_train.py BATCH SEQ f32|bf16 [STEPS]
prints one JSON line as danlu does. A step is forward, cross-entropy, backward, clipping to norm 1 and AdamW in one jitted
function with donated state; layers are rolled by lax.scan. Needs: jax.
"""
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

H, L, HEADS, KV, HD, F, V = 576, 30, 9, 3, 64, 1536, 49152


def init(rng):
    def w(*shape):
        return jnp.asarray(rng.normal(0, 0.04, shape), jnp.float32)

    layer = dict(q=w(L, HEADS * HD, H), k=w(L, KV * HD, H), v=w(L, KV * HD, H), o=w(L, H, HEADS * HD), gate=w(L, F, H), up=w(L, F, H),
                 down=w(L, H, F), n1=jnp.ones((L, H)), n2=jnp.ones((L, H)))
    return dict(embed=w(V, H), norm=jnp.ones(H), layers=layer)


def norm(x, w):
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * w


def rope(x, cos, sin):
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def main():
    batch, seq, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 5
    compute = jnp.bfloat16 if kind == "bf16" else jnp.float32

    def dot(x, w):
        return jax.lax.dot_general(x.astype(compute), w.astype(compute), (((x.ndim - 1,), (1,)), ((), ())), preferred_element_type=jnp.float32)

    angle = np.arange(seq)[:, None] * (10000.0 ** (-np.arange(0, HD, 2) / HD))
    cos, sin = jnp.asarray(np.cos(angle), jnp.float32)[None, :, None], jnp.asarray(np.sin(angle), jnp.float32)[None, :, None]
    mask = jnp.where(jnp.tril(jnp.ones((seq, seq), bool)), 0.0, -jnp.inf)

    def loss_of(p, ids):
        x = p["embed"][ids]

        def layer(x, w):
            y = norm(x, w["n1"])
            q = rope(dot(y, w["q"]).reshape(batch, seq, HEADS, HD), cos, sin).reshape(batch, seq, KV, HEADS // KV, HD)
            k = rope(dot(y, w["k"]).reshape(batch, seq, KV, HD), cos, sin)
            v = dot(y, w["v"]).reshape(batch, seq, KV, HD)
            s = jnp.einsum("btgrk,bsgk->bgrts", q.astype(compute), k.astype(compute), preferred_element_type=jnp.float32) / HD ** 0.5 + mask
            a = jnp.einsum("bgrts,bsgk->btgrk", jax.nn.softmax(s).astype(compute), v.astype(compute), preferred_element_type=jnp.float32)
            x = x + dot(a.reshape(batch, seq, HEADS * HD), w["o"])
            y = norm(x, w["n2"])
            return x + dot(jax.nn.silu(dot(y, w["gate"])) * dot(y, w["up"]), w["down"]), None

        x, _ = jax.lax.scan(layer, x, p["layers"])
        logits = dot(norm(x, p["norm"])[:, :-1], p["embed"])
        picked = jnp.take_along_axis(logits, ids[:, 1:, None], -1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(logits, -1) - picked)

    def step(p, m, v, ids, t):
        loss, g = jax.value_and_grad(loss_of)(p, ids)
        scale = jnp.minimum(1, 1 / (jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(g))) + 1e-6))
        g = jax.tree.map(lambda x: x * scale, g)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        p = jax.tree.map(lambda p, m, v: p - 1e-4 * (m / (1 - 0.9 ** t)) / (jnp.sqrt(v / (1 - 0.999 ** t)) + 1e-8), p, m, v)
        return p, m, v, loss

    rng = np.random.default_rng(0)
    p = init(rng)
    m, v = jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)
    ids = jnp.asarray(rng.integers(0, 4000, (batch, seq)), jnp.int32)
    run = jax.jit(step, donate_argnums=(0, 1, 2))
    times = []
    for i in range(steps + 2):
        start = time.perf_counter()
        p, m, v, loss = run(p, m, v, ids, jnp.float32(i + 1))
        loss = float(loss)
        times.append(time.perf_counter() - start)
    times = times[2:]
    print(json.dumps(dict(model="smollm2-135m", batch=batch, seq=seq, dtype=kind, tokens_per_s=batch * seq / min(times), step_s=times, loss=loss, jax=jax.__version__)))


main()
