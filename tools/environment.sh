# Sourced by run.sh and test.sh: makes an environment beside this folder, once, and sets `python` to its Python.
# ENGINE=torch takes PyTorch in place of MXNet, and .venv-torch in place of .venv; GPU=1 takes MXNet for CUDA;
# PYTHON=python3.10 chooses the Python; NEWEST=1 takes, in .venv-newest, the newest of all that pyproject.toml asks for.

fail() {
    echo "error: $1" >&2
    exit 2
}

engine=${ENGINE:-mxnet}
case $engine in
    mxnet)
        environment=.venv
        requirements=requirements${GPU:+-gpu}.txt
        test_requirements=requirements-dev.txt
        ;;
    torch)
        environment=.venv-torch
        requirements=requirements-torch.txt
        test_requirements=requirements-torch-dev.txt
        ;;
    *) fail "there is no ENGINE=$engine: take mxnet or torch" ;;
esac
if [ -n "${NEWEST:-}" ]; then
    [ "$engine${GPU:-}" = mxnet ] || fail "NEWEST=1 is for MXNet on the CPU"
    environment=.venv-newest
    requirements=requirements-newest.txt
    test_requirements=
fi

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
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    for name in $(LC_ALL=C ldd "$packages/mxnet/libmxnet.so" 2>/dev/null | awk '/not found/ {print $1}' | sort -u); do
        borrowed=$(find "$packages" -path '*.libs/*' -name "${name%%.so*}-*.so*" | head -n 1)
        [ -z "$borrowed" ] || ln -sf "$borrowed" "$packages/mxnet/$name"
    done
}

# show FILE: its content, and that of the files it names.
show() {
    local included
    cat "$1"
    for included in $(sed -n 's/^-[rc] //p' "$1"); do
        show "$included"
    done
}

# installed FILE: whether the environment has it, by this clone, the same Python and the same content; the newest today.
installed() {
    wanted=$(
        pwd
        [ -z "${NEWEST:-}" ] || date +%F
        "$base" -c 'import sys; print(sys.version, sys.base_prefix)'
        show "$1"
        cat tools/environment.sh
    )
    stamp=$environment/installed-$1
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]
}

install() {
    "$python" -m pip install -qq --disable-pip-version-check "$@" || fail "pip could not install $*"
}

# install_file FILE: its list, which is complete, but for what torch brings along.
install_file() {
    case $1 in
        requirements-torch.txt) install -r "$1" ;;
        requirements-newest.txt)
            install -r "$1"
            install --no-deps mxnet==1.9.1
            ;;
        *) install --no-deps -r "$1" ;;
    esac
    borrow_libraries
}

# The builds that the registry has of the pinned MXNet and PyTorch.
check_system() {
    case "$engine${GPU:+-gpu} $(uname -sm)" in
        *" Linux x86_64" | "mxnet Linux aarch64" | "mxnet Darwin x86_64" | "torch Linux aarch64" | "torch Darwin arm64") ;;
        mxnet-gpu*) fail "mxnet-cu112 1.9.1 has a build for Linux on x86-64 only" ;;
        mxnet*" Linux "* | mxnet*" Darwin "*)
            fail "MXNet 1.9.1 has builds for Linux on x86-64 and aarch64 and macOS on x86-64: ENGINE=torch takes PyTorch"
            ;;
        torch*" Linux "* | torch*" Darwin "*)
            fail "PyTorch has builds for Linux on x86-64 and aarch64 and macOS on arm64: ENGINE=mxnet takes MXNet"
            ;;
        *) fail "this sets up on Linux and macOS; elsewhere pip install . has what needs no engine" ;;
    esac
}

# set_up REQUIREMENTS [MORE]: make the environment of the first file, with this project, anew unless it is there, and
# add the second.
set_up() {
    local base wanted stamp
    check_system
    base=$(find_python) || fail "${PYTHON:-python3} is no Python from 3.9 to 3.13: install one, or set PYTHON to its path"
    exec 9>"$environment.lock"
    "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' # another set-up in this clone may be under way
    python=$environment/bin/python
    if ! installed "$1"; then
        echo "Setting up $environment with $("$base" --version) ..."
        "$base" -m venv --clear "$environment" ||
            fail "cannot make $environment (on Debian and Ubuntu: apt-get install python3-venv)"
        install_file "$1"
        install --no-deps --no-build-isolation --editable . # by the setuptools of that file
        echo "$wanted" >"$stamp"
    fi
    if [ -n "${2:-}" ] && ! installed "$2"; then
        install_file "$2"
        echo "$wanted" >"$stamp"
    fi
    exec 9>&-
}
