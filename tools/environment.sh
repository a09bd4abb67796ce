# Sourced by run.sh and test.sh: makes the environment .venv beside this folder, once, and sets `python` to its Python.
# PYTHON=python3.10 chooses the Python; GPU=1 installs MXNet for CUDA.

fail() {
    echo "error: $1" >&2
    exit 2
}

# The Python that PYTHON names, else the first from 3.9 to 3.13 of python3 and the versioned names.
find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11 python3.10 python3.9)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# MXNet's library wants libgomp and libquadmath, which bare systems lack. They come with scikit-learn and NumPy or SciPy
# under other names; MXNet looks for libraries in its own folder first.
borrow_libraries() {
    local packages name borrowed
    packages=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    for name in $(LC_ALL=C ldd "$packages/mxnet/libmxnet.so" 2>/dev/null | awk '/not found/ {print $1}' | sort -u); do
        borrowed=$(find "$packages" -path '*.libs/*' -name "${name%%.so*}-*.so*" | head -n 1)
        [ -z "$borrowed" ] || ln -sf "$borrowed" "$packages/mxnet/$name"
    done
}

# installed FILE...: whether the environment was made here, by the same Python from these same files.
installed() {
    wanted=$(
        pwd
        "$base" -c 'import sys; print(sys.version, sys.base_prefix)'
        cat "$@" requirements-common.txt tools/environment.sh
    )
    stamp=".venv/installed-$1"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]
}

install() {
    "$python" -m pip install -qq --disable-pip-version-check --no-deps "$@" || fail "pip could not install $*"
}

# set_up REQUIREMENTS [MORE]: make the environment of the first file, with this project, anew unless it is there, and
# add the second.
set_up() {
    local base wanted stamp
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "MXNet 1.9.1 has builds for Linux on x86-64 only"
    base=$(find_python) || fail "${PYTHON:-python3} is no Python from 3.9 to 3.13: install one, or set PYTHON to its path"
    exec 9>.venv.lock
    flock 9 # another set-up in this clone may be under way
    python=.venv/bin/python
    if ! installed "$1"; then
        echo "Setting up .venv with $("$base" --version) ..."
        "$base" -m venv --clear .venv || fail "cannot make .venv (on Debian and Ubuntu: apt-get install python3-venv)"
        install -r "$1"
        install --no-build-isolation --editable . # by the setuptools of that file
        borrow_libraries
        echo "$wanted" >"$stamp"
    fi
    if [ -n "${2:-}" ] && ! installed "$2"; then
        install -r "$2"
        echo "$wanted" >"$stamp"
    fi
    exec 9>&-
}

requirements=requirements${GPU:+-gpu}.txt
