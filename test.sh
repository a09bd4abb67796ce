#!/usr/bin/env bash
# Set up the environment and run the tests, a process a core; arguments go to pytest (bash test.sh -m slow). With
# ENGINE=torch it has PyTorch and MXNet, and the tests are those that need both, unless arguments name others.
set -euo pipefail
cd "$(dirname "$0")"
. tools/environment.sh
set_up "$requirements" "$test_requirements"
options=(-n auto --maxprocesses 8 --dist loadfile)
[ "$engine" != torch ] || options+=(--engine torch -o "testpaths=tests/engines/torch tests/engines/mxnet/test_agreement.py tests/train tests/use/test_convert*.py")
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$python" -m pytest "${options[@]}" "$@"
