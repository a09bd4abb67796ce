#!/usr/bin/env python3
"""Classify an image with a trained net: `python predict/predict.py --img test.jpg --prefix resnet-50 --epoch 0`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mxnet_resnet.arguments import Parser, shape, whole
from mxnet_resnet.errors import run

IMAGENET_SYNSET = Path(__file__).with_name("synset.txt")
IMAGENET_CLASSES = 1000


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--img", default="test.jpg", help="the image")
    parser.add_argument("--prefix", default="resnet-50", help="the checkpoint: PREFIX-symbol.json, PREFIX-0000.params")
    parser.add_argument("--epoch", type=whole(0), default=0, help="the number in the name of the .params file")
    parser.add_argument("--synset", help="class names, a line each (predict/synset.txt for 1000 classes, else numbers)")
    parser.add_argument("--gpu", type=whole(0), help="the GPU to compute on (0 if it can serve, else the CPU)")
    parser.add_argument("--image-shape", type=shape, help="input of a net that does not tell its own: 3,224,224")
    arguments = parser.parse_args()

    from mxnet_resnet import classifier, devices, preprocess

    (context, *_), _ = devices.choose(None if arguments.gpu is None else [arguments.gpu])
    image = preprocess.read_image(arguments.img)
    net = classifier.Classifier(arguments.prefix, arguments.epoch, context, arguments.image_shape)
    if net.shape_is_assumed:
        print(f"assuming an input of {net.image_shape}: --image-shape says otherwise", file=sys.stderr)
    synset = arguments.synset or (IMAGENET_SYNSET if net.num_classes == IMAGENET_CLASSES else None)
    names = (
        classifier.read_synset(synset, net.num_classes) if synset else [f"class {i}" for i in range(net.num_classes)]
    )

    probabilities = net.probabilities([image])[0]
    best = probabilities.argsort()[::-1][:5]
    print(f"top-1: {names[best[0]]} ({probabilities[best[0]]:.2%})")
    print("top-5: " + "; ".join(f"{names[label]} ({probabilities[label]:.2%})" for label in best))


if __name__ == "__main__":
    run(main)
