#!/usr/bin/env bash
# Set up the environment and run the tests, a process a core; arguments go to pytest (bash test.sh -m slow).
set -euo pipefail
cd "$(dirname "$0")"
. tools/environment.sh
set_up "$requirements" requirements-dev.txt
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$python" -m pytest -n auto --maxprocesses 8 --dist loadfile "$@"
