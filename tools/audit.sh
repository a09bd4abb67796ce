#!/usr/bin/env bash
# Look for advisories on the pinned versions (pip-audit); where no source of them answers, say how old the pins are.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh
base=$(find_python) || fail "there is no Python from 3.9 to 3.13"
answers='import json, urllib.request as net
assert "vulnerabilities" in json.load(net.urlopen("https://pypi.org/pypi/pip/25.0/json", timeout=10))'
if ! "$base" -c "$answers" 2>/dev/null; then
    echo "audit: no source of advisories answers; the pins were last changed on"
    for file in requirements*.txt constraints*.txt; do
        changed=$(git log -1 --format=%cs -- "$file" 2>/dev/null) || changed=
        echo "  ${changed:-an unknown day}: $file"
    done
    exit
fi
python=.venv-audit/bin/python
[ -x $python ] || "$base" -m venv .venv-audit
install pip-audit
pins=.venv-audit/pins.txt
cat requirements-{common,mxnet,dev,onnx,tensorboard}.txt requirements{,-torch}.txt constraints-torch.txt | sed '/^-[rc] /d' | sort -u >$pins
"$python" -m pip_audit --strict --no-deps --disable-pip --progress-spinner off -r $pins # strict: what it cannot look up is an error
