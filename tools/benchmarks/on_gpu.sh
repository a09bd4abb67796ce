#!/usr/bin/env bash
# What to run on a GPU, in at most 8 minutes: bash tools/benchmarks/on_gpu.sh [tests] [benchmark] [profile] [seeds]
#
# Each part, of which all run unless some are named, has a time limit, and prints as it goes; what fails is told, and the
# others run. OUT (log/gpu) is where figures, checkpoints and logs go, CIFAR (data/cifar10) where the records of the real
# run are, PYTHON the Python. torch-resnet is taken from PYTHONPATH where it is not installed. A part that runs alone may
# take longer: BENCHMARK_MINUTES=6 bash tools/benchmarks/on_gpu.sh benchmark
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

python=${PYTHON:-python}
out=${OUT:-log/gpu}
cifar=${CIFAR:-data/cifar10}
benchmark_minutes=${BENCHMARK_MINUTES:-2.5}
seeds_minutes=${SEEDS_MINUTES:-1}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
failed=0

# run SECONDS COMMAND: it, and how long it took.
run() {
    local limit=$1 started=$SECONDS status
    shift
    echo "== $*"
    timeout -k 5 "$limit" "$@"
    status=$?
    echo "== status $status after $((SECONDS - started)) s"
    [ "$status" = 0 ] || failed=1
}

# seconds MINUTES: with what a command needs to end.
seconds() {
    awk "BEGIN { print int(60 * $1) + 15 }"
}

run_tests() {
    run 150 "$python" -m pytest -m gpu -q
}

run_benchmark() {
    run "$(seconds "$benchmark_minutes")" "$python" tools/benchmark.py gpu --max-minutes "$benchmark_minutes" \
        --json "$out/gpu.json" --markdown "$out/gpu.md"
}

# profile SECONDS NET
profile() {
    run "$1" "$python" tools/benchmark.py profile --net "$2" --json "$out/profile-${2/:/-}.json"
}

run_profile() {
    profile 30 20:128
    profile 55 50:256 # PyTorch compiles it for most of that
    profile 35 164:128
}

run_seeds() {
    if [ ! -f "$cifar/cifar10_train.rec" ]; then
        echo "== left out: the real run, for there is no $cifar/cifar10_train.rec; tools/cifar2rec.py makes it"
        return
    fi
    run "$(seconds "$seeds_minutes")" "$python" train_resnet.py --recipe cifar10-preact_resnet20-torch --data-dir "$cifar" \
        --engine torch --gpus 0 --dtype bfloat16 --seeds 111,222,333,444,555 --max-minutes "$seeds_minutes" \
        --model-prefix "$out/model/preact_resnet20" --log-dir "$out/log"
}

[ $# -gt 0 ] || set -- tests benchmark profile seeds
for part in "$@"; do
    if ! declare -F "run_$part" >/dev/null; then
        echo "error: there is no part $part: tests, benchmark, profile, seeds" >&2
        exit 2
    fi
done
mkdir -p "$out" || exit 2
for part in "$@"; do
    "run_$part"
done
exit $failed
