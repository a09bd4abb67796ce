#!/usr/bin/env bash
# Set up the environment and run the tests; arguments go to pytest (bash test.sh -m slow).
set -euo pipefail
cd "$(dirname "$0")"
. tools/environment.sh
set_up "$requirements" requirements-dev.txt
"$python" -m pytest -n auto --maxprocesses 8 --dist loadfile "$@"
