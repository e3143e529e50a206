#!/usr/bin/env python3
"""PSNR and SSIM by scikit-image, beside `vqlc eval reconstruction ORIGINALS MADE --size SIZE`.

    benches/peer_metrics.py ORIGINALS MADE [SIZE]

Both folders' pictures are cut by Pillow: short side to SIZE (bicubic), centre crop. Needs numpy, Pillow and scikit-image.
"""
import json, pathlib, sys

import numpy
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

originals, made = (pathlib.Path(folder) for folder in sys.argv[1:3])
size = int(sys.argv[3]) if len(sys.argv) > 3 else 256


def cut(path):
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    short = min(width, height)
    picture = picture.resize((width * size // short, height * size // short), Image.BICUBIC)
    # Half of the margin, rounded half to even, as torchvision does.
    left, top = (round((side - size) / 2) for side in picture.size)
    return numpy.asarray(picture.crop((left, top, left + size, top + size)))


def luma(rgb):
    return 16 + (rgb.astype(float) @ [65.481, 128.553, 24.966]) / 255


by_stem = {path.relative_to(originals).with_suffix(""): path for path in originals.rglob("*") if path.is_file()}
found = {"psnr": [], "psnr_luma": [], "ssim": []}
for path in sorted(path for path in made.rglob("*") if path.is_file()):
    a, b = cut(by_stem[path.relative_to(made).with_suffix("")]), cut(path)
    found["psnr"].append(peak_signal_noise_ratio(a, b, data_range=255))
    found["psnr_luma"].append(peak_signal_noise_ratio(luma(a), luma(b), data_range=255))
    found["ssim"].append(
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
        )
    )
print(json.dumps({"pictures": len(found["psnr"])} | {name: float(numpy.mean(values)) for name, values in found.items()}))
