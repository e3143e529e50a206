#!/usr/bin/env python3
"""What encode and decode of a 256 x 256 picture cost at least on a GPU, in bf16 with channels last.

    benches/gpu_floor.py [--ch 128] [--tflops 989] [--tbytes 4.8]      # defaults: an H200's dense bf16 products, and its memory

Counts the multiply-adds of the paper's f16 network, and the bytes that our passes read and write when no pass finds anything in a cache.
Weights are left out: a batch shares them. The nearest entry is left out too.
"""

import argparse

MULT = [1, 1, 2, 2, 4]
BLOCKS = 2
SIDE = 256
Z = 256
DIM = 8


class Count:
    def __init__(self):
        self.products = 0
        self.numbers = {}

    def move(self, what, numbers):
        self.numbers[what] = self.numbers.get(what, 0) + numbers

    def conv(self, inputs, outputs, kernel, side, stride=1, bias=True):
        out = (side // stride) ** 2
        self.products += inputs * outputs * kernel * kernel * out
        self.move("convolutions", inputs * side * side + outputs * out)
        if bias:
            self.move("biases", 2 * outputs * out)

    def norm(self, channels, side):
        self.move("norms", 3 * channels * side * side)

    def block(self, inputs, outputs, side):
        area = side * side
        self.norm(inputs, side)
        self.conv(inputs, outputs, 3, side, bias=False)
        self.norm(outputs, side)
        self.conv(outputs, outputs, 3, side, bias=False)
        self.move("biases", 3 * outputs * area)
        if inputs != outputs:
            self.conv(inputs, outputs, 1, side)

    def attention(self, channels, side):
        area = side * side
        self.norm(channels, side)
        for _ in range(4):
            self.conv(channels, channels, 1, side)
        self.products += 2 * area * area * channels
        self.move("attention", 8 * channels * area + 6 * area * area)

    def middle(self, channels, side):
        self.block(channels, channels, side)
        self.attention(channels, side)
        self.block(channels, channels, side)


def encode(ch):
    count, channels, side = Count(), ch, SIDE
    count.conv(8, ch, 3, side)
    for level, mult in enumerate(MULT):
        for _ in range(BLOCKS):
            count.block(channels, ch * mult, side)
            channels = ch * mult
            if level == len(MULT) - 1:
                count.attention(channels, side)
        if level < len(MULT) - 1:
            # 3x3 with a row and a column of zeros before it, in place of zeros after the map.
            count.conv(channels, channels, 4, side, stride=2)
            side //= 2
    count.middle(channels, side)
    count.norm(channels, side)
    count.conv(channels, Z, 3, side)
    count.conv(Z, DIM, 1, side)
    return count


def decode(ch):
    count, channels, side = Count(), ch * MULT[-1], SIDE >> (len(MULT) - 1)
    count.conv(DIM, Z, 1, side)
    count.conv(Z, channels, 3, side)
    count.middle(channels, side)
    for level, mult in reversed(list(enumerate(MULT))):
        for _ in range(BLOCKS + 1):
            count.block(channels, ch * mult, side)
            channels = ch * mult
            if level == len(MULT) - 1:
                count.attention(channels, side)
        if level:
            count.move("resizing", 5 * channels * side * side)
            side *= 2
            count.conv(channels, channels, 3, side)
    count.norm(channels, side)
    count.conv(channels, 8, 3, side)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ch", type=int, default=128)
    parser.add_argument("--tflops", type=float, default=989.0)
    parser.add_argument("--tbytes", type=float, default=4.8)
    arguments = parser.parse_args()
    for name, count in (("encode", encode(arguments.ch)), ("decode", decode(arguments.ch))):
        numbers = sum(count.numbers.values())
        by_products = 2e3 * count.products / (arguments.tflops * 1e12)
        by_bytes = 2e3 * numbers / (arguments.tbytes * 1e12)
        shares = ", ".join(f"{what} {100 * moved / numbers:.0f} %" for what, moved in count.numbers.items())
        print(f"{name}, ch {arguments.ch}: {count.products / 1e9:.1f} G multiply-adds, {2 * numbers / 1e9:.2f} GB ({shares})")
        print(f"    {by_products:.3f} ms by products, {by_bytes:.3f} ms by bytes; at most {1e3 / (by_products + by_bytes):.0f} to "
              f"{1e3 / max(by_products, by_bytes):.0f} pictures/s: one after the other, or one behind the other")


main()
