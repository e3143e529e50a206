"""1-nearest-neighbour on z_q: what a classifier on tokens has to beat.

Usage: neighbours.py MODEL.safetensors TRAIN.npy TRAIN-LABELS.npy VAL.npy VAL-LABELS.npy

The arrays are what `vqlc export FILE.vqt ids.npy --labels labels.npy` writes; records of a picture's views follow each other.
"""

import sys

import numpy as np
from safetensors.numpy import load_file


def main(model, *arrays):
    codebook = load_file(model)["codebook.weight"].astype(np.float32)
    train, train_labels, val, val_labels = (np.load(path) for path in arrays)
    # One label a picture, one row a view.
    train_labels = np.repeat(train_labels, len(train) // len(train_labels))
    val_labels = np.repeat(val_labels, len(val) // len(val_labels))
    whole = [codebook[ids.reshape(len(ids), -1)] for ids in (train, val)]
    ways = {
        "whole maps": [z.reshape(len(z), -1) for z in whole],
        "means of maps": [z.mean(1) for z in whole],
        "means and deviations": [np.concatenate([z.mean(1), z.std(1)], 1) for z in whole],
    }
    for name, (a, b) in ways.items():
        distances = ((b[:, None] - a[None]) ** 2).sum(-1)
        hits = (train_labels[distances.argmin(1)] == val_labels).sum()
        print(f"{name}: {hits} of {len(b)}, {100 * hits / len(b):.1f} %")
    counts = np.bincount(val_labels)
    print(f"chance, the commonest class: {100 * counts.max() / len(val_labels):.1f} %, even: {100 / len(counts):.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
