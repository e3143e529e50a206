"""The paper's GPT in PyTorch, beside `vqlc train gpt --preset paper`: tokens a second, share of the GPU's peak, memory.

Usage: peer_gpt.py [--batch 64] [--steps 20] [--compile]       times PyTorch: bf16 autocast, flash attention, fused AdamW
       peer_gpt.py --rate PICTURES_A_SECOND                    says the same of a measured rate, for the other side

The head's logits are taken in parts of `--rows` rows, as nobody could hold all of them and their gradients.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

# NVIDIA H200, dense bf16.
PEAK = 989e12


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.table = nn.Embedding(a.codes + a.classes + 1, a.width)
        self.places = nn.Parameter(torch.zeros(1, a.tokens, a.width))
        self.blocks = nn.ModuleList(Block(a.width, a.heads) for _ in range(a.layers))
        self.norm = nn.LayerNorm(a.width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, tokens):
        x = self.table(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def loss_in_parts(hidden, table, targets, rows):
    part = lambda h, t: F.cross_entropy(h @ table.t(), t, reduction="sum")
    parts = zip(hidden.split(rows), targets.split(rows))
    return sum(checkpoint(part, h, t, use_reentrant=False) for h, t in parts) / len(targets)


def told(a, pictures):
    tokens = pictures * a.tokens
    # Six operations a weight and token (Kaplan et al. 2020), the head among them, and what attention multiplies.
    weights = 12 * a.layers * a.width**2 + a.codes * a.width
    flops = tokens * (6 * weights + 6 * a.layers * a.width * a.tokens)
    print(f"{pictures:.1f} pictures/s, {tokens:,.0f} tokens/s, {flops / 1e12:.0f} TFLOP/s, MFU {100 * flops / PEAK:.1f} % of an H200")


def main():
    p = argparse.ArgumentParser()
    for name, value in dict(batch=64, steps=20, layers=24, heads=16, width=1024, tokens=256, codes=100000, classes=1000, rows=2048).items():
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--device", default="cuda")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--rate", type=float)
    a = p.parse_args()
    if a.rate:
        return told(a, a.rate)
    torch.manual_seed(0)
    gpt = Gpt(a).to(a.device)
    run = torch.compile(gpt) if a.compile else gpt
    cuda = a.device.startswith("cuda")
    optimizer = torch.optim.AdamW(gpt.parameters(), 4.5e-4, (0.9, 0.95), weight_decay=0.01, fused=cuda)
    ids = torch.randint(a.codes, (a.batch, a.tokens + 1), device=a.device)

    def step():
        with torch.autocast(a.device.split(":")[0], torch.bfloat16):
            hidden = run(ids[:, :-1]).flatten(0, 1)
            loss = loss_in_parts(hidden, gpt.table.weight[: a.codes], ids[:, 1:].flatten(), a.rows)
        loss.backward()
        nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    for _ in range(3):
        step().item()
    start = time.perf_counter()
    for _ in range(a.steps):
        loss = step()
    loss.item()
    told(a, a.batch * a.steps / (time.perf_counter() - start))
    if cuda:
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, batch {a.batch}")


if __name__ == "__main__":
    main()
