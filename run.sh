#!/usr/bin/env bash
# Set up the environment, train ResNet-20-v2 on real handwritten digits, plot its curve and classify an image, with
# MXNet or, with ENGINE=torch, PyTorch.
set -euo pipefail
cd "$(dirname "$0")"
. tools/environment.sh
set_up "$requirements"

curve=log/resnet-digits-20/curve.png
image=data/digits/val/0021-1.png

"$python" tools/digits2rec.py --out data/digits
"$python" train_resnet.py --engine "$engine" --data-type digits --resume
result=$("$python" log/plot_curve.py --logs=log/resnet-digits-20/train.log --out="$curve")
echo "$image is"
"$python" predict/predict.py --engine "$engine" --img "$image" --synset data/digits/synset.txt \
    --prefix model/resnet-digits-20 --epoch 20
echo "Records: data/digits; checkpoints: model/resnet-digits-20-*.params; log: log/resnet-digits-20/train.log"
echo "$result"
